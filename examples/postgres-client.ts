// Shows a client that asks for TLS in the protocol itself: a query to PostgreSQL, whose certificate is verified before a byte of it is sent.
// Run it: npm run build && node dist/examples/postgres-client.js 'select version()' [host] [port] [ca.pem] [user] [database]
// It wants a PostgreSQL with ssl = on, and takes the password from PGPASSWORD.

import { readFileSync } from 'node:fs'
import { type Connection, type TlsClientOptions, toHostAndPort, withConnection } from 'it-tcp'

interface Message {
  readonly type: string
  readonly body: Buffer
}

const SSL_REQUEST = 80_877_103
const PROTOCOL = 196_608
const YES = 'S'

/** Asks the server to go on in TLS, and checks who it is. */
async function startTls(connection: Connection, options: TlsClientOptions | true): Promise<void> {
  const { reader, writer } = connection
  writer.write(Buffer.concat([int32(8), int32(SSL_REQUEST)]))
  // A single byte: what comes behind it in clear is never taken for an answer, whoever sent it.
  const answer = await reader.readExactly(1)
  if (answer === null || String.fromCharCode(...answer) !== YES) throw new Error('The server does not offer TLS')
  await connection.startTls(options)
}

/** The rows of a query's answer, as text. */
async function query(connection: Connection, user: string, database: string, sql: string): Promise<(string | null)[][]> {
  const { writer } = connection
  const parameters = Buffer.from(`user\0${user}\0database\0${database}\0\0`)
  writer.write(Buffer.concat([int32(parameters.length + 8), int32(PROTOCOL), parameters]))
  await untilReady(connection)
  writer.write(message('Q', `${sql}\0`))
  const rows = await untilReady(connection)
  writer.write(message('X', ''))
  return rows
}

/** Reads until the server waits for the next query. */
async function untilReady(connection: Connection): Promise<(string | null)[][]> {
  const rows: (string | null)[][] = []
  for (;;) {
    const { type, body } = await readMessage(connection)
    if (type === 'Z') return rows
    if (type === 'D') rows.push(columnsOf(body))
    if (type === 'E') throw new Error(errorOf(body))
    if (type === 'R') authenticate(connection, body.readInt32BE(0))
  }
}

function authenticate({ writer }: Connection, method: number): void {
  if (method === 0) return
  // Nobody else can read it: the server has proved who it is.
  if (method === 3) writer.write(message('p', `${process.env.PGPASSWORD ?? ''}\0`))
  else throw new Error(`The server wants a kind of authentication that this example does not have: ${method}`)
}

async function readMessage({ reader }: Connection): Promise<Message> {
  const head = await reader.readExactly(5)
  if (head === null) throw new Error('The server has closed the connection')
  const { buffer, byteOffset } = head
  const length = new DataView(buffer, byteOffset).getInt32(1) - 4
  const body = length === 0 ? new Uint8Array() : await reader.readExactly(length)
  if (body === null) throw new Error('The server has closed the connection')
  return { type: String.fromCharCode(head[0] as number), body: Buffer.from(body) }
}

function columnsOf(body: Buffer): (string | null)[] {
  let at = 2
  return Array.from({ length: body.readInt16BE(0) }, () => {
    const length = body.readInt32BE(at)
    at += 4
    if (length < 0) return null
    at += length
    return body.toString('utf8', at - length, at)
  })
}

/** What the server says is wrong, of the fields of its message. */
function errorOf(body: Buffer): string {
  const fields = body.toString('utf8').split('\0')
  return fields.find((field) => field.startsWith('M'))?.slice(1) ?? 'The server has refused'
}

function message(type: string, text: string): Buffer {
  const body = Buffer.from(text)
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body])
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

const [sql = 'select version()', host = 'localhost', port = '5432', ca, user = 'postgres', database = user] = process.argv.slice(2)
try {
  const rows = await withConnection(toHostAndPort(host, Number(port)), { timeout: 10_000 }, async (connection) => {
    // The host dialled is the name that is verified.
    await startTls(connection, ca === undefined ? true : { ca: readFileSync(ca) })
    console.log(`${connection.tls?.version}, ${connection.tls?.cipher}`)
    return await query(connection, user, database, sql)
  })
  for (const row of rows) console.log(row.map((column) => column ?? 'null').join(' | '))
} catch (error) {
  console.error((error as Error).message)
  process.exitCode = 1
}
