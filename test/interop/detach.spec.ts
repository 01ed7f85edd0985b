import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import { Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { expect } from 'chai'
import { BusyError, type Connection, ConnectionClosedError, ConnectionResetError, onPortChosenByOs, Server } from '../../src/index.ts'
import { machineOf } from '../../src/stream/byte-stream-facade.ts'
import { cutOff } from '../../src/stream/detach.ts'
import { quietWarnings } from '../helpers/quiet.ts'
import { rawClient, readToEnd } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { closed } from '../helpers/settings.ts'
import { openEnds, TOO_MUCH, TRANSPORTS } from '../helpers/transports.ts'
import { turns, until } from '../helpers/until.ts'

/** Destroys the socket, which is the test's, when that ends. */
async function detached(scope: ReturnType<typeof useScope>, connection: Connection): Promise<Socket> {
  const socket = await connection.detach()
  scope.defer(async () => {
    socket.on('error', () => {}).destroy()
    await closed(socket)
  })
  return socket
}

describe('detach()', () => {
  for (const transport of TRANSPORTS) {
    describe(`of ${transport.name}`, () => {
      const scope = useScope()

      it('gives an ordinary socket: nothing has set it flowing, it is not paused, half-open is allowed, and no listener hides its errors', async () => {
        const { connection } = await openEnds(scope, transport)
        const socket = await detached(scope, connection)
        expect(socket).to.be.instanceOf(Socket)
        expect(socket.readableFlowing).to.equal(null)
        expect(socket.isPaused()).to.equal(false)
        expect(socket.allowHalfOpen).to.equal(true)
        const mine = (): void => {}
        socket.on('error', mine)
        expect(socket.listeners('error')).to.deep.equal([mine])
        expect(socket.listenerCount('newListener')).to.equal(0)
      })

      it('what was received and not read comes first from the socket, then the rest, then the end; it still writes after it', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        peer.write('peeked, unread, ')
        expect(await connection.reader.peek(6)).to.deep.equal(new TextEncoder().encode('peeked'))
        await connection.reader.readUntil(',')
        const socket = await detached(scope, connection)
        peer.end('later')
        expect((await readToEnd(socket)).toString()).to.equal(' unread, later')
        socket.end('answer')
        expect((await readToEnd(peer)).toString()).to.equal('answer')
      })

      it('more than its buffer holds, in large chunks, arrives byte for byte', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        const data = Buffer.alloc(5_000_000)
        for (let at = 0; at < data.length; at += 4) data.writeUInt32LE(at, at)
        peer.end(data)
        const head = await connection.reader.readExactly(1_000_000)
        const socket = await detached(scope, connection)
        expect(Buffer.concat([head as Uint8Array, await readToEnd(socket)]).equals(data)).to.equal(true)
      })

      it('an end that was noticed before comes from the socket, too', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        peer.end('all')
        await connection.reader.ended
        const socket = await detached(scope, connection)
        expect((await readToEnd(socket)).toString()).to.equal('all')
        socket.end()
        expect((await readToEnd(peer)).toString()).to.equal('')
      })

      it('what was written is flushed first, also what is written while it waits', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        const large = TOO_MUCH.subarray(0, TOO_MUCH.length / 2)
        connection.writer.write(large)
        const pending = detached(scope, connection)
        connection.writer.write(large)
        connection.writer.write('and this')
        await turns()
        expect(connection.writer.bytesPending).to.be.greaterThan(0)
        const received = readToEnd(peer)
        const socket = await pending
        socket.end(' then mine')
        const all = await received
        expect(all.length).to.equal(TOO_MUCH.length + 'and this then mine'.length)
        expect(all.subarray(TOO_MUCH.length).toString()).to.equal('and this then mine')
      })

      it('reader and writer reject with ConnectionClosedError after it; the socket is not guarded any more', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        const before = connection.socket
        const socket = await detached(scope, connection)
        expect(socket).to.equal(before)
        expect(connection.socket).to.equal(socket)
        expect(await rejection(connection.reader.read())).to.be.instanceOf(ConnectionClosedError)
        expect(() => connection.writer.write('x')).to.throw(ConnectionClosedError)
        expect(await rejection(connection.writer.flushed())).to.be.instanceOf(ConnectionClosedError)
        expect(socket.readableLength).to.equal(0)
        socket.end('x')
        expect((await readToEnd(peer)).toString()).to.equal('x')
      })

      it('close(), abort() and leaving an `await using` scope do nothing after it; `closed` resolves when the socket closes', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        const socket = await detached(scope, connection)
        await connection.close()
        await connection.close({ forceAfter: 0, linger: 0 })
        connection.abort(new Error('nobody cares'))
        await connection[Symbol.asyncDispose]()
        let isClosed = false
        void connection.closed.then(() => {
          isClosed = true
        })
        await turns()
        expect([socket.destroyed, connection.signal.aborted, isClosed]).to.deep.equal([false, false, false])
        peer.end('alive')
        expect(await text(socket)).to.equal('alive')
        socket.destroy()
        await connection.closed
        expect(connection.signal.aborted).to.equal(true)
        await connection.close()
        connection.abort()
      })

      it('a second one rejects with ConnectionClosedError, also while the first waits', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        connection.writer.write(TOO_MUCH)
        const first = detached(scope, connection)
        const second = rejection(connection.detach())
        peer.resume()
        await first
        expect(await second).to.be.instanceOf(ConnectionClosedError)
        expect(await rejection(connection.detach())).to.be.instanceOf(ConnectionClosedError)
      })

      it('a pending read or sink: BusyError, and nothing has happened', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        const read = connection.reader.read()
        expect(await rejection(connection.detach())).to.be.instanceOf(BusyError)
        peer.write('a')
        expect(Buffer.from((await read) as Uint8Array).toString()).to.equal('a')
        let end = (): void => {}
        const sink = connection.writer.writeAll(
          (async function* () {
            yield 'b'
            await new Promise<void>((resolve) => {
              end = resolve
            })
          })()
        )
        await turns()
        expect(await rejection(connection.detach())).to.be.instanceOf(BusyError)
        end()
        await sink
        const socket = await detached(scope, connection)
        socket.end()
        expect((await readToEnd(peer)).toString()).to.equal('b')
      })

      it('a read that begins while it waits for the flush: BusyError', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        connection.writer.write(TOO_MUCH)
        const detaching = rejection(connection.detach())
        const read = connection.reader.read()
        peer.resume()
        expect(await detaching).to.be.instanceOf(BusyError)
        peer.write('a')
        await read
      })

      it('on a closed, aborted or half-closed connection: ConnectionClosedError', async () => {
        const halfClosed = await openEnds(scope, transport)
        await halfClosed.connection.writer.close()
        expect(await rejection(halfClosed.connection.detach())).to.be.instanceOf(ConnectionClosedError)
        const { connection } = await openEnds(scope, transport)
        const closing = connection.close({ linger: 0 })
        expect(await rejection(connection.detach())).to.be.instanceOf(ConnectionClosedError)
        await closing
        expect(await rejection(connection.detach())).to.be.instanceOf(ConnectionClosedError)
        const aborted = await openEnds(scope, transport)
        aborted.connection.abort()
        expect(await rejection(aborted.connection.detach())).to.be.instanceOf(ConnectionClosedError)
      })

      it('ends bufferAgeLimit and idleTimeout', async () => {
        const { connection } = await openEnds(scope, transport, { idleTimeout: 40, bufferAgeLimit: 40 })
        const socket = await detached(scope, connection)
        await new Promise((resolve) => setTimeout(resolve, 120))
        expect(socket.destroyed).to.equal(false)
      })

      it('what a server cuts off includes it', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        const socket = await detached(scope, connection)
        const machine = machineOf(connection) as NonNullable<ReturnType<typeof machineOf>>
        cutOff(machine)
        await connection.closed
        expect(socket.destroyed).to.equal(true)
        await closed(peer.resume().on('end', () => peer.end()))
      })

      if (transport.isTcp) {
        it('on a broken connection rejects with what broke it', async () => {
          const { connection, peer } = await openEnds(scope, transport)
          peer.resetAndDestroy()
          await connection.closed
          const error = await rejection(connection.detach())
          expect(error).to.be.instanceOf(ConnectionResetError)
          expect(connection.signal.reason).to.equal(error)
        })

        it('no error is unhandled between the two owners, whenever the peer resets', async () => {
          for (let moment = 0; moment < 40; moment++) {
            const { connection, peer } = await openEnds(scope, transport)
            const reset = async (): Promise<void> => {
              await turns(moment % 8)
              peer.resetAndDestroy()
            }
            if (moment % 3 === 0) peer.write('some')
            if (moment % 5 === 0) connection.writer.write(TOO_MUCH)
            const outcome = Promise.all([connection.detach().catch((error: unknown) => error), reset()])
            const [result] = await outcome
            // Whoever gets the socket may be slow to listen.
            await turns(moment % 4)
            if (result instanceof Socket) result.destroy()
            else expect(result).to.be.instanceOf(ConnectionResetError)
            await connection.closed
          }
        })

        it('whoever listens for errors in time is told of them, as of any socket', async () => {
          const { connection, peer } = await openEnds(scope, transport)
          const socket = await detached(scope, connection)
          await turns(3)
          const told = once(socket, 'error')
          peer.resetAndDestroy()
          expect((await told)[0]).to.have.property('code', 'ECONNRESET')
        })
      }
    })
  }

  const scope = useScope()

  it('a server holds the slot until the socket closes, also when the handler has ended; closeExistingConnections cuts it off', async () => {
    quietWarnings(scope)
    const sockets: Socket[] = []
    const server = scope.open(
      await Server.create(onPortChosenByOs({ host: '127.0.0.1' }), { maxConnections: 1 }, async (connection) => {
        sockets.push((await connection.detach()).on('error', () => {}))
      })
    )
    const first = await rawClient(scope, server.listeningOn)
    await rawClient(scope, server.listeningOn)
    await until(() => sockets.length === 1)
    await turns()
    expect([sockets.length, server.numConnections]).to.deep.equal([1, 1])
    sockets[0]?.end('bye')
    expect((await readToEnd(first)).toString()).to.equal('bye')
    first.end()
    sockets[0]?.destroy()
    await until(() => sockets.length === 2)
    expect(server.numConnections).to.equal(1)
    await server.close({ closeExistingConnections: true })
    expect(sockets[1]?.destroyed).to.equal(true)
    await server.finished
  })

  it('closing the server and then the idle clients of node:http ends everything', async () => {
    const http = createHttpServer((_, response) => response.end('hello'))
    http.emit('listening')
    const server = scope.open(
      await Server.create(onPortChosenByOs({ host: '127.0.0.1' }), async (connection) => {
        http.emit('connection', await connection.detach())
      })
    )
    const client = await rawClient(scope, server.listeningOn)
    client.on('end', () => client.end())
    client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
    await once(client.resume(), 'data')
    await server.close()
    expect(server.numConnections).to.equal(1)
    http.closeIdleConnections()
    await server.finished
    await closed(client)
    http.close()
  })
})
