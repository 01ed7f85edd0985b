import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls, type ConnectionOptions as NodeOptions } from 'node:tls'
import { inspect } from 'node:util'
import { expect } from 'chai'
import type { SocketAddress } from '../../src/address.ts'
import type { Connection } from '../../src/connection.ts'
import { HandshakeTimeoutError, TlsError, TruncatedError } from '../../src/errors.ts'
import { listen } from '../../src/listen.ts'
import type { ServerOptions } from '../../src/options.ts'
import { Server } from '../../src/server.ts'
import { TlsContext } from '../../src/tls-context.ts'
import { onPort, onPortChosenByOs } from '../../src/where-to-listen.ts'
import { expectRefusal } from '../helpers/bad-input.ts'
import { type Certificates, useCertificates } from '../helpers/certificates.ts'
import { CAN_COUNT_DESCRIPTORS, descriptors } from '../helpers/descriptors.ts'
import { closeAtEnd, rawClient } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { VERSIONS } from '../helpers/tls-ends.ts'
import { longHello } from '../helpers/tls-pair.ts'
import { turns, until } from '../helpers/until.ts'

describe('a server with tls', () => {
  let made: Certificates

  before(function () {
    made = useCertificates(this)
  })

  const scope = useScope()

  interface Served {
    readonly server: Server<SocketAddress, unknown>
    readonly port: number
    readonly handled: Connection[]
    readonly errors: unknown[]
  }

  /** Echoes; the errors of handlers and of those who were turned away are kept. */
  const serve = async (options: Partial<ServerOptions<SocketAddress>> = {}): Promise<Served> => {
    const handled: Connection[] = []
    const errors: unknown[] = []
    const server = await Server.create(
      onPortChosenByOs({ host: '127.0.0.1' }),
      {
        tls: TlsContext.create(made.a),
        onHandlerError: (_address: SocketAddress, error: unknown) => errors.push(error),
        ...options
      } as never,
      async (connection: Connection) => {
        handled.push(connection)
        await connection.writer(connection.reader)
      }
    )
    scope.defer(() => server.close({ closeExistingConnections: true }))
    return { server: server as never, port: server.listeningOn as number, handled, errors }
  }
  const client = async (port: number, options: NodeOptions = {}): Promise<ReturnType<typeof connectTls>> => {
    const socket = connectTls({ port, host: '127.0.0.1', ca: made.ca.cert, servername: 'a.test', ...options })
    closeAtEnd(scope, socket)
    await once(socket, 'secureConnect')
    return socket
  }

  /** Where whoever tried to listen would be told so. */
  const takenPort = async (): Promise<ReturnType<typeof onPort>> => {
    const { listeningOn } = scope.open(await listen(onPortChosenByOs({ host: '127.0.0.1' })))
    return onPort(listeningOn, { host: '127.0.0.1' })
  }

  for (const version of VERSIONS) {
    it(`calls the handler when the handshake over ${version} is done`, async () => {
      const { port, handled, errors } = await serve()
      const socket = await client(port, { maxVersion: version })
      socket.write('hello')
      expect(String((await once(socket, 'data'))[0])).to.equal('hello')
      expect(handled[0]?.tls).to.include({ version, serverName: 'a.test' })
      socket.end()
      await once(socket, 'end')
      expect(errors).to.deep.equal([])
    })
  }

  it('accept() gives connections that are secured', async () => {
    const listening = scope.open(await listen(onPortChosenByOs({ host: '127.0.0.1' }), { tls: TlsContext.create(made.a) }))
    const accepted = listening.accept()
    const socket = await client(listening.listeningOn)
    const connection = await accepted
    expect(connection.tls?.serverName).to.equal('a.test')
    socket.write('x')
    expect(await connection.reader.read()).to.have.length(1)
    connection.abort()
    await connection.closed
  })

  it('a silent client is turned away by one deadline, which bytes do not prolong, and its slot is free again', async () => {
    const { server, port, handled, errors } = await serve({ handshakeTimeout: 400, maxConnections: 2 })
    const silent = await rawClient(scope, port)
    const slow = await rawClient(scope, port)
    const hello = longHello()
    const start = performance.now()
    let sent = 0
    await until(() => {
      if (sent < performance.now() - start && slow.writable) slow.write(hello.subarray(sent, ++sent))
      return errors.length === 2
    }, 'both are turned away, though one of them goes on sending')
    expect(sent).to.be.greaterThan(10)
    for (const error of errors) expect(error).to.be.instanceOf(HandshakeTimeoutError)
    expect(handled).to.deep.equal([])
    await until(() => server.numConnections === 0)
    const socket = await client(port)
    socket.write('x')
    await once(socket, 'data')
    for (const each of [silent, slow]) each.destroy()
  })

  it('behind 100 silent clients at maxConnections the next one waits in the kernel, costs nothing, and has its turn after one deadline', async () => {
    const { server, port } = await serve({ handshakeTimeout: 1_000, maxConnections: 100, warnAtLimit: false })
    const silent = await Promise.all(Array.from({ length: 100 }, () => rawClient(scope, port)))
    await until(() => server.numConnections === 100)
    await turns(3)
    const before = descriptors()
    const socket = connectTls({ port, host: '127.0.0.1', ca: made.ca.cert, servername: 'a.test' })
    closeAtEnd(scope, socket)
    await once(socket, 'connect')
    await turns(20)
    expect(server.numConnections).to.equal(100)
    expect(server.statistics().accepted).to.equal(100)
    // The client's own.
    if (CAN_COUNT_DESCRIPTORS) expect(descriptors()).to.equal(before + 1)
    expect(socket.authorized).to.equal(false)
    await once(socket, 'secureConnect')
    for (const each of silent) each.destroy()
  })

  it('there are never more handlers than maxConnections, however slow the handshakes are', async () => {
    let running = 0
    let most = 0
    let goOn = (): void => {}
    const wait = new Promise<void>((resolve) => {
      goOn = resolve
    })
    const options = { tls: TlsContext.create(made.a), maxConnections: 3, warnAtLimit: false }
    const server = await Server.create(onPortChosenByOs({ host: '127.0.0.1' }), options, async () => {
      most = Math.max(most, ++running)
      await wait
      running--
    })
    scope.defer(() => server.close({ closeExistingConnections: true }))
    const raw: Socket[] = []
    for (let count = 0; count < 12; count++) raw.push(await rawClient(scope, server.listeningOn))
    await until(() => server.numConnections === 3)
    // Those who still wait in the kernel are the first to say hello.
    const secured = raw.reverse().map((socket) => {
      const tls = connectTls({ socket, ca: made.ca.cert, servername: 'a.test' })
      closeAtEnd(scope, tls)
      tls.resume().on('end', () => tls.end())
      return once(tls, 'secureConnect')
    })
    await until(() => running === 3)
    await turns(20)
    expect([running, server.numConnections]).to.deep.equal([3, 3])
    goOn()
    await Promise.all(secured)
    expect(most).to.equal(3)
  })

  it('replace of its context holds for every client that comes later, also where contextFor chooses', async () => {
    for (const contextFor of [undefined, () => undefined]) {
      const tls = TlsContext.create({ ...made.a, ...(contextFor && { contextFor }) })
      const { port } = await serve({ tls })
      for (const identity of [made.a, made.a2, made.a]) {
        tls.replace(identity)
        const { serialNumber } = new X509Certificate(identity.cert)
        expect((await client(port)).getPeerX509Certificate()?.serialNumber).to.equal(serialNumber)
      }
    }
  })

  for (const [name, act] of Object.entries({
    'sends nonsense': (socket: Socket) => socket.write(Buffer.alloc(500, 0xaa)),
    'speaks HTTP': (socket: Socket) => socket.write('GET / HTTP/1.1\r\n\r\n'),
    ends: (socket: Socket) => socket.end(),
    'ends inside its hello': (socket: Socket) => socket.end(Buffer.from('160301020001', 'hex'))
  })) {
    it(`a client that ${name} is turned away with a TlsError, and nothing is raised`, async () => {
      const { server, port, handled, errors } = await serve()
      act(await rawClient(scope, port))
      await until(() => errors.length === 1)
      expect(errors[0]).to.be.instanceOf(TlsError)
      expect(handled).to.deep.equal([])
      expect(server.statistics().turnedAway.handshake).to.equal(1)
      const strict = await serve({ onHandlerError: 'raise' })
      act(await rawClient(scope, strict.port))
      await until(() => strict.server.statistics().turnedAway.handshake === 1)
      const socket = await client(strict.port)
      socket.write('x')
      await once(socket, 'data')
    })
  }

  it('hundreds of handshakes that fail leave nothing open', async function () {
    this.timeout(30_000)
    const tls = TlsContext.create({ ...made.a, alpn: ['imap'] })
    const { server, port, handled } = await serve({ tls, maxConnections: 20, onHandlerError: 'raise' })
    const before = descriptors()
    const raw = (act: (socket: Socket) => void): Promise<void> =>
      new Promise((resolve) => {
        const socket = connectTcp(port, '127.0.0.1', () => act(socket))
        socket
          .on('error', () => {})
          .on('end', () => socket.end())
          .on('close', () => resolve())
        socket.resume()
      })
    const kinds = [
      (socket: Socket) => socket.write(Buffer.alloc(500, 0xaa)),
      (socket: Socket) => socket.end(),
      (socket: Socket) => socket.end(Buffer.from('160301020001', 'hex')),
      (socket: Socket) => socket.resetAndDestroy(),
      (socket: Socket) => connectTls({ socket, servername: 'a.test', ALPNProtocols: ['smtp'], ca: made.ca.cert }).on('error', () => {}),
      (socket: Socket) => connectTls({ socket, servername: 'a.test', ca: made.strangersCa.cert }).on('error', () => socket.destroy())
    ]
    const next = Array.from({ length: 300 }, (_, index) => kinds[index % kinds.length] as (typeof kinds)[number])
    await Promise.all(
      Array.from({ length: 30 }, async () => {
        for (let kind = next.pop(); kind !== undefined; kind = next.pop()) await raw(kind)
      })
    )
    await until(() => server.numConnections === 0)
    await until(() => descriptors() <= before, 'no descriptor is left open')
    const { accepted, dropped, turnedAway, served } = server.statistics()
    expect(accepted).to.equal(dropped + turnedAway.handshake + served)
    expect(turnedAway.handshake).to.be.at.least(200)
    expect(handled.length).to.equal(served)
  })

  it('a PROXY header comes before the hello, in the same segment or not', async () => {
    const { port, handled } = await serve({ proxyProtocol: { from: ['127.0.0.1'] } })
    for (const isTogether of [true, false]) {
      const raw = await rawClient(scope, port)
      if (isTogether) raw.cork()
      raw.write('PROXY TCP4 192.0.2.1 192.0.2.2 1000 465\r\n')
      const socket = connectTls({ socket: raw, ca: made.ca.cert, servername: 'a.test' })
      closeAtEnd(scope, socket)
      if (isTogether) setImmediate(() => raw.uncork())
      await once(socket, 'secureConnect')
      socket.write('x')
      await once(socket, 'data')
      const connection = handled.at(-1) as Connection
      expect(connection.remoteAddress).to.include({ address: '192.0.2.1', port: 1000 })
      expect(connection.reader.bytesRead).to.equal(1)
    }
  })

  it('a contextFor that throws turns away that client and nobody else, also under raise', async () => {
    const tls = TlsContext.create({
      ...made.a,
      contextFor(name) {
        if (name === 'b.test') throw new Error('no such customer')
        return undefined
      }
    })
    const { server, port, handled } = await serve({ tls, onHandlerError: 'raise' })
    expect(await rejection(client(port, { servername: 'b.test' }))).to.be.instanceOf(Error)
    await until(() => server.statistics().turnedAway.handshake === 1)
    const socket = await client(port)
    socket.write('x')
    await once(socket, 'data')
    expect(handled).to.have.length(1)
  })

  it('a contextFor that never answers costs that client its deadline, and nobody else anything', async () => {
    const contextFor = (name: string): Promise<undefined> | undefined => (name === 'b.test' ? new Promise(() => {}) : undefined)
    const tls = TlsContext.create({ ...made.a, contextFor })
    const { server, port, handled, errors } = await serve({ tls, handshakeTimeout: 500, maxConnections: 2 })
    const waiting = rejection(client(port, { servername: 'b.test' }))
    await until(() => server.numConnections === 1)
    const socket = await client(port)
    socket.write('x')
    await once(socket, 'data')
    expect(errors).to.deep.equal([])
    expect(await waiting).to.be.instanceOf(Error)
    await until(() => errors.length === 1 && server.numConnections === 1)
    expect(errors[0]).to.be.instanceOf(HandshakeTimeoutError)
    expect(handled).to.have.length(1)
  })

  it('a truncation that a handler is told is excused', async () => {
    const { port, handled } = await serve({ onHandlerError: 'raise' })
    const raw = await rawClient(scope, port)
    const socket = connectTls({ socket: raw, ca: made.ca.cert, servername: 'a.test' })
    closeAtEnd(scope, socket)
    await once(socket, 'secureConnect')
    await until(() => handled.length === 1)
    raw.end()
    await until(() => handled[0]?.signal.aborted)
    const again = await client(port)
    again.write('x')
    await once(again, 'data')
    expect(new TruncatedError('')).to.be.instanceOf(TruncatedError)
  })

  for (const tls of ['yes', true, null, {}] as const) {
    it(`refuses ${inspect(tls)} as tls, before it listens`, async () => {
      const where = await takenPort()
      expectRefusal(await rejection(listen(where, { tls: tls as never })), 'tls', 'Cannot listen', tls)
      expectRefusal(await rejection(Server.create(where, { tls: tls as never }, () => {})), 'tls', 'Cannot listen', tls)
    })
  }

  it("refuses a client's options before it listens, without quoting a key", async () => {
    const where = await takenPort()
    const options = { tls: { ...made.a, serverName: 'a.test' } as never }
    for (const start of [() => listen(where, options), () => Server.create(where, options, () => {})]) {
      expect(await rejection(start()))
        .to.be.instanceOf(TypeError)
        .with.property(
          'message',
          "Cannot listen as 'tls' must be made by TlsContext.create: received { cert: …, key: …, serverName: 'a.test' }"
        )
    }
  })
})
