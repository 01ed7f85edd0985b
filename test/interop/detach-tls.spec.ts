import { once } from 'node:events'
import { createServer, request } from 'node:https'
import type { Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { TLSSocket } from 'node:tls'
import { expect } from 'chai'
import {
  BusyError,
  type ByteStream,
  ConnectionClosedError,
  onPort,
  relay,
  Server,
  TlsContext,
  toDuplex,
  toWebStreams
} from '../../src/index.ts'
import { type Certificates, useCertificates } from '../helpers/certificates.ts'
import { quietWarnings } from '../helpers/quiet.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { closed } from '../helpers/settings.ts'
import { plainPair, secure, tlsPair } from '../helpers/tls-pair.ts'
import { until } from '../helpers/until.ts'

const SLOTS = 3
const CLIENTS = 100

describe('Over TLS', () => {
  let made: Certificates

  before(function () {
    made = useCertificates(this)
  })

  const scope = useScope()

  it('detach() gives a TLSSocket, from which what was not read comes first', async () => {
    const { client, server } = await tlsPair(scope, made)
    client.writer.write('head\nbody')
    expect(await server.reader.readLine()).to.equal('head')
    const before = server.socket
    const socket = await server.detach()
    scope.defer(async () => {
      socket.destroy()
      await closed(socket)
    })
    expect(socket).to.be.instanceOf(TLSSocket)
    expect(socket).to.equal(before)
    await client.writer.close()
    const received: Buffer[] = []
    socket.on('data', (chunk: Buffer) => received.push(chunk))
    await once(socket, 'end')
    expect(Buffer.concat(received).toString()).to.equal('body')
    socket.end('answer')
    expect(await client.reader.readLine()).to.equal('answer')
    expect(await rejection(server.detach())).to.be.instanceOf(ConnectionClosedError)
    expect(await rejection(server.reader.read())).to.be.instanceOf(ConnectionClosedError)
    await client.close()
    socket.destroy()
    await server.closed
  })

  it('node:https serves 100 clients through 3 slots', async function () {
    this.timeout(30_000)
    quietWarnings(scope)
    let now = 0
    let most = 0
    const https = createServer({}, async ({ url, socket }, response) => {
      most = Math.max(most, ++now)
      await new Promise((resolve) => setTimeout(resolve, 5))
      now--
      response.end(`answer to ${url}, encrypted: ${(socket as TLSSocket).encrypted}`)
    })
    https.emit('listening')
    scope.defer(() => https.close())
    const server = scope.open(
      await Server.create(
        onPort(0, { host: '127.0.0.1' }),
        { tls: TlsContext.create(made.a), maxConnections: SLOTS },
        async (connection) => {
          expect((await connection.reader.peek(3))?.byteLength).to.equal(3)
          https.emit('secureConnection', await connection.detach())
        }
      )
    )
    const ask = async (number: number): Promise<string> => {
      const outgoing = request({ port: server.listeningOn, host: '127.0.0.1', path: `/${number}`, agent: false, ca: made.ca.cert })
      outgoing.end()
      const [response] = await once(outgoing, 'response')
      return await text(response)
    }
    const answers = await Promise.all(Array.from({ length: CLIENTS }, (_, number) => ask(number)))
    expect(answers).to.deep.equal(answers.map((_, number) => `answer to /${number}, encrypted: true`))
    expect(most).to.be.at.most(SLOTS)
    await until(() => server.numConnections === 0)
  })

  it('connection.socket is guarded, and looking at it changes nothing', async () => {
    const { client, server } = await tlsPair(scope, made)
    const misuses: readonly ((socket: Socket) => unknown)[] = [
      (socket) => socket.write('x'),
      (socket) => socket.on('data', () => {}),
      (socket) => socket.pipe(socket),
      (socket) => new TLSSocket(socket)
    ]
    for (const misuse of misuses) expect(() => misuse(server.socket)).to.throw(BusyError, /connection\.detach\(\)$/)
    await client.writer(['question'])
    expect(await server.reader.readLine()).to.equal('question')
    expect(await server.reader.readLine()).to.equal(null)
    await server.writer(['answer'])
    expect(await client.reader.readLine()).to.equal('answer')
    await Promise.all([client.closed, server.closed])
  })

  it('startTls() goes on though somebody has looked at connection.socket before', async () => {
    const pair = await plainPair(scope)
    const { client, server } = pair
    expect(client.socket.setNoDelay(true)).to.equal(client.socket)
    expect(server.socket.destroyed).to.equal(false)
    await secure(pair, made)
    client.writer.write('encrypted\n')
    expect(await server.reader.readLine()).to.equal('encrypted')
    expect(() => client.socket.write('x')).to.throw(BusyError)
  })

  it('toDuplex(), toWebStreams() and relay() keep half-close', async () => {
    const first = await tlsPair(scope, made)
    const duplex = toDuplex(first.server)
    await first.client.writer(['over a Duplex'])
    duplex.pipe(duplex)
    expect(await first.client.reader.readLine()).to.equal('over a Duplex')

    const second = await tlsPair(scope, made)
    const { readable, writable } = toWebStreams(second.server)
    await second.client.writer(['over web streams'])
    await readable.pipeTo(writable)
    expect(await second.client.reader.readLine()).to.equal('over web streams')

    const left = await tlsPair(scope, made)
    const right = await plainPair(scope)
    const relayed = relay(left.server as ByteStream, right.client)
    await left.client.writer(['question'])
    expect(await right.server.reader.readLine()).to.equal('question')
    expect(await right.server.reader.readLine()).to.equal(null)
    await right.server.writer(['answer'])
    expect(await left.client.reader.readLine()).to.equal('answer')
    expect(await relayed).to.deep.equal({ aToB: 8, bToA: 6 })
  })
})
