import { join } from 'node:path'
import { expect } from 'chai'
import { type Connection, connect, onPort, Server, TlsError, toHostAndPort } from '../../src/index.ts'
import { type Certificates, useCertificates } from '../helpers/certificates.ts'
import { needs, run } from '../helpers/programs.ts'
import { rawClient, readToEnd } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'
import { serverContext } from '../helpers/tls-pair.ts'
import { until } from '../helpers/until.ts'

const HOST = '127.0.0.1'
const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47])

// The other direction, and SMTP, are in the tests of the examples postgres-client and starttls-smtp.
describe('Interop: STARTTLS of a small PostgreSQL with programs of others', function () {
  this.timeout(60_000)
  const scope = useScope()
  let made: Certificates

  before(function () {
    made = useCertificates(this)
  })

  const file = (name: string): string => join(made.directory, name)

  describe('psql against a small server of ours', () => {
    async function serve(): Promise<{ readonly port: number; readonly accepted: Connection[]; readonly errors: unknown[] }> {
      const accepted: Connection[] = []
      const errors: unknown[] = []
      const options = { onHandlerError: (_: unknown, error: unknown) => errors.push(error) }
      const server = await Server.create(onPort(0, { host: HOST }), options, async (connection) => {
        accepted.push(connection)
        await answer42(connection, made)
      })
      scope.defer(() => server.close({ closeExistingConnections: true }))
      return { port: server.listeningOn, accepted, errors }
    }

    for (const [mode, host] of [
      ['require', HOST],
      ['verify-ca', HOST],
      ['verify-full', HOST],
      ['verify-full', `a.test hostaddr=${HOST}`]
    ] as const) {
      it(`sslmode=${mode} to ${host}`, async function () {
        needs(this, 'psql')
        const { port, errors } = await serve()
        const conninfo = `host=${host} port=${port} user=x dbname=x sslmode=${mode} sslrootcert=${file('ca.pem')}`
        const { code, stdout, stderr } = await run('psql', ['-Atc', 'select 1', conninfo])
        expect({ code, stdout }, stderr).to.deep.equal({ code: 0, stdout: '42\n' })
        expect(errors).to.deep.equal([])
      })
    }

    it('sslmode=verify-full refuses us by another name', async function () {
      needs(this, 'psql')
      const { port, errors } = await serve()
      const conninfo = `host=b.test hostaddr=${HOST} port=${port} user=x dbname=x sslmode=verify-full sslrootcert=${file('ca.pem')}`
      const { code, stderr } = await run('psql', ['-Atc', 'select 1', conninfo])
      expect(code).to.equal(2)
      expect(stderr).to.include('does not match host name')
      await until(() => errors.length === 1, 'the handler has failed')
    })

    it('SSLRequest that comes byte by byte', async () => {
      const { port, accepted } = await serve()
      const connection = await connect(toHostAndPort(HOST, port))
      scope.defer(() => connection.abort())
      await until(() => accepted.length === 1)
      for (const [index, byte] of SSL_REQUEST.entries()) {
        connection.writer.write(Uint8Array.of(byte))
        await until(() => accepted[0]?.reader.bytesRead === index + 1, 'it has arrived on its own')
      }
      expect(await connection.reader.readExactly(1)).to.deep.equal(Uint8Array.of(0x53))
      await connection.startTls({ ca: made.ca.cert, serverName: 'a.test' })
      expect(connection.tls?.isAuthorized).to.equal(true)
    })

    it('a query in clear behind SSLRequest makes the handshake fail, and is never read', async () => {
      const { port, errors } = await serve()
      const attacker = await rawClient(scope, port)
      attacker.write(Buffer.concat([SSL_REQUEST, message('Q', Buffer.from('drop table x\0'))]))
      const received = await readToEnd(attacker).catch(() => Buffer.from('S'))
      expect(received.subarray(0, 1).toString()).to.equal('S')
      await until(() => errors.length === 1, 'the handler has failed')
      expect(errors[0]).to.be.instanceOf(TlsError)
    })
  })
})

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

function message(type: string, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body])
}

/** A PostgreSQL that knows one answer. */
async function answer42(connection: Connection, made: Certificates): Promise<void> {
  const { reader, writer } = connection
  const request = await reader.readExactly(8)
  if (request === null || !SSL_REQUEST.equals(request)) throw new Error('No SSLRequest')
  writer.write('S')
  await connection.startTls(serverContext(made))
  const length = Buffer.from((await reader.readExactly(4)) ?? []).readInt32BE(0)
  await reader.readExactly(length - 4)
  const ready = message('Z', Buffer.from('I'))
  const parameters = ['server_version\x0015.0\0', 'client_encoding\0UTF8\0'].map((text) => message('S', Buffer.from(text)))
  writer.write(Buffer.concat([message('R', int32(0)), ...parameters, ready]))
  for (;;) {
    const head = await reader.readExactly(5)
    if (head === null) return
    await reader.readExactly(Buffer.from(head).readInt32BE(1) - 4)
    if (String.fromCharCode(head[0] as number) === 'X') return
    const column = Buffer.concat([
      Buffer.from('n\0'),
      int32(0),
      Buffer.alloc(2),
      int32(25),
      Buffer.from([255, 255]),
      int32(-1),
      Buffer.alloc(2)
    ])
    const one = Buffer.from([0, 1])
    const row = message('D', Buffer.concat([one, int32(2), Buffer.from('42')]))
    writer.write(Buffer.concat([message('T', Buffer.concat([one, column])), row, message('C', Buffer.from('SELECT 1\0')), ready]))
  }
}
