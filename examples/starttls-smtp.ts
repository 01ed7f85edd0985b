// Shows STARTTLS: a mail server that begins in clear and goes on in TLS, with the same reader and writer.
// Run it: npm run build && node dist/examples/starttls-smtp.js cert.pem key.pem [port]
// Then, elsewhere: swaks --server localhost:2525 --tls --from me@here.test --to you@there.test
//
// It takes mail only over TLS, and prints who sent it and how long it is. SIGINT ends it. How to make both files: see tls-echo.ts.

import { readFileSync } from 'node:fs'
import { type Connection, onPort, type Reader, Server, TlsContext } from 'it-tcp'

const [certFile = 'cert.pem', keyFile = 'key.pem', port = '2525'] = process.argv.slice(2)
const context = TlsContext.create({ cert: readFileSync(certFile), key: readFileSync(keyFile) })

// Only CRLF ends a line. If a lone line feed did too, a message that another server took for one could be two here, the second forged.
const LINES = { ending: 'crlf', encoding: 'latin1', maxLength: 2_000, timeout: 60_000 } as const
const MAX_MESSAGE = 1_000_000

async function serve(connection: Connection): Promise<void> {
  const { reader, writer } = connection
  const reply = (line: string): void => writer.write(`${line}\r\n`)
  let [from, to]: [string, string[]] = ['', []]
  reply('220 localhost ESMTP')
  for (;;) {
    const line = await reader.readLine(LINES)
    if (line === null) return
    const [, verb = '', rest = ''] = /^(\S*)\s*(.*)$/.exec(line) ?? []
    const isSecure = connection.tls !== null
    const command = verb.toUpperCase()
    if (command === 'QUIT') return reply('221 bye')
    if (command === 'EHLO') reply(isSecure ? '250 localhost' : '250-localhost\r\n250 STARTTLS')
    else if (command === 'HELO') reply('250 localhost')
    else if (command === 'NOOP' || command === 'RSET') {
      ;[from, to] = ['', []]
      reply('250 fine')
    } else if (command === 'STARTTLS' && !isSecure) {
      reply('220 go ahead')
      // The reply leaves in clear. What came with the command, and was not read, is part of the handshake: nobody can slip in a command.
      await connection.startTls(context)
      ;[from, to] = ['', []]
    } else if (!isSecure) reply('530 say STARTTLS first')
    else if (command === 'MAIL') {
      ;[from, to] = [rest, []]
      reply('250 fine')
    } else if (command === 'RCPT' && from !== '') {
      to.push(rest)
      reply('250 fine')
    } else if (command === 'DATA' && to.length > 0) {
      reply('354 end with a dot')
      console.log(`${from} ${to.join(' ')}: ${await readMessage(reader)} characters over ${connection.tls?.version}`)
      ;[from, to] = ['', []]
      reply('250 taken')
    } else reply('503 not now')
  }
}

/** The length of the message. */
async function readMessage(reader: Reader): Promise<number> {
  let length = 0
  for (;;) {
    const line = await reader.readLine(LINES)
    if (line === null) throw new Error('The client left in the middle of a message')
    if (line === '.') return length
    // A dot in front of another is not part of the message.
    length += line.length + (line.startsWith('.') ? 1 : 2)
    if (length > MAX_MESSAGE) throw new Error('The message is too long')
  }
}

const onHandlerError = (_: unknown, error: unknown): void => console.error((error as Error).message)
const server = await Server.create(onPort(Number(port)), { maxConnections: 50, handshakeTimeout: 10_000, onHandlerError }, serve)
console.log(`Listening on port ${server.listeningOn}`)
process.once('SIGINT', () => void server.close({ forceAfter: 5_000 }))
await server.finished
