import { once } from 'node:events'
import { createServer, request } from 'node:http'
import { Duplex, PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { createGunzip, createGzip, gunzipSync } from 'node:zlib'
import { expect } from 'chai'
import {
  BusyError,
  ConnectionClosedError,
  ConnectionResetError,
  fromDuplex,
  onPort,
  relay,
  Server,
  toDuplex,
  toWebStreams
} from '../../src/index.ts'
import { expectRefusal } from '../helpers/bad-input.ts'
import { rawClient, readToEnd } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { openEnds, openPair, TOO_MUCH, TRANSPORTS } from '../helpers/transports.ts'
import { turns, until } from '../helpers/until.ts'

describe('toDuplex()', () => {
  for (const transport of TRANSPORTS) {
    describe(`of ${transport.name}`, () => {
      const scope = useScope()

      it('reads, writes and half-closes: each end is passed on, and the other direction goes on', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        peer.write('unread, ')
        await connection.reader.peek(1)
        const duplex = toDuplex(connection)
        expect(duplex).to.be.instanceOf(Duplex)
        duplex.end('question')
        expect((await readToEnd(peer)).toString()).to.equal('question')
        peer.end('answer')
        const isClosed = once(duplex, 'close')
        expect(await text(duplex)).to.equal('unread, answer')
        await isClosed
        await connection.closed
        expect(duplex.errored).to.equal(null)
      })

      it('writes after the end of what it reads', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        const duplex = toDuplex(connection)
        peer.end()
        await once(duplex.resume(), 'end')
        await turns()
        duplex.end('late')
        expect((await readToEnd(peer)).toString()).to.equal('late')
      })

      it('backpressure: who does not read holds the peer back, and a peer that does not read holds the writer back', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        const duplex = toDuplex(connection)
        peer.write(TOO_MUCH)
        await turns(50)
        expect(peer.writableLength).to.be.greaterThan(0)
        expect(duplex.readableLength).to.equal(0)
        expect(duplex.write(TOO_MUCH)).to.equal(false)
        let isDrained = false
        duplex.on('drain', () => {
          isDrained = true
        })
        await turns(50)
        expect(isDrained).to.equal(false)
        peer.resume()
        await until(() => isDrained)
        duplex.on('error', () => {}).destroy(new Error('enough'))
      })

      it('takes strings in every encoding, and corked writes together', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        const duplex = toDuplex(connection)
        duplex.cork()
        duplex.write('68c3a9', 'hex')
        duplex.write('é', 'latin1')
        duplex.write(' ünd ')
        duplex.uncork()
        duplex.end(new Uint8Array([33]))
        expect(await readToEnd(peer)).to.deep.equal(Buffer.from('68c3a9e920c3bc6e642021', 'hex'))
      })

      it('destroy() is close({ forceAfter: 0, linger: 0 }): what was written is with the system, the peer sees an end', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        const duplex = toDuplex(connection)
        duplex.write('all')
        await turns(2)
        duplex.destroy()
        await once(duplex, 'close')
        expect((await readToEnd(peer)).toString()).to.equal('all')
        expect(connection.signal.aborted).to.equal(true)
        expect(connection.signal.reason).to.be.instanceOf(ConnectionClosedError)
      })

      it('destroy(error) is abort(error), and closes once the descriptor is closed', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        const duplex = toDuplex(connection)
        const error = new Error('mine')
        const told = once(duplex, 'error')
        const peerError = transport.isTcp ? once(peer, 'error') : undefined
        peer.resume()
        duplex.destroy(error)
        expect((await told)[0]).to.equal(error)
        expect(connection.signal.reason).to.equal(error)
        if (peerError !== undefined) expect((await peerError)[0]).to.have.property('code', 'ECONNRESET')
      })

      if (transport.isTcp) {
        it('a reset is its error, behind what had arrived, for whoever reads', async () => {
          const { connection, peer } = await openEnds(scope, transport)
          const duplex = toDuplex(connection)
          peer.write('arrived')
          await until(() => connection.reader.bytesAvailable === 7)
          peer.resetAndDestroy()
          await connection.closed
          const chunks: string[] = []
          const error = await rejection(
            (async () => {
              for await (const chunk of duplex) chunks.push(String(chunk))
            })()
          )
          expect(error).to.be.instanceOf(ConnectionResetError)
          expect(chunks.join('')).to.equal('arrived')
        })

        it('and for whoever neither reads nor writes', async () => {
          const { connection, peer } = await openEnds(scope, transport)
          const told = once(toDuplex(connection), 'error')
          peer.resetAndDestroy()
          expect((await told)[0]).to.be.instanceOf(ConnectionResetError)
        })
      }

      it('close() and abort() by another hand close it: who listens is told, and otherwise nothing is thrown', async () => {
        for (const end of ['close', 'abort'] as const) {
          for (const isRead of [false, true]) {
            const quiet = await openEnds(scope, transport)
            const duplex = toDuplex(quiet.connection)
            if (isRead) duplex.resume()
            const isClosed = once(duplex, 'close').catch(() => {})
            duplex.removeAllListeners('error')
            quiet.peer.resume().on('end', () => quiet.peer.end())
            void quiet.connection[end]()
            await until(() => duplex.closed)
            await isClosed
            const listening = await openEnds(scope, transport)
            const heard = once(toDuplex(listening.connection), 'error')
            listening.peer.resume().on('end', () => listening.peer.end())
            void listening.connection[end]()
            expect((await heard)[0]).to.be.instanceOf(ConnectionClosedError)
          }
        }
      })

      it('goes through pipeline() in both directions', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        const duplex = toDuplex(connection)
        peer.end('compress me')
        const received = readToEnd(peer)
        await pipeline(duplex, createGzip(), duplex)
        expect(gunzipSync(await received).toString()).to.equal('compress me')
      })

      it('has what a client expects of a socket', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        const duplex = toDuplex(connection)
        expect(duplex.setNoDelay(true).setKeepAlive(true, 1000).unref().ref()).to.equal(duplex)
        expect(duplex.connecting).to.equal(false)
        if (transport.isTcp) {
          expect([duplex.remoteAddress, duplex.remotePort, duplex.remoteFamily]).to.deep.equal(['127.0.0.1', peer.localPort, 'IPv4'])
          expect([duplex.localAddress, duplex.localPort]).to.deep.equal(['127.0.0.1', peer.remotePort])
        } else {
          expect([duplex.remoteAddress, duplex.remotePort, duplex.localAddress]).to.deep.equal([undefined, undefined, undefined])
        }
        duplex.resume()
        peer.write('abc')
        await until(() => duplex.bytesRead === 3)
        duplex.write('de')
        await until(() => duplex.bytesWritten === 2)
        duplex.destroy()
      })

      it("setTimeout() tells of silence by 'timeout', once to the callback, and does no more; 0 is never", async () => {
        const { connection, peer } = await openEnds(scope, transport)
        const duplex = toDuplex(connection).resume()
        let calls = 0
        duplex.setTimeout(60, () => calls++)
        let longest = 0
        let last = performance.now()
        for (let i = 0; i < 4; i++) {
          peer.write('x')
          await new Promise((resolve) => setTimeout(resolve, 25))
          longest = Math.max(longest, performance.now() - last)
          last = performance.now()
        }
        // On a machine that was busy elsewhere it was silent for long enough.
        if (longest < 50) expect(calls).to.equal(0)
        await until(() => calls === 1)
        expect([calls, duplex.destroyed, duplex.timeout]).to.deep.equal([1, false, 60])
        duplex.setTimeout(10, () => calls++)
        duplex.setTimeout(0)
        await new Promise((resolve) => setTimeout(resolve, 40))
        expect(calls).to.equal(1)
      })
    })
  }

  const scope = useScope()

  it('is what http.get() can talk through, and what a server of node:http can serve', async () => {
    const http = createServer((incoming, response) => response.end(`answer to ${incoming.url} from ${incoming.socket.remoteAddress}`))
    scope.defer(() => http.close())
    const server = scope.open(
      await Server.create(onPort(0, { host: '127.0.0.1' }), (connection) => {
        http.emit('connection', toDuplex(connection))
        return connection.closed
      })
    )
    const { client } = await openPair(scope, true)
    client.abort()
    const raw = await rawClient(scope, server.listeningOn)
    raw.end('GET /raw HTTP/1.0\r\n\r\n')
    expect((await readToEnd(raw)).toString()).to.match(/answer to \/raw from 127\.0\.0\.1$/)
    const { connect, toHostAndPort } = await import('../../src/index.ts')
    const duplex = toDuplex(await connect(toHostAndPort('127.0.0.1', server.listeningOn)))
    const outgoing = request({ path: '/duplex', createConnection: () => duplex as never })
    outgoing.end()
    const [response] = await once(outgoing, 'response')
    expect(await text(response)).to.equal('answer to /duplex from 127.0.0.1')
  })

  it('of a stream without a socket has no addresses, and its settings do nothing', async () => {
    const stream = fromDuplex(new PassThrough())
    const duplex = toDuplex(stream)
    expect(duplex.setNoDelay().setKeepAlive().ref().unref().remoteAddress).to.equal(undefined)
    const gunzip = createGunzip()
    duplex.pipe(gunzip)
    createGzip().end('there and back').pipe(duplex)
    expect(await text(gunzip)).to.equal('there and back')
    await stream.closed
  })

  it('passes on how it was destroyed, through fromDuplex() and back', async () => {
    const { client, server } = await openPair(scope, true)
    const stream = fromDuplex(toDuplex(client))
    stream.abort(new Error('mine'))
    expect(await rejection(server.reader.read())).to.be.instanceOf(ConnectionResetError)
  })

  it('belongs to one stream only: another one, web streams and a relay are refused, and nothing has happened', async () => {
    const { client, server } = await openPair(scope, true)
    const duplex = toDuplex(client)
    expect(() => toDuplex(client)).to.throw(BusyError, "'connection' belongs to another stream already")
    expect(() => toWebStreams(client)).to.throw(BusyError)
    expect(await rejection(relay(client, server))).to.be.instanceOf(BusyError)
    duplex.end('still works')
    expect(await server.reader.readLine()).to.equal('still works')
  })

  it('refuses what is no connection, or a closed, detached or busy one', async () => {
    for (const value of [undefined, null, 42, {}, new PassThrough()]) {
      try {
        toDuplex(value as never)
        expect.fail('accepted')
      } catch (error) {
        if (!(value instanceof PassThrough)) expectRefusal(error, 'connection', 'Cannot make a Duplex', value)
        else expect(error).to.be.instanceOf(TypeError)
      }
    }
    const { client, server } = await openPair(scope, true)
    const read = client.reader.read()
    expect(() => toDuplex(client)).to.throw(BusyError)
    server.writer.write('x')
    await read
    const sink = rejection(
      client.writer(
        (async function* () {
          await new Promise(() => {})
        })()
      )
    )
    await turns()
    expect(() => toDuplex(client)).to.throw(BusyError)
    client.abort()
    await sink
    expect(() => toDuplex(client)).to.throw(ConnectionClosedError)
    const socket = await (await openPair(scope, true)).server.detach().catch((error) => error)
    socket.destroy()
  })
})
