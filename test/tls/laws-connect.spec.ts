import { once } from 'node:events'
import type { AddressInfo, Server as NetServer } from 'node:net'
import { join } from 'node:path'
import { createServer, TLSSocket, type TlsOptions } from 'node:tls'
import { expect } from 'chai'
import { connect, connectSocket, withConnection } from '../../src/connect.ts'
import { ConnectTimeoutError, TlsError, TruncatedError } from '../../src/errors.ts'
import type { TlsClientOptions } from '../../src/tls.ts'
import { TlsContext } from '../../src/tls-context.ts'
import { toFile, toHostAndPort } from '../../src/where-to-connect.ts'
import { expectRefusal } from '../helpers/bad-input.ts'
import { type Certificates, useCertificates } from '../helpers/certificates.ts'
import { rawServer, readToEnd } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { VERSIONS } from '../helpers/tls-ends.ts'
import { turns, until } from '../helpers/until.ts'

describe('tls of connect', () => {
  let made: Certificates

  before(function () {
    made = useCertificates(this)
  })

  const scope = useScope()

  interface Foreign {
    readonly port: number
    readonly sockets: TLSSocket[]
    readonly server: NetServer
  }

  /** A foreign server, which greets and then echoes. */
  const foreign = async (options: TlsOptions = {}, path?: string): Promise<Foreign> => {
    const sockets: TLSSocket[] = []
    const server = createServer({ ...made.a, allowHalfOpen: true, ...options }, (socket) => {
      sockets.push(socket)
      socket.on('error', () => {})
      socket.write('welcome\n')
      socket.pipe(socket)
    })
    const raw = new Set<{ destroy(): void }>()
    server.on('connection', (socket) => raw.add(socket)).on('tlsClientError', () => {})
    server.listen(path ?? { port: 0, host: '127.0.0.1' })
    await once(server, 'listening')
    scope.defer(async () => {
      for (const socket of raw) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    })
    return { port: path === undefined ? (server.address() as AddressInfo).port : 0, sockets, server }
  }
  const to = ({ port }: Foreign) => toHostAndPort('localhost', port, { localAddress: '127.0.0.1' })

  for (const version of VERSIONS) {
    it(`speaks ${version} and verifies the host dialled`, async () => {
      const server = await foreign({ maxVersion: version })
      await using connection = await connect(to(server), { tls: { ca: made.ca.cert } })
      expect(connection.tls).to.include({ version, serverName: 'localhost', isAuthorized: true })
      expect(await connection.reader.readLine()).to.equal('welcome')
      connection.writer.write('hello\n')
      expect(await connection.reader.readLine()).to.equal('hello')
    })
  }

  it('withConnection does as connect does', async () => {
    const server = await foreign()
    const line = await withConnection(to(server), { tls: { ca: made.ca.cert }, timeout: 5_000 }, async ({ reader, tls }) => {
      expect(tls?.isAuthorized).to.equal(true)
      return await reader.readLine()
    })
    expect(line).to.equal('welcome')
  })

  it('takes up the session of an earlier connection, with the same name, port and options only', async () => {
    const server = await foreign()
    const options = (): { tls: TlsClientOptions } => ({ tls: { ca: made.ca.cert, alpn: ['session'] } })
    const visit = async (tls: TlsClientOptions): Promise<boolean | undefined> =>
      await withConnection(to(server), { tls }, async (connection) => {
        await connection.reader.readLine()
        // A turn later the tickets have arrived, whether or not they came in front of the line.
        await turns(1)
        connection.writer.write('x\n')
        await connection.reader.readLine()
        return connection.tls?.isResumed
      })
    expect(await visit(options().tls)).to.equal(false)
    expect(await visit({ ...options().tls, serverName: 'a.test' })).to.equal(false)
    expect(await visit({ ...options().tls, minVersion: 'TLSv1.3' })).to.equal(false)
    expect(await visit(options().tls)).to.equal(true)
  })

  it('does not connect to whom it cannot verify', async () => {
    const server = await foreign()
    for (const tls of [true, { ca: made.strangersCa.cert }, { ca: made.ca.cert, serverName: 'b.test' }] as const) {
      expect(await rejection(connect(to(server), { tls }))).to.be.instanceOf(TlsError)
      expect(await rejection(connectSocket(to(server), { tls }))).to.be.instanceOf(TlsError)
    }
    await using connection = await connect(to(server), { tls: { verify: false } })
    expect(connection.tls?.isAuthorized).to.equal(false)
  })

  it('shows its certificate to a server that asks for one', async () => {
    const server = await foreign({ requestCert: true, ca: made.ca.cert })
    await using connection = await connect(to(server), { tls: { ca: made.ca.cert, ...made.client } })
    expect(await connection.reader.readLine()).to.equal('welcome')
    expect(server.sockets[0]?.authorized).to.equal(true)
  })

  it('timeout covers the handshake, and nothing stays open', async () => {
    const { target, accept } = await rawServer(scope)
    const where = toHostAndPort('127.0.0.1', target as number)
    for (const open of [connect, connectSocket]) {
      const error = await rejection(open(where, { tls: true, timeout: 80 }))
      expect(error)
        .to.be.instanceOf(ConnectTimeoutError)
        .with.property('message')
        .that.matches(/no connection within 80 ms/)
      const peer = await accept()
      await until(() => peer.destroyed || peer.resume().readableEnded)
    }
  })

  it('signal covers the handshake, and nothing stays open', async () => {
    const { target, accept } = await rawServer(scope)
    const where = toHostAndPort('127.0.0.1', target as number)
    for (const open of [connect, connectSocket]) {
      const controller = new AbortController()
      const opening = rejection(open(where, { tls: true, signal: controller.signal }))
      const peer = await accept()
      await once(peer.resume(), 'data')
      const reason = new Error('enough')
      controller.abort(reason)
      expect(await opening).to.equal(reason)
      await until(() => peer.destroyed || peer.readableEnded)
    }
  })

  it('tells a server that ends, resets or speaks no TLS', async () => {
    for (const act of ['end', 'resetAndDestroy', 'write'] as const) {
      for (const open of [connect, connectSocket]) {
        const { target, accept } = await rawServer(scope)
        const opening = rejection(open(toHostAndPort('127.0.0.1', target as number), { tls: true }))
        const peer = await accept()
        await once(peer.resume(), 'data')
        if (act === 'write') peer.write('220 mx.example\r\n')
        else peer[act]()
        const error = await opening
        expect(error, act).to.be.instanceOf(TlsError)
        expect((error as Error).message).to.match(/^Cannot secure the connection with 127\.0\.0\.1:\d+: \S/)
        expect((error as Error).cause).to.be.instanceOf(Error)
      }
    }
  })

  it('goes over a unix socket, with a name', async function () {
    if (process.platform === 'win32') this.skip()
    const path = join(scope.tempDir(), 's')
    await foreign({}, path)
    await using connection = await connect(toFile(path), { tls: { ca: made.ca.cert, serverName: 'a.test' } })
    expect(await connection.reader.readLine()).to.equal('welcome')
    expect(await rejection(connect(toFile(path), { tls: { ca: made.ca.cert } })))
      .to.be.instanceOf(TypeError)
      .with.property('message')
      .that.includes("'serverName'")
  })

  it('tells a truncation by the server', async () => {
    const { target, accept } = await rawServer(scope)
    const opening = connect(toHostAndPort('127.0.0.1', target as number), { tls: { ca: made.ca.cert } })
    const peer = await accept()
    const server = new TLSSocket(peer, { isServer: true, ...made.a })
    scope.defer(() => server.destroy())
    await using connection = await opening
    server.write('half a message', () => peer.end())
    expect(await rejection(connection.reader.readLine())).to.be.instanceOf(TruncatedError)
  })

  for (const [name, tls, value] of [
    ['tls', 'yes', 'yes'],
    ['tls', 1, 1],
    ['tls', null, null],
    ['tls', false, false],
    ['serverName', { serverName: 'a.test..' }, 'a.test..'],
    ['serverName', { serverName: '127.0.0.1' }, '127.0.0.1'],
    ['serverName', { serverName: 'a\0.test' }, 'a\0.test'],
    ['minVersion', { minVersion: 'SSLv3' }, 'SSLv3'],
    ['alpn', { alpn: 'imap' }, 'imap'],
    ['alpn', { alpn: [] }, []]
  ] as const) {
    it(`refuses ${JSON.stringify(tls)} before anything happens`, async () => {
      const where = toHostAndPort('no-such-host.invalid', 1)
      for (const open of [connect, connectSocket]) {
        expectRefusal(await rejection(open(where, { tls: tls as never })), name, 'Cannot connect', value)
      }
    })
  }

  it('refuses a TlsContext before anything happens', async () => {
    const context = TlsContext.create(made.a)
    const where = toHostAndPort('no-such-host.invalid', 1)
    const options = { tls: context as never }
    for (const open of [connect, connectSocket, () => withConnection(where, options, () => {})]) {
      expectRefusal(await rejection(open(where, options)), 'tls', 'Cannot connect', context)
    }
  })

  it('refuses a certificate that is no good before anything happens', async () => {
    for (const tls of [
      { ...made.a, key: made.b.key },
      made.expired,
      made.notYetValid,
      { ...made.a, cert: made.a.cert.slice(0, 300) },
      { ...made.a, cert: '' },
      { ...made.a, key: made.encryptedKey }
    ]) {
      for (const open of [connect, connectSocket]) {
        expect(await rejection(open(toHostAndPort('no-such-host.invalid', 1), { tls })))
          .to.be.instanceOf(TlsError)
          .with.property('message')
          .that.matches(/^Cannot connect as '(?:cert|key)' must /)
      }
    }
  })

  describe('connectSocket', () => {
    it('gives an ordinary TLSSocket, connected and verified, with nothing of ours left on it', async () => {
      const server = await foreign()
      const socket = await connectSocket(to(server), { tls: { ca: made.ca.cert, alpn: ['x'] } })
      scope.defer(() => socket.destroy())
      expect(socket).to.be.instanceOf(TLSSocket)
      expect(socket.authorized).to.equal(true)
      expect(socket.listenerCount('close')).to.be.at.most(2)
      socket.write('hello')
      const data: string[] = []
      socket.on('data', (chunk) => data.push(String(chunk)))
      await until(() => data.join('') === 'welcome\nhello')
      socket.end()
      await once(socket, 'end')
    })

    it('stays open for writing after the end of the server', async () => {
      const server = await foreign()
      const socket = await connectSocket(to(server), { tls: { ca: made.ca.cert } })
      scope.defer(() => socket.destroy())
      await until(() => server.sockets.length === 1)
      const [peer] = server.sockets as [TLSSocket]
      peer.unpipe(peer).resume()
      peer.end()
      expect((await readToEnd(socket)).toString()).to.equal('welcome\n')
      const received = once(peer, 'data')
      socket.write('still here')
      expect(String((await received)[0])).to.equal('still here')
    })
  })
})
