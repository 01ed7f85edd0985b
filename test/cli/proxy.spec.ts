import { createConnection, type Socket } from 'node:net'
import { join } from 'node:path'
import { expect } from 'chai'
import {
  type Connection,
  formatProxyHeader,
  type InetAddress,
  onFile,
  onPort,
  type ProxyHeader,
  readProxyHeader,
  Server
} from '../../src/index.ts'
import { type Listening, startListening } from '../helpers/command.ts'
import { ascii, DESTINATION_4, SOURCE_4 } from '../helpers/proxy-bytes.ts'
import { rawClient, readToEnd, type Target } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'
import { closed } from '../helpers/settings.ts'
import { until } from '../helpers/until.ts'

const HOST = '127.0.0.1'
const HEADER = formatProxyHeader({ source: SOURCE_4, destination: DESTINATION_4, tlvs: [[0x02, ascii('mx.example')]] })

describe('it-tcp forward between balancers', function () {
  this.timeout(20_000)
  const scope = useScope()

  describe('--accept-proxy-from', () => {
    it("takes the client's address from the header, and sends the target what comes behind it", async () => {
      const target = await echo()
      const running = await forward(target, '--accept-proxy-from', '127.0.0.0/8', '--log', 'json')
      expect(await ask(running, Buffer.concat([HEADER, ascii('hello\n')]))).to.equal('hello\n')
      await until(() => records(running).length === 1, 'it is logged')
      expect(records(running)[0]).to.deep.include({ client: '192.0.2.1:56324', received: 6, error: null })
    })

    it('resets and logs whoever sends no header, or may send none, and counts them as refused', async () => {
      const target = await echo()
      for (const [range, reason] of [
        ['127.0.0.1', /header/],
        ['10.0.0.0/8', /the sender must be one of 'from'/]
      ] as const) {
        const running = await forward(target, '--accept-proxy-from', range, '--log', 'json', '--verbose')
        const socket = createConnection({ port: running.target as number, host: HOST })
        socket.on('error', () => {})
        socket.write('hello world\n')
        await closed(socket.resume())
        await until(() => records(running).length === 1, 'it is logged')
        const [record] = records(running)
        expect(record).to.deep.include({ upstream: null, received: 0 })
        expect(record?.error).to.have.property('code', 'ERR_PROXY_HEADER')
        expect(record?.error).to.have.property('message').that.matches(reason)
        running.child.kill('SIGTERM')
        expect(await running.exit).to.equal(0)
        expect(running.stderr).to.match(/: turned away: .*\n/)
        expect(running.stderr).to.match(/it-tcp: stopped: 1 client refused\n$/)
      }
    })

    it("--allow and --max-connections-per-address go by the client's address", async () => {
      const target = await echo()
      const running = await forward(target, '--accept-proxy-from', '127.0.0.1', '--allow', '192.0.2.0/24', '--log', 'json')
      expect(await ask(running, Buffer.concat([HEADER, ascii('hello\n')]))).to.equal('hello\n')
      const other = formatProxyHeader({ source: { ...SOURCE_4, address: '203.0.113.1' }, destination: DESTINATION_4 })
      const socket = await rawClient(scope, running.target)
      socket.write(other)
      await closed(socket.resume())
      await until(() => records(running).length === 2, 'both are logged')
      expect(records(running)[1]).to.deep.include({ error: { code: 'NOT_ALLOWED', message: 'its address is not allowed' } })
    })
  })

  describe('--send-proxy', () => {
    for (const [option, version] of [
      ['--send-proxy', 2],
      ['--send-proxy=2', 2],
      ['--send-proxy=1', 1]
    ] as const) {
      it(`${option} tells the target who the client is, before the client has said anything`, async () => {
        const { target, seen } = await receiver()
        const running = await forward(target, option)
        const client = await rawClient(scope, running.target)
        await until(() => seen.length === 1, 'the header has come')
        const ends = { source: inet(client.localPort), destination: inet(running.target as number) }
        expect(seen[0]).to.deep.include({ version, command: 'proxy', ...ends })
      })
    }

    it('has no addresses for a client of a unix socket', async () => {
      for (const version of [1, 2] as const) {
        const { target, seen } = await receiver()
        const running = await startListening(scope, ['forward', join(scope.tempDir(), 's'), `${HOST}:${target}`, `--send-proxy=${version}`])
        await rawClient(scope, running.target)
        await until(() => seen.length === 1, 'the header has come')
        expect(seen[0]).to.deep.include({ version, command: 'proxy', source: null, destination: null })
      }
    })

    it('passes on what came with a header, its values too, and a check as a check', async () => {
      const { target, seen } = await receiver()
      const running = await forward(target, '--accept-proxy-from', '127.0.0.1', '--send-proxy')
      const client = await rawClient(scope, running.target)
      client.write(HEADER)
      await until(() => seen.length === 1, 'the header has come')
      expect(seen[0]).to.deep.include({ source: SOURCE_4, destination: DESTINATION_4, authority: 'mx.example' })
      const check = await rawClient(scope, running.target)
      check.write(formatProxyHeader({ command: 'local' }))
      await until(() => seen.length === 2, 'the check has come')
      expect(seen[1]).to.deep.include({ command: 'local', source: null })
    })

    it('passes on an internet client that came over a unix socket', async () => {
      const { target, seen } = await receiver()
      const path = join(scope.tempDir(), 's')
      const running = await startListening(scope, ['forward', path, `${HOST}:${target}`, '--accept-proxy-from', 'unix', '--send-proxy=1'])
      const client = await rawClient(scope, running.target)
      client.write(HEADER)
      await until(() => seen.length === 1, 'the header has come')
      expect(seen[0]).to.deep.include({ version: 1, source: SOURCE_4, destination: DESTINATION_4 })
    })

    it('two forwards in a row, the second of which accepts: a server of ours sees the client', async () => {
      const server = await Server.create(onFile(join(scope.tempDir(), 's')), { proxyProtocol: { from: ['unix'] } }, ({ writer, proxy }) => {
        const source = proxy?.source as InetAddress
        writer.write(`${source.address}:${source.port}\n`)
      })
      scope.defer(() => server.close({ closeExistingConnections: true }))
      const second = await startListening(scope, [
        ...['forward', `${HOST}:0`, server.listeningOn, '--accept-proxy-from', '127.0.0.0/8', '--send-proxy']
      ])
      const first = await forward(second.target, '--send-proxy=1')
      const client = await rawClient(scope, first.target)
      const answer = readToEnd(client)
      expect(String(await answer)).to.equal(`${HOST}:${client.localPort}\n`)
    })
  })

  async function forward(target: Target, ...options: readonly string[]): Promise<Listening> {
    return await startListening(scope, ['forward', `${HOST}:0`, `${HOST}:${target}`, ...options])
  }

  async function echo(): Promise<number> {
    const server = await Server.create(onPort(0, { host: HOST }), ({ reader, writer }) => writer(reader))
    scope.defer(() => server.close({ closeExistingConnections: true }))
    return server.listeningOn
  }

  /** A server that reads headers by itself. */
  async function receiver(): Promise<{ readonly target: number; readonly seen: ProxyHeader[] }> {
    const seen: ProxyHeader[] = []
    const server = await Server.create(onPort(0, { host: HOST }), async ({ reader }: Connection) => {
      seen.push(await readProxyHeader(reader))
      await reader.discard()
    })
    scope.defer(() => server.close({ closeExistingConnections: true }))
    return { target: server.listeningOn, seen }
  }

  async function ask({ target }: Listening, bytes: Uint8Array): Promise<string> {
    const socket: Socket = await rawClient(scope, target)
    socket.end(bytes)
    return String(await readToEnd(socket))
  }
})

function inet(port: number | undefined): InetAddress {
  return { family: 'IPv4', address: HOST, port: port as number }
}

interface LogRecord {
  readonly client: string
  readonly error: { readonly code: string; readonly message: string } | null
}

function records({ stdout }: Listening): LogRecord[] {
  const lines = stdout.split('\n').slice(0, -1)
  return lines.map((line) => JSON.parse(line) as LogRecord)
}
