import { existsSync, writeFileSync } from 'node:fs'
import { createServer as createHttpsServer } from 'node:https'
import { join } from 'node:path'
import { expect } from 'chai'
import Fastify from 'fastify'
import {
  type Connection,
  connect,
  type InetAddress,
  onPort,
  Server,
  type ServerOptions,
  type TlsClientOptions,
  TruncatedError,
  toHostAndPort,
  withConnection
} from '../../src/index.ts'
import { type Certificates, useCertificates } from '../helpers/certificates.ts'
import { start } from '../helpers/command.ts'
import { startDaemon } from '../helpers/daemon.ts'
import { needs, run, skipIf } from '../helpers/programs.ts'
import { closedPort } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import type { Handler } from '../helpers/settings.ts'
import { VERSIONS } from '../helpers/tls-ends.ts'
import { serverContext } from '../helpers/tls-pair.ts'
import { until } from '../helpers/until.ts'

const HOST = '127.0.0.1'
const NGINX_STREAM = '/usr/lib/nginx/modules/ngx_stream_module.so'
const OPTION = { TLSv1_2: '-tls1_2', TLSv1_3: '-tls1_3' }

// Peers that nobody here wrote: other implementations of TLS, other programs on top of them.
describe('Interop: TLS with programs of others', function () {
  // Programs start slowly on a busy machine.
  this.timeout(40_000)
  const scope = useScope()
  let made: Certificates

  before(function () {
    made = useCertificates(this)
  })

  const file = (name: string): string => join(made.directory, name)

  /** What became of each client. */
  interface Served {
    readonly port: number
    readonly ends: unknown[]
    readonly connections: Connection[]
  }

  /** A server whose handler reads all, then answers with that. */
  async function serve(options: ServerOptions<InetAddress> = {}, handler: Handler = answerAtEnd): Promise<Served> {
    const ends: unknown[] = []
    const connections: Connection[] = []
    const server = await Server.create(
      onPort(0, { host: HOST }),
      { tls: serverContext(made), onHandlerError: (_, error) => ends.push(error), ...options },
      async (connection) => {
        connections.push(connection)
        await handler(connection)
        ends.push('end')
      }
    )
    scope.defer(() => server.close({ closeExistingConnections: true }))
    return { port: server.listeningOn, ends, connections }
  }

  async function answerAtEnd({ reader, writer }: Connection): Promise<void> {
    const all = await reader.readAll({ maxLength: 10_000_000 })
    writer.write(`${all.byteLength} bytes\n`)
    await writer.close()
  }

  const echo: Handler = async ({ reader, writer }) => {
    await writer(reader)
  }

  const dial = async (port: number, tls: TlsClientOptions = {}): Promise<Connection> => {
    const connection = await connect(toHostAndPort(HOST, port), { tls: { ca: made.ca.cert, serverName: 'a.test', ...tls } })
    scope.defer(() => connection.abort())
    return connection
  }

  for (const version of VERSIONS) {
    const option = version === 'TLSv1.3' ? OPTION.TLSv1_3 : OPTION.TLSv1_2

    describe(`openssl over ${version}`, () => {
      it('s_client verifies our server, and its echo comes back', async () => {
        const { port, connections } = await serve({ tls: serverContext(made, { version }) }, echo)
        const args = ['s_client', '-connect', `${HOST}:${port}`, '-servername', 'a.test', '-CAfile', file('ca.pem'), '-verify_return_error']
        const client = start(scope, 'openssl', [...args, '-brief', option])
        client.child.stdin?.write('hello\n')
        await until(() => client.stdout.includes('hello\n'), 'the echo is printed')
        expect(client.stderr).to.include(`Protocol version: ${version}`)
        expect(client.stderr).to.include('Verification: OK')
        expect(connections[0]?.tls).to.deep.include({ version, serverName: 'a.test' })
        client.child.stdin?.write('Q\n')
      })

      it('s_client that is killed is a truncation for our reader, one that quits is an end', async () => {
        const { port, ends } = await serve({ tls: serverContext(made, { version }) }, echo)
        const args = ['s_client', '-connect', `${HOST}:${port}`, '-quiet', option]
        const killed = start(scope, 'openssl', args)
        killed.child.stdin?.write('hello\n')
        await until(() => killed.stdout.includes('hello'), 'the echo is printed')
        killed.child.kill('SIGKILL')
        await until(() => ends.length === 1, 'the handler has ended')
        expect((ends[0] as Error).name).to.be.oneOf(['TruncatedError', 'ConnectionResetError'])
        const quitting = await run('openssl', ['s_client', '-connect', `${HOST}:${port}`, option], { input: 'Q\n' })
        expect(quitting.code, quitting.stderr).to.equal(0)
        await until(() => ends.length === 2, 'the handler has ended')
        expect(ends[1]).to.equal('end')
      })

      it('s_client takes up a session', async () => {
        const { port, connections } = await serve({ tls: serverContext(made, { version }) }, echo)
        const session = join(scope.tempDir(), 'session')
        for (const [index, kind] of ['-sess_out', '-sess_in'].entries()) {
          const client = start(scope, 'openssl', ['s_client', '-connect', `${HOST}:${port}`, kind, session, option])
          client.child.stdin?.write('hello\n')
          await until(() => client.stdout.includes('hello\n'), 'the echo is printed')
          // Tickets of TLS 1.3 are there, since they come before the first bytes.
          client.child.stdin?.end('Q\n')
          await client.exit
          expect(connections[index]?.tls?.isResumed).to.equal(index === 1)
        }
      })

      it('s_client without a certificate, with a stranger’s and with a good one, against clientCert required', async () => {
        const { port, ends, connections } = await serve(
          { tls: serverContext(made, { version, server: { ca: made.ca.cert, clientCert: 'required' } }) },
          echo
        )
        const args = ['s_client', '-connect', `${HOST}:${port}`, '-CAfile', file('ca.pem'), '-quiet', option]
        for (const more of [[], ['-cert', file('stranger.pem'), '-key', file('stranger.key')]]) {
          const refused = start(scope, 'openssl', [...args, ...more])
          expect(await refused.exit).to.not.equal(0)
          expect(refused.stderr).to.match(/alert|reset|errno/i)
        }
        await until(() => ends.length === 2, 'both are turned away')
        expect(ends.map((error) => (error as Error).name)).to.deep.equal(['TlsError', 'TlsError'])
        expect(connections).to.have.length(0)
        const client = start(scope, 'openssl', [...args, '-cert', file('client.pem'), '-key', file('client.key')])
        client.child.stdin?.write('hello\n')
        await until(() => client.stdout.includes('hello\n'), 'the echo is printed')
        expect(connections[0]?.tls?.isAuthorized).to.equal(true)
        expect(connections[0]?.tls?.peerCertificate?.subject).to.equal('CN=client')
      })

      it('s_server -rev talks to our client, and its close is an end', async () => {
        const port = await opensslServer(['-rev', option])
        const connection = await dial(port)
        expect(connection.tls?.version).to.equal(version)
        connection.writer.write('hello\n')
        expect(await connection.reader.readLine({ timeout: 5_000 })).to.equal('olleh')
        connection.writer.write('CLOSE\n')
        // It ends in order behind its own command.
        expect(await connection.reader.readAll({ maxLength: 100, timeout: 5_000 })).to.have.length(0)
      })

      it('s_server that is killed is no end', async () => {
        const port = await closedPort()
        const server = await startDaemon(scope, 'openssl', serverArgs(port, ['-rev', option]), port)
        const connection = await dial(port)
        connection.writer.write('hello\n')
        expect(await connection.reader.readLine({ timeout: 5_000 })).to.equal('olleh')
        server.child.kill('SIGKILL')
        const error = await rejection(connection.reader.readLine({ timeout: 5_000 }))
        expect((error as Error).name).to.be.oneOf(['TruncatedError', 'ConnectionResetError'])
      })

      it('s_server with the certificate of another name, or of a stranger, is refused', async () => {
        for (const [name, words] of [
          ['b', /b\.test|altnames/i],
          ['stranger', /certificate|verify/i],
          ['expired', /expired/i]
        ] as const) {
          const port = await opensslServer(['-rev', option], name)
          const error = await rejection(dial(port))
          expect((error as Error).name, name).to.equal('TlsError')
          expect(`${(error as Error).message} ${String((error as Error).cause)}`).to.match(words)
        }
      })

      it('s_server asks for our certificate and gets it; the session is taken up by the next connection', async () => {
        const port = await opensslServer(['-www', '-Verify', '1', '-CAfile', file('ca.pem'), option])
        const options = { cert: made.client.cert, key: made.client.key, closeNotify: 'optional' } as const
        const pages: string[] = []
        for (const isResumed of [false, true]) {
          const connection = await dial(port, options)
          connection.writer.write('GET / HTTP/1.0\r\n\r\n')
          pages.push(new TextDecoder().decode(await connection.reader.readAll({ maxLength: 100_000, timeout: 5_000 })))
          expect(connection.tls?.isResumed).to.equal(isResumed)
          await connection.close()
        }
        expect(pages[0]).to.include('Client certificate')
        expect(pages[1]).to.include('Reused')
      })

      it('KeyUpdate by s_client in mid-stream', async function () {
        skipIf(this, version !== 'TLSv1.3', 'is of TLS 1.3')
        const { port } = await serve({ tls: serverContext(made, { version }) }, echo)
        const client = start(scope, 'openssl', ['s_client', '-connect', `${HOST}:${port}`, option])
        let expected = 0
        for (const [command, line] of [
          ['', 'one'],
          ['K\n', 'two'],
          ['k\n', 'three']
        ] as const) {
          // The commands want a line of their own, in a read of their own.
          if (command !== '') {
            client.child.stdin?.write(command)
            expected++
            await until(() => (client.stdout + client.stderr).split('KEYUPDATE').length > expected, 'the key is updated')
          }
          client.child.stdin?.write(`${line}\n`)
          await until(() => client.stdout.includes(`${line}\n`), `${line} comes back`)
        }
      })
    })
  }

  function serverArgs(port: number, more: readonly string[], name = 'a'): string[] {
    return ['s_server', '-accept', `${HOST}:${port}`, '-cert', file(`${name}.pem`), '-key', file(`${name}.key`), '-quiet', ...more]
  }

  async function opensslServer(more: readonly string[], name = 'a'): Promise<number> {
    const port = await closedPort()
    await startDaemon(scope, 'openssl', serverArgs(port, more, name), port)
    return port
  }

  describe('curl', () => {
    before(function () {
      needs(this, 'curl')
    })

    it('verifies us, and takes an answer whose end is only the end of the stream', async () => {
      const { port, ends } = await serve({}, async ({ reader, writer }) => {
        await reader.readUntil('\r\n\r\n')
        // No length: what tells curl that it has all is the close_notify.
        writer.write(`HTTP/1.0 200 OK\r\n\r\n${'x'.repeat(300_000)}`)
        await writer.close()
      })
      const answer = await run('curl', curlArgs(port))
      expect(answer.code, answer.stderr).to.equal(0)
      expect(answer.stdout).to.have.length(300_000)
      await until(() => ends.length === 1, 'the handler has ended')
      expect(ends).to.deep.equal(['end'])
    })

    it('refuses us with an authority that is not ours', async () => {
      const { port, ends } = await serve()
      const args = ['--cacert', file('strangers-ca.pem'), '--resolve', `a.test:${port}:${HOST}`, '-sS', `https://a.test:${port}/`]
      const answer = await run('curl', args)
      expect(answer.code, answer.stderr).to.equal(60)
      await until(() => ends.length === 1, 'it is turned away')
      expect((ends[0] as Error).name).to.equal('TlsError')
    })

    for (const [what, http] of [
      [
        'fastify',
        async () => {
          // The server factory gets the handler, and we hand it connections.
          const server = createHttpsServer(made.a)
          const app = Fastify({ serverFactory: (handler) => server.on('request', handler) })
          app.get('/', async ({ protocol }) => `fastify says hello over ${protocol}`)
          await app.ready()
          scope.defer(() => app.close())
          return { emit: (socket: unknown) => server.emit('secureConnection', socket), says: 'fastify says hello over https' }
        }
      ],
      [
        'node:https',
        async () => {
          const server = createHttpsServer(made.a, ({ url }, response) => response.end(`You asked for ${url}`))
          return { emit: (socket: unknown) => server.emit('secureConnection', socket), says: 'You asked for /' }
        }
      ]
    ] as const) {
      it(`asks ${what}, which gets our TLS connections by detach()`, async () => {
        const { emit, says } = await http()
        const { port } = await serve({}, async (connection) => {
          emit(await connection.detach())
        })
        const answer = await run('curl', [...curlArgs(port), `https://a.test:${port}/`])
        expect(answer.code, answer.stderr).to.equal(0)
        // Two requests, one connection.
        expect(answer.stdout).to.equal(says + says)
      })
    }

    function curlArgs(port: number): string[] {
      return ['--cacert', file('ca.pem'), '--resolve', `a.test:${port}:${HOST}`, '-sS', `https://a.test:${port}/`]
    }
  })

  describe('gnutls-cli', () => {
    before(function () {
      needs(this, 'gnutls-cli')
    })

    for (const version of VERSIONS) {
      it(`verifies us over ${version}, and its end is an end`, async () => {
        const { port, ends, connections } = await serve({ tls: serverContext(made, { version }) })
        const args = ['--x509cafile', file('ca.pem'), '--sni-hostname', 'a.test', '--verify-hostname', 'a.test', '-p', String(port), HOST]
        const client = await run('gnutls-cli', args, { input: 'hello\n' })
        expect(client.code, client.stdout + client.stderr).to.equal(0)
        expect(client.stdout).to.include('Handshake was completed')
        expect(client.stdout).to.include('6 bytes\n')
        await until(() => ends.length === 1, 'the handler has ended')
        expect(ends).to.deep.equal(['end'])
        expect(connections[0]?.tls).to.deep.include({ version, serverName: 'a.test' })
      })
    }
  })

  describe("Python's ssl", () => {
    before(function () {
      needs(this, 'python3')
    })

    it('its client speaks with our server, unwrap() is an end, and closing without it is a truncation', async () => {
      const { port, ends } = await serve({}, echo)
      const program = `
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
def visit(unwrap):
    raw = socket.create_connection(('${HOST}', int(sys.argv[1])))
    s = context.wrap_socket(raw, server_hostname='a.test')
    s.sendall(b'hello\\n')
    print(s.version(), s.recv(100))
    if unwrap:
        s.unwrap().close()
    else:
        s.close()
visit(True)
visit(False)
`
      const { code, stdout, stderr } = await run('python3', ['-c', program, String(port), file('ca.pem')])
      expect(code, stderr).to.equal(0)
      expect(stdout).to.equal("TLSv1.3 b'hello\\n'\n".repeat(2))
      await until(() => ends.length === 2, 'both handlers have ended')
      expect(ends[0]).to.equal('end')
      expect(ends[1]).to.be.instanceOf(TruncatedError)
    })

    it('its client finds a truncation if we abort, and an end if we close', async () => {
      let isAborting = true
      const { port } = await serve({}, async (connection) => {
        connection.writer.write('half')
        await connection.writer.flushed()
        await connection.reader.readLine()
        if (isAborting) connection.abort()
        isAborting = false
      })
      const program = `
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
for _ in range(2):
    raw = socket.create_connection(('${HOST}', int(sys.argv[1])))
    s = context.wrap_socket(raw, server_hostname='a.test', suppress_ragged_eofs=False)
    print(s.recv(100))
    s.sendall(b'go\\n')
    try:
        print(s.recv(100))
    except (ssl.SSLEOFError, ConnectionResetError) as error:
        print('cut off')
    raw.close()
`
      const { code, stdout, stderr } = await run('python3', ['-c', program, String(port), file('ca.pem')])
      expect(code, stderr).to.equal(0)
      expect(stdout).to.equal("b'half'\ncut off\nb'half'\nb''\n")
    })

    for (const [what, last, told] of [
      ['unwrap()', 's.unwrap().close()', 'end'],
      ['close()', 's.close()', 'TruncatedError']
    ] as const) {
      it(`its server that ends with ${what} is told as ${told} by our client`, async () => {
        const program = `
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
listener = socket.create_server(('${HOST}', 0))
print(listener.getsockname()[1], flush=True)
raw, _ = listener.accept()
s = context.wrap_socket(raw, server_side=True)
s.sendall(s.recv(100))
try:
    ${last}
except OSError:
    pass
`
        const server = start(scope, 'python3', ['-c', program, file('a.pem'), file('a.key')])
        await until(() => server.stdout.includes('\n'), `the server listens ${server.stderr}`)
        const connection = await dial(Number(server.stdout))
        connection.writer.write('hello')
        expect(new TextDecoder().decode((await connection.reader.readExactly(5)) ?? undefined)).to.equal('hello')
        const end = await connection.reader.read().then(
          (chunk) => (chunk === null ? 'end' : 'more'),
          (error: Error) => error.name
        )
        expect(end).to.equal(told)
      })
    }
  })

  describe('HAProxy', () => {
    before(function () {
      needs(this, 'haproxy')
    })

    it('terminates the TLS of our client, before a plain server of ours', async () => {
      const { port: behind } = await serve({ tls: undefined as never }, echo)
      const pem = join(scope.tempDir(), 'a.pem')
      writeFileSync(pem, made.a.cert + made.a.key)
      const port = await haproxy((free) => [`bind ${HOST}:${free} ssl crt ${pem} alpn hello`, `server s ${HOST}:${behind}`])
      await exchange(port, { alpn: ['hello'] }, 'hello')
    })

    it('opens TLS to our server, which it verifies', async () => {
      const { port: behind, connections } = await serve({}, echo)
      const verified = `ssl verify required ca-file ${file('ca.pem')} sni str(a.test) verifyhost a.test`
      const port = await haproxy((free) => [`bind ${HOST}:${free}`, `server s ${HOST}:${behind} ${verified}`])
      await withConnection(toHostAndPort(HOST, port), async ({ reader, writer }) => {
        writer.write('hello\n')
        expect(await reader.readLine({ timeout: 5_000 })).to.equal('hello')
      })
      expect(connections[0]?.tls?.serverName).to.equal('a.test')
    })

    for (const options of ['send-proxy', 'send-proxy-v2'] as const) {
      it(`${options}: a PROXY header in clear, then the TLS of our client through it to our server`, async () => {
        const { port: behind, connections } = await serve({ proxyProtocol: { from: [HOST] } }, echo)
        const port = await haproxy((free) => [`bind ${HOST}:${free}`, `server s ${HOST}:${behind} ${options}`])
        const { localAddress } = await exchange(port, {}, null)
        expect(connections[0]?.remoteAddress).to.deep.equal(localAddress)
        expect(connections[0]?.tls?.serverName).to.equal('a.test')
      })
    }

    it('as the receiver of our PROXY header with TLS behind it', async () => {
      const { port: behind } = await serve({ tls: undefined as never }, echo)
      const pem = join(scope.tempDir(), 'a.pem')
      writeFileSync(pem, made.a.cert + made.a.key)
      const port = await haproxy((free) => [`bind ${HOST}:${free} accept-proxy ssl crt ${pem}`, `server s ${HOST}:${behind}`])
      const source: InetAddress = { family: 'IPv4', address: '192.0.2.7', port: 4711 }
      const header = { source, destination: { ...source, address: '198.51.100.1' } }
      const connection = await connect(toHostAndPort(HOST, port), {
        proxyHeader: header,
        tls: { ca: made.ca.cert, serverName: 'a.test' }
      })
      scope.defer(() => connection.abort())
      connection.writer.write('hello\n')
      expect(await connection.reader.readLine({ timeout: 5_000 })).to.equal('hello')
    })

    async function haproxy(lines: (port: number) => readonly string[]): Promise<number> {
      const port = await closedPort()
      const config = join(scope.tempDir(), 'haproxy.cfg')
      const timeouts = '  timeout connect 5s\n  timeout client 20s\n  timeout server 20s\n'
      const body = lines(port)
        .map((line) => `  ${line}\n`)
        .join('')
      writeFileSync(config, `defaults\n  mode tcp\n${timeouts}\nlisten front\n${body}`)
      await startDaemon(scope, 'haproxy', ['-db', '-f', config], port)
      return port
    }
  })

  describe('nginx', () => {
    before(function () {
      needs(this, 'nginx')
      skipIf(this, !existsSync(NGINX_STREAM), 'needs the stream module of nginx')
    })

    it('terminates the TLS of our client, before a plain server of ours', async () => {
      const { port: behind } = await serve({ tls: undefined as never }, echo)
      const certificate = `ssl_certificate ${file('a.pem')}; ssl_certificate_key ${file('a.key')};`
      const port = await nginx((free) => `listen ${HOST}:${free} ssl; ${certificate} proxy_pass ${HOST}:${behind};`)
      await exchange(port, {}, null)
    })

    it('opens TLS to our server, which it verifies, with a PROXY header in front', async () => {
      const { port: behind, connections } = await serve({ proxyProtocol: { from: [HOST] } }, echo)
      const verified = `proxy_ssl on; proxy_ssl_verify on; proxy_ssl_trusted_certificate ${file('ca.pem')}; proxy_ssl_name a.test; proxy_ssl_server_name on;`
      const port = await nginx((free) => `listen ${HOST}:${free}; proxy_pass ${HOST}:${behind}; proxy_protocol on; ${verified}`)
      await withConnection(toHostAndPort(HOST, port), async ({ reader, writer, localAddress }) => {
        writer.write('hello\n')
        expect(await reader.readLine({ timeout: 5_000 })).to.equal('hello')
        const served = connections.find(({ remoteAddress }) => 'port' in remoteAddress && remoteAddress.port === localAddress.port)
        expect(served?.tls?.serverName).to.equal('a.test')
      })
    })

    async function nginx(server: (port: number) => string): Promise<number> {
      const directory = scope.tempDir()
      const port = await closedPort()
      const config = join(directory, 'nginx.conf')
      const user = process.getuid?.() === 0 ? 'user root;' : ''
      const top = `load_module ${NGINX_STREAM}; ${user} daemon off; worker_processes 1; pid ${directory}/pid; error_log ${directory}/log; events {}`
      writeFileSync(config, `${top} stream { server { ${server(port)} } }`)
      await startDaemon(scope, 'nginx', ['-p', directory, '-e', join(directory, 'log'), '-c', config], port)
      return port
    }
  })

  /** Talks over TLS to what stands before an echo, and ends in order. */
  async function exchange(port: number, tls: TlsClientOptions, alpn: string | null): Promise<Connection> {
    const connection = await dial(port, tls)
    expect(connection.tls).to.deep.include({ alpn, isAuthorized: true })
    connection.writer.write('hello\n')
    expect(await connection.reader.readLine({ timeout: 5_000 })).to.equal('hello')
    return connection
  }
})
