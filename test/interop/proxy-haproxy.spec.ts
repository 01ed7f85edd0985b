import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createConnection, type Socket } from 'node:net'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import { expect } from 'chai'
import {
  ConnectionResetError,
  consumerPool,
  formatProxyHeader,
  type InetAddress,
  listen,
  onPort,
  type ProxyHeader,
  type ProxyHeaderInit,
  readProxyHeader,
  Server,
  type SocketAddress
} from '../../src/index.ts'
import { startDaemon } from '../helpers/daemon.ts'
import { needs, skipIf } from '../helpers/programs.ts'
import { ascii, DESTINATION_4, DESTINATION_6, SOURCE_4, SOURCE_6 } from '../helpers/proxy-bytes.ts'
import { closeAtEnd, closedPort, readToEnd, type Target } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { until } from '../helpers/until.ts'

const HOST = '127.0.0.1'
const SSL = 0x20
const CHECKSUM = 0x03
/** What a receiver answers that knows who the client is. */
const TOLD = '192.0.2.1 56324 198.51.100.11 443'
const NGINX_STREAM = join(nginxModules(), 'ngx_stream_module.so')

describe('Interop: the PROXY protocol with programs of others', function () {
  // Programs start slowly on a busy machine.
  this.timeout(40_000)
  const scope = useScope()

  for (const how of ['reads the header by itself', 'has the option proxyProtocol'] as const)
    describe(`HAProxy in front of a server that ${how}`, () => {
      before(function () {
        needs(this, 'haproxy')
      })
      const serve = how === 'has the option proxyProtocol' ? serveByOption : serveByHand

      for (const [options, version] of [
        ['send-proxy', 1],
        ['send-proxy-v2', 2]
      ] as const) {
        it(`${options}: says who the client is and what it dialled, for each of 20 clients`, async () => {
          const served = await serve()
          const port = await front(`server s ${HOST}:${served.port} ${options}`)
          const clients = await Promise.all(Array.from({ length: 20 }, () => talkOver(port)))
          for (const client of clients) {
            expect(served.headerOf(client)).to.deep.include({
              version,
              command: 'proxy',
              source: inet(client),
              destination: inet(port)
            })
          }
          expect(new Set(clients).size).to.equal(20)
          expect(served.failures).to.deep.equal([])
        })

        it(`${options}: over IPv6`, async function () {
          skipIf(this, !existsSync('/proc/net/if_inet6'), 'needs IPv6')
          const served = await serve()
          const port = await front(`server s ${HOST}:${served.port} ${options}`, { bind: '[::1]:PORT' })
          const client = await talkOver(port, '::1')
          expect(served.headerOf(client)).to.deep.include({
            version,
            source: { family: 'IPv6', address: '::1', port: client },
            destination: { family: 'IPv6', address: '::1', port }
          })
        })

        it(`${options}: has no addresses for a client of a unix socket`, async () => {
          const served = await serve()
          const path = join(scope.tempDir(), 's')
          await front(`server s ${HOST}:${served.port} ${options}`, { bind: `unix@${path}` })
          await talkOver(path)
          expect(served.headers.at(-1)).to.deep.include({ version, source: null, destination: null })
          expect(served.failures).to.deep.equal([])
        })

        // In version 1 it is a client like others.
        it(`${options}: its health checks are ${version === 1 ? 'its own connections' : 'LOCAL'}, and find the server alive`, async () => {
          const served = await serve()
          // Checks that say nothing break off before anybody has seen them.
          const more = ['option tcp-check', 'tcp-check connect send-proxy', 'tcp-check send check\\n', 'tcp-check expect string check']
          const port = await front(`server s ${HOST}:${served.port} ${options} check inter 50ms fall 1`, { more })
          const checks = (): ProxyHeader[] => served.said.flatMap(({ line, header }) => (line === 'check' ? [header] : []))
          await until(() => checks().length >= 3, 'three checks have been answered')
          const [check] = checks()
          if (version === 1) expect(check).to.deep.include({ version, command: 'proxy', destination: inet(served.port) })
          else expect(check).to.deep.include({ version, command: 'local', source: null, destination: null })
          const client = await talkOver(port)
          expect(served.headerOf(client)).to.deep.include({ command: 'proxy', source: inet(client), destination: inet(port) })
          expect(served.failures).to.deep.equal([])
        })
      }

      it('send-proxy-v2 with a checksum and an identifier', async () => {
        const served = await serve()
        const port = await front(`server s ${HOST}:${served.port} send-proxy-v2 proxy-v2-options crc32c,unique-id`, {
          more: ['unique-id-format %cp-of-%ci']
        })
        const client = await talkOver(port)
        const header = served.headerOf(client)
        expect(Buffer.from(header?.uniqueId ?? []).toString()).to.equal(`${client}-of-${HOST}`)
        expect(header?.tlvs.get(CHECKSUM)).to.have.length(4)
        expect(served.failures).to.deep.equal([])
      })

      it("send-proxy-v2-ssl-cn: says what the client's TLS was, which name it asked for and which protocol it chose", async function () {
        needs(this, 'openssl')
        const served = await serve()
        const { pem, certificate } = makeCertificate()
        const options = 'send-proxy-v2-ssl-cn proxy-v2-options ssl,cert-cn,authority,crc32c'
        const port = await front(`server s ${HOST}:${served.port} ${options}`, {
          bind: `${HOST}:PORT ssl crt ${pem} alpn hello`
        })
        const socket = connectTls({ port, host: HOST, servername: 'localhost', ALPNProtocols: ['hello'], ca: certificate })
        const client = await talk(socket)
        const header = served.headerOf(client)
        expect(header).to.deep.include({ version: 2, source: inet(client), authority: 'localhost', alpn: 'hello' })
        const ssl = Buffer.from(header?.tlvs.get(SSL) ?? [])
        // PP2_CLIENT_SSL, and the version of TLS as the first of the values within.
        expect([(ssl[0] as number) & 1, ssl[5], ssl.includes('TLSv1.')]).to.deep.equal([1, 0x21, true])
        expect(served.failures).to.deep.equal([])
      })
    })

  describe('HAProxy as the receiver of what formatProxyHeader makes', () => {
    before(function () {
      needs(this, 'haproxy')
    })

    for (const [what, header, answer] of [
      ['version 1', { source: SOURCE_4, destination: DESTINATION_4, version: 1 }, TOLD],
      ['version 1 over IPv6', { source: SOURCE_6, destination: DESTINATION_6, version: 1 }, '2001:db8::1 56324 2001:db8:0:1::b 443'],
      ['version 2', { source: SOURCE_4, destination: DESTINATION_4 }, TOLD],
      ['version 2 over IPv6', { source: SOURCE_6, destination: DESTINATION_6 }, '2001:db8::1 56324 2001:db8:0:1::b 443'],
      [
        'version 2 with values and a checksum',
        {
          source: SOURCE_4,
          destination: DESTINATION_4,
          crc32c: true,
          tlvs: [
            [0x02, ascii('example.com')],
            [0x05, ascii('id')],
            [0xea, new Uint8Array(300)]
          ]
        },
        `${TOLD} example.com id`
      ],
      ['UNKNOWN', { source: null, destination: null, version: 1 }, undefined],
      ['LOCAL', { command: 'local' }, undefined]
    ] as readonly [string, ProxyHeaderInit, string | undefined][]) {
      it(`understands ${what}`, async () => {
        const port = await receiver()
        const { clientPort, body } = await ask(port, formatProxyHeader(header))
        expect(body).to.equal(answer ?? `${HOST} ${clientPort} ${HOST} ${port}`)
      })
    }

    it('finds a checksum wrong of which one bit was changed', async () => {
      const header = formatProxyHeader({ source: SOURCE_4, destination: DESTINATION_4, crc32c: true })
      header[header.byteLength - 1] = (header.at(-1) as number) ^ 1
      const socket = createConnection({ port: await receiver(), host: HOST })
      closeAtEnd(scope, socket)
      socket.write(Buffer.concat([header, ascii('GET / HTTP/1.0\r\n\r\n')]))
      const received = await rejection(readToEnd(socket))
      expect(received).to.have.property('code', 'ECONNRESET')
    })

    async function receiver(): Promise<number> {
      const port = await closedPort()
      const told = '%[src] %[src_port] %[dst] %[dst_port] %[fc_pp_authority] %[fc_pp_unique_id]'
      const frontend = `  bind ${HOST}:${port} accept-proxy\n  http-request return status 200 content-type text/plain lf-string "${told}"\n`
      await startHaproxy(`defaults\n  mode http\n${TIMEOUTS}\nfrontend front\n${frontend}`, port)
      return port
    }
  })

  describe('nginx', () => {
    before(function () {
      needs(this, 'nginx')
    })

    for (const [what, header, answer] of [
      ['version 1', { source: SOURCE_4, destination: DESTINATION_4, version: 1 }, TOLD],
      ['version 1 over IPv6', { source: SOURCE_6, destination: DESTINATION_6, version: 1 }, '2001:db8::1 56324 2001:db8:0:1::b 443'],
      ['version 2', { source: SOURCE_4, destination: DESTINATION_4 }, TOLD],
      [
        'version 2 with values and a checksum',
        { source: SOURCE_6, destination: DESTINATION_6, crc32c: true, tlvs: [[0x02, ascii('example.com')]] },
        '2001:db8::1 56324 2001:db8:0:1::b 443'
      ],
      ['UNKNOWN', { source: null, destination: null, version: 1 }, ''],
      ['LOCAL', { command: 'local' }, '']
    ] as readonly [string, ProxyHeaderInit, string][]) {
      it(`listen … proxy_protocol: understands ${what} of formatProxyHeader`, async () => {
        const told = '$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port'
        const port = await startNginx((directory, free) => {
          const temp = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
            .map((name) => `${name}_temp_path ${directory}/${name};`)
            .join(' ')
          return `http { access_log off; ${temp} server { listen ${HOST}:${free} proxy_protocol; location / { return 200 "${told}"; } } }`
        })
        expect((await ask(port, formatProxyHeader(header))).body).to.equal(answer)
      })
    }

    for (const serve of [serveByHand, serveByOption])
      it(`proxy_protocol on: says who the client is, for each of 20 clients, to ${serve.name}`, async function () {
        skipIf(this, !existsSync(NGINX_STREAM), 'needs the stream module of nginx')
        const served = await serve()
        const port = await startNginx(
          (_, free) => `stream { server { listen ${HOST}:${free}; proxy_pass ${HOST}:${served.port}; proxy_protocol on; } }`,
          `load_module ${NGINX_STREAM};`
        )
        const clients = await Promise.all(Array.from({ length: 20 }, () => talkOver(port)))
        for (const client of clients) {
          expect(served.headerOf(client)).to.deep.include({ version: 1, source: inet(client), destination: inet(port) })
        }
        expect(served.failures).to.deep.equal([])
      })

    async function startNginx(config: (directory: string, port: number) => string, first = ''): Promise<number> {
      const directory = scope.tempDir()
      const port = await closedPort()
      const file = join(directory, 'nginx.conf')
      const user = process.getuid?.() === 0 ? 'user root;' : ''
      const top = `${first} ${user} daemon off; worker_processes 1; pid ${directory}/pid; error_log ${directory}/log; events {}`
      writeFileSync(file, `${top} ${config(directory, port)}`)
      await startDaemon(scope, 'nginx', ['-p', directory, '-e', join(directory, 'log'), '-c', file], port)
      return port
    }
  })

  interface Served {
    readonly port: number
    readonly headers: ProxyHeader[]
    /** Those that were followed by a line, with that. */
    readonly said: { readonly line: string; readonly header: ProxyHeader }[]
    /** What went wrong, but for clients that had no more to say. */
    readonly failures: unknown[]
    headerOf(clientPort: number): ProxyHeader | undefined
  }

  /** A plain server that reads the header of each client and then echoes one line. */
  async function serveByHand(): Promise<Served> {
    const server = scope.open(await listen(onPort(0, { host: HOST })))
    const headers: ProxyHeader[] = []
    const said: { readonly line: string; readonly header: ProxyHeader }[] = []
    const failures: unknown[] = []
    const pool = consumerPool(server, 100, async ({ reader, writer }) => {
      try {
        const header = await readProxyHeader(reader, { timeout: 5_000 })
        headers.push(header)
        const line = await reader.readLine()
        if (line === null) return
        said.push({ line, header })
        writer.write(`${line}\n`)
      } catch (error) {
        // Checks break off as soon as they have seen that somebody answers.
        if (!(error instanceof ConnectionResetError)) failures.push(error)
      }
    })
    scope.defer(async () => {
      await server.close({ closeExistingConnections: true })
      await pool
    })
    return {
      port: server.listeningOn,
      headers,
      said,
      failures,
      headerOf: (clientPort) => headers.find(({ source }) => source?.family !== 'unix' && source?.port === clientPort)
    }
  }

  /** The same by the option of servers. */
  async function serveByOption(): Promise<Served> {
    const headers: ProxyHeader[] = []
    const said: { readonly line: string; readonly header: ProxyHeader }[] = []
    const failures: unknown[] = []
    const onHandlerError = (_: SocketAddress, error: unknown): void => {
      if (!(error instanceof ConnectionResetError)) failures.push(error)
    }
    const options = { maxConnections: 100, proxyProtocol: { from: [HOST] }, onHandlerError }
    const server = await Server.create(
      onPort(0, { host: HOST }),
      options,
      async ({ reader, writer, proxy, remoteAddress, localAddress }) => {
        const header = proxy as NonNullable<typeof proxy>
        headers.push(header)
        expect([remoteAddress, localAddress]).to.deep.equal([header.source ?? header.via, header.destination ?? server.address])
        const line = await reader.readLine()
        if (line === null) return
        said.push({ line, header })
        expect(reader.bytesRead).to.equal(line.length + 1)
        writer.write(`${line}\n`)
      }
    )
    scope.defer(() => server.close({ closeExistingConnections: true }))
    return {
      port: server.listeningOn,
      headers,
      said,
      failures,
      headerOf: (clientPort) => headers.find(({ source }) => source?.family !== 'unix' && source?.port === clientPort)
    }
  }

  /** Starts HAProxy in front of `server`, on a port in the place of PORT, and gives that. */
  async function front(server: string, { bind = `${HOST}:PORT`, more = [] as readonly string[] } = {}): Promise<number> {
    const port = await closedPort()
    const path = /^unix@(.*)$/.exec(bind)?.[1]
    const target = path ?? (bind.includes('::1') ? undefined : port)
    const lines = [`bind ${bind.replace('PORT', String(port))}`, ...more, server].map((line) => `  ${line}\n`).join('')
    await startHaproxy(`defaults\n  mode tcp\n${TIMEOUTS}\nlisten front\n${lines}`, target)
    return port
  }

  async function startHaproxy(config: string, target: Target | undefined): Promise<void> {
    const file = join(scope.tempDir(), 'haproxy.cfg')
    // Over IPv6 only it is asked on one more port.
    const probe = target ?? (await closedPort())
    const other = target === undefined ? `listen probe\n  bind ${HOST}:${probe}\n` : ''
    writeFileSync(file, config + other)
    await startDaemon(scope, 'haproxy', ['-db', '-f', file], probe)
  }

  /** Connects and talks; gives the client's port. */
  async function talkOver(target: Target, host = HOST): Promise<number> {
    return await talk(typeof target === 'number' ? createConnection(target, host) : createConnection(target))
  }

  /** Sends a line and waits until it has come back; gives the client's port. */
  async function talk(socket: Socket): Promise<number> {
    closeAtEnd(scope, socket)
    await once(socket, 'connect')
    const { localPort } = socket
    let received = ''
    socket.on('data', (chunk: Buffer) => {
      received += chunk.toString()
    })
    socket.write('hello\n')
    await until(() => received === 'hello\n', 'the line has come back')
    return localPort as number
  }

  /** Asks an HTTP server behind a header. */
  async function ask(port: number, header: Uint8Array): Promise<{ readonly clientPort: number | undefined; readonly body: string }> {
    const socket = createConnection({ port, host: HOST, allowHalfOpen: true })
    closeAtEnd(scope, socket)
    await once(socket, 'connect')
    socket.write(Buffer.concat([header, ascii('GET / HTTP/1.0\r\n\r\n')]))
    const { localPort: clientPort } = socket
    const [head = '', body = ''] = (await readToEnd(socket)).toString().split('\r\n\r\n')
    expect(head).to.match(/^HTTP\/1\.[01] 200 /)
    return { clientPort, body: body.trim() }
  }

  function makeCertificate(): { readonly pem: string; readonly certificate: Buffer } {
    const directory = scope.tempDir()
    const [key, certificate, pem] = ['key', 'certificate', 'pem'].map((name) => join(directory, name)) as [string, string, string]
    const args = [
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-subj',
      '/CN=localhost',
      '-days',
      '2',
      '-keyout',
      key,
      '-out',
      certificate
    ]
    execFileSync('openssl', args, { stdio: 'pipe' })
    writeFileSync(pem, Buffer.concat([readFileSync(certificate), readFileSync(key)]))
    return { pem, certificate: readFileSync(certificate) }
  }
})

const TIMEOUTS = '  timeout connect 5s\n  timeout client 10s\n  timeout server 10s'

function inet(port: number): InetAddress {
  return { family: 'IPv4', address: HOST, port }
}

/** Where nginx has the modules that it can load. */
function nginxModules(): string {
  if (process.env.IT_TCP_NGINX_MODULES !== undefined) return process.env.IT_TCP_NGINX_MODULES
  return '/usr/lib/nginx/modules'
}
