import { once } from 'node:events'
import { createConnection, createServer } from 'node:net'
import { expect } from 'chai'
import {
  type Connection,
  connect,
  HandshakeTimeoutError,
  type InetAddress,
  onPort,
  Server,
  type ServerOptions,
  TlsContext,
  TlsError,
  TruncatedError,
  toHostAndPort
} from '../../src/index.ts'
import { type Certificates, useCertificates } from '../helpers/certificates.ts'
import { closeAtEnd, rawClient, rawServer } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import type { Handler } from '../helpers/settings.ts'
import { turns, until } from '../helpers/until.ts'
import { runtime } from './differences.ts'

const HOST = '127.0.0.1'
const MUCH = 4 * 1024 * 1024
const CHUNK = new Uint8Array(65_536)

// What users are told of TLS in docs/runtimes.md, each on the runtime at hand.
describe('TLS on every runtime', function () {
  this.timeout(20_000)
  const scope = useScope()
  let made: Certificates

  before(function () {
    made = useCertificates(this)
  })

  async function serve(handler: Handler, options: ServerOptions<InetAddress> = {}) {
    const errors: unknown[] = []
    const tls = TlsContext.create(made.a)
    const onHandlerError = (_: unknown, error: unknown): void => void errors.push(error)
    const server = await Server.create(onPort(0, { host: HOST }), { tls, onHandlerError, ...options }, handler)
    scope.defer(() => server.close({ closeExistingConnections: true }))
    return { port: server.listeningOn, errors, server }
  }

  async function dial(port: number): Promise<Connection> {
    const connection = await connect(toHostAndPort(HOST, port), { tls: { ca: made.ca.cert, serverName: 'a.test' }, timeout: 8_000 })
    scope.defer(() => connection.abort())
    return connection
  }

  /** A relay that can cut off what goes to either side. */
  async function relayTo(port: number) {
    const ends: { toClient?: () => void; toServer?: () => void } = {}
    const relay = createServer({ allowHalfOpen: true }, (near) => {
      const far = createConnection(port, HOST)
      closeAtEnd(scope, near)
      closeAtEnd(scope, far)
      near.on('data', (chunk) => far.write(chunk))
      far.on('data', (chunk) => near.write(chunk))
      ends.toClient = () => near.end()
      ends.toServer = () => far.end()
    })
    relay.listen(0, HOST)
    await once(relay, 'listening')
    scope.defer(() => relay.close())
    return { port: (relay.address() as { port: number }).port, ends }
  }

  it('a line goes both ways, verified', async () => {
    const { port } = await serve(({ reader, writer }) => writer(reader))
    const connection = await dial(port)
    connection.writer.write('hello\n')
    expect(await connection.reader.readLine({ timeout: 5_000 })).to.equal('hello')
    expect(connection.tls?.isAuthorized).to.equal(true)
  })

  it('a server that is somebody else is refused', async () => {
    const { port } = await serve(({ reader }) => reader.discard())
    const options = { tls: { ca: made.ca.cert, serverName: 'b.test' } }
    expect(await rejection(connect(toHostAndPort(HOST, port), options))).to.be.instanceOf(TlsError)
  })

  it('an end with close_notify is an end, without it a truncation, on either side', async () => {
    const told: unknown[] = []
    let heard = 0
    const tell = async ({ reader }: Connection): Promise<void> => {
      if ((await reader.peek(6)) !== null) heard++
      told.push(
        await reader.readAll({ maxLength: 100 }).then(
          ({ byteLength }) => byteLength,
          (error) => error
        )
      )
    }
    const { port } = await serve(tell)
    const orderly = await dial(port)
    orderly.writer.write('hello\n')
    await orderly.close()
    await until(() => told.length === 1, 'the end is told')
    expect(told[0]).to.equal(6)

    const toServer = await relayTo(port)
    const cut = await dial(toServer.port)
    cut.writer.write('hello\n')
    await until(() => heard === 2, 'it has arrived')
    toServer.ends.toServer?.()
    await until(() => told.length === 2, 'the truncation is told')
    expect(told[1]).to.be.instanceOf(TruncatedError)

    const greeting = await serve(async ({ writer, closed }) => {
      writer.write('hello')
      await closed
    })
    const toClient = await relayTo(greeting.port)
    const client = await dial(toClient.port)
    expect(await client.reader.readExactly(5)).to.have.length(5)
    toClient.ends.toClient?.()
    expect(await rejection(client.reader.read({ timeout: 5_000 }))).to.be.instanceOf(TruncatedError)
  })

  it('an answer to a client that has ended arrives whole; on Bun the handler is told that it does not', async () => {
    const { port, errors } = await serve(async ({ reader, writer }) => {
      await reader.discard()
      writer.write(new Uint8Array(MUCH))
      await writer.close()
    })
    const connection = await dial(port)
    connection.writer.write('question')
    await connection.writer.close()
    const answer = connection.reader.readAll({ maxLength: MUCH, timeout: 10_000 })
    if (runtime === 'bun') {
      await answer.catch(() => {})
      await until(() => errors.length === 1, 'the handler is told')
      expect(errors[0]).to.have.property('code', 'ERR_CONNECTION_RESET')
    } else expect((await answer).byteLength).to.equal(MUCH)
  })

  it('a sink waits for a peer that does not read', async () => {
    let pulled = 0
    const { port } = await serve(({ writer }) => writer(endless()))
    const connection = await dial(port)
    await connection.reader.readExactly(1)
    let last = -1
    await until(async () => {
      const isStill = pulled === last
      last = pulled
      await turns(200)
      return isStill
    }, 'it stands still')
    expect(pulled).to.be.lessThan(32 * 1024 * 1024)

    function* endless(): Generator<Uint8Array> {
      for (;;) {
        pulled += CHUNK.byteLength
        yield CHUNK
      }
    }
  })

  it('strangers and silent clients are turned away, and the process lives', async () => {
    const { port, errors, server } = await serve(() => {}, { handshakeTimeout: 500 })
    const stranger = await rawClient(scope, port)
    stranger.resume().write('GET / HTTP/1.0\r\n\r\n')
    await rawClient(scope, port)
    await until(() => errors.length === 2, 'both are turned away')
    expect(errors[0]).to.be.instanceOf(TlsError)
    expect(errors[1]).to.be.instanceOf(HandshakeTimeoutError)
    expect([server.isClosed, server.numConnections]).to.deep.equal([false, 0])
  })

  it('STARTTLS goes on in TLS, and plaintext that was slipped in is never read', async () => {
    const errors: unknown[] = []
    const context = TlsContext.create(made.a)
    const onHandlerError = (_: unknown, error: unknown): void => void errors.push(error)
    const server = await Server.create(onPort(0, { host: HOST }), { onHandlerError }, async (connection) => {
      await connection.reader.readLine()
      connection.writer.write('go ahead\n')
      await connection.startTls(context)
      connection.writer.write(`Hello, ${await connection.reader.readLine()}\n`)
    })
    scope.defer(() => server.close({ closeExistingConnections: true }))
    const connection = await connect(toHostAndPort(HOST, server.listeningOn))
    scope.defer(() => connection.abort())
    connection.writer.write('STARTTLS\n')
    await connection.reader.readLine()
    await connection.startTls({ ca: made.ca.cert, serverName: 'a.test' })
    connection.writer.write('world\n')
    expect(await connection.reader.readLine({ timeout: 5_000 })).to.equal('Hello, world')

    const attacker = await rawClient(scope, server.listeningOn)
    attacker.resume().write('STARTTLS\nevil\n')
    await until(() => errors.length === 1, 'the handshake has failed')
    expect(errors[0]).to.be.instanceOf(TlsError)
  })

  it('what does not hold is refused: client certificates, and giving the socket away, where it is not on a handle of Node.js', async () => {
    const create = (): TlsContext => TlsContext.create({ ...made.a, ca: made.ca.cert, clientCert: 'required' })
    const { port, errors } = await serve(async (connection) => {
      const socket = await connection.detach()
      socket.on('error', () => {}).destroy()
    })
    await dial(port)
    if (runtime === 'node') {
      create()
      return
    }
    expect(create).to.throw(TypeError, "'clientCert' must be 'none' on this runtime")
    await until(() => errors.length === 1, 'it is refused')
    expect(errors[0]).to.be.instanceOf(TypeError)
  })

  it('a client that does not read holds its server back', async () => {
    // Over a raw relay that counts, so that nobody else's buffers matter.
    const { port } = await serve(async ({ writer, closed }) => {
      writer.write(new Uint8Array(32 * 1024 * 1024))
      await closed
    })
    const relay = await rawServer(scope)
    const accepted = relay.accept()
    const dialled = dial(Number(relay.target))
    const near = await accepted
    const far = await rawClient(scope, port)
    near.pipe(far)
    far.pipe(near)
    const connection = await dialled
    await connection.reader.readExactly(1)
    let last = -1
    await until(async () => {
      const isStill = far.bytesRead === last
      last = far.bytesRead
      await turns(200)
      return isStill
    }, 'it stands still')
    expect(far.bytesRead).to.be.lessThan(24 * 1024 * 1024)
  })
})
