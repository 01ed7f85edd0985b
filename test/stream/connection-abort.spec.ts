import type { Socket } from 'node:net'
import { expect } from 'chai'
import {
  BufferAgeLimitError,
  type Connection,
  ConnectionClosedError,
  type ConnectionOptions,
  connect,
  IdleTimeoutError,
  onPortChosenByOs,
  Server,
  toHostAndPort
} from '../../src/index.ts'
import {
  expectAborted,
  expectCutOff,
  expectReset,
  IPPROTO_TCP,
  ignore,
  pause,
  peerSees,
  socketOption,
  TCP_NODELAY,
  writeUntilThrown
} from '../helpers/connection-cases.ts'
import { skipIf } from '../helpers/programs.ts'
import { readToEnd } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { type Ends, EVERY_TRANSPORT, openEnds, TOO_MUCH } from '../helpers/transports.ts'
import { turns, until } from '../helpers/until.ts'

describe('Connection', () => {
  for (const transport of EVERY_TRANSPORT) {
    describe(`is ${transport.name}`, () => {
      const scope = useScope()
      const open = (options?: ConnectionOptions): Promise<Ends> => openEnds(scope, transport, options)

      describe('law 4: when the end of the peer has been noticed and the writer is closed, the descriptor is released by itself', () => {
        it('is released when the writer closes after the FIN; buffered bytes stay readable, then the end', async () => {
          const { connection, peer } = await open()
          peer.end('buffered')
          const arrived = readToEnd(peer)
          await connection.reader.ended
          connection.writer.write('reply')
          await connection.writer.close()
          await connection.closed
          expect(connection.signal.reason).to.be.instanceOf(ConnectionClosedError)
          expect(`${await arrived}`).to.equal('reply')
          expect(connection.reader.bytesAvailable).to.equal(8)
          expect(await connection.reader.readLine()).to.equal('buffered')
          expect(await connection.reader.read()).to.equal(null)
          expect(await connection.reader.read()).to.equal(null)
          await connection.close()
        })

        it('is released when the FIN comes after the writer has closed; buffered bytes stay readable, then the end', async () => {
          const { connection, peer } = await open()
          await connection.writer.close()
          await readToEnd(peer)
          peer.end('buffered')
          await connection.closed
          expect(connection.signal.reason).to.be.instanceOf(ConnectionClosedError)
          expect(await connection.reader.readLine()).to.equal('buffered')
          expect(await connection.reader.read()).to.equal(null)
          expect(await connection.reader.read()).to.equal(null)
        })

        it('is released at the end of an echo, without a close()', async () => {
          const { connection, peer } = await open()
          const arrived = readToEnd(peer)
          peer.end(Buffer.alloc(2_000_000, 'echo'))
          await connection.sink(connection.source)
          await connection.closed
          expect((await arrived).equals(Buffer.alloc(2_000_000, 'echo'))).to.equal(true)
        })

        it('is not released while only the peer has ended: the writer goes on', async () => {
          const { connection, peer } = await open()
          peer.end()
          const arrived = readToEnd(peer)
          expect(await connection.reader.read()).to.equal(null)
          for (let i = 0; i < 10; i++) {
            connection.writer.write(`${i}`)
            await connection.writer.flushed()
            await turns(2)
          }
          expect(connection.signal.aborted).to.equal(false)
          await connection.writer.close()
          expect(`${await arrived}`).to.equal('0123456789')
        })

        it('is not released while only the writer has closed: the reader goes on', async () => {
          const { connection, peer } = await open()
          await connection.writer.close()
          await readToEnd(peer)
          for (let i = 0; i < 10; i++) {
            peer.write(`${i}\n`)
            expect(await connection.reader.readLine()).to.equal(`${i}`)
          }
          expect(connection.signal.aborted).to.equal(false)
          peer.end()
          expect(await connection.reader.read()).to.equal(null)
          await connection.closed
        })

        it('is not released before the FIN is read, behind more than the reader has room for', async () => {
          const { connection, peer } = await open({ readerBufferSize: 1_000 })
          peer.resume().end(Buffer.alloc(60_000, 'x'))
          await connection.writer.close()
          await turns()
          expect(connection.signal.aborted).to.equal(false)
          expect((await connection.reader.readAll()).byteLength).to.equal(60_000)
          await connection.closed
        })
      })

      describe('law 5: TCP_NODELAY is on', () => {
        it('TCP_NODELAY is on', async function () {
          skipIf(this, !transport.isTcp || transport.isMemory === true, 'only TCP has it')
          skipIf(this, transport.tls?.closeNotify === 'optional', 'needs a handle')
          const noDelay = await socketOption(IPPROTO_TCP, TCP_NODELAY)
          skipIf(this, noDelay === undefined, 'needs Linux and koffi')
          const { connection, peer } = await open()
          expect(noDelay?.(connection.socket)).to.equal(1)
          // What is looked at does tell: a plain socket has it off.
          if (transport.tls === undefined) expect(noDelay?.(peer)).to.equal(0)
          // A TLS socket of Node's does not know that the one under it has it on.
          connection.socket.setNoDelay(true).setNoDelay(false)
          expect(noDelay?.(connection.socket)).to.equal(0)
        })
      })

      describe('law 6: after abort(reason) all reject with ConnectionClosedError whose cause is the reason', () => {
        it(`abort() is ${transport.isTcp ? 'a reset' : 'an end'} for the peer`, async () => {
          const { connection, peer } = await open()
          const seen = peerSees(peer)
          connection.abort()
          expect(await seen).to.equal(transport.isTcp ? 'ECONNRESET' : 'end')
        })

        it('abort(reason) rejects reads, flushes and sinks that are pending', async () => {
          const { connection } = await open()
          const { reader, writer } = connection
          const reason = new Error('mine')
          const waiting = [reader.read(), writer([TOO_MUCH]), writer.flushed()].map(rejection)
          connection.abort(reason)
          for (const error of await Promise.all(waiting)) expectAborted(error, reason)
        })

        it('abort(reason) rejects reads, flushes, writes and sinks that come later', async () => {
          const { connection } = await open()
          const { reader, writer } = connection
          const reason = { any: 'value' }
          const read = rejection(reader.read())
          connection.abort(reason)
          expectAborted(await read, reason)
          for (const wait of [false, true]) {
            if (wait) await connection.closed
            expectAborted(await rejection(reader.read()), reason)
            expectAborted(await rejection(reader[Symbol.asyncIterator]().next()), reason)
            expectAborted(await rejection(writer.flushed()), reason)
            expectAborted(await rejection(writer([])), reason)
            expectAborted(await rejection(writer.writeAll([])), reason)
            expectAborted(await rejection(writer.close()), reason)
            expect(() => writer.write('late'))
              .to.throw(ConnectionClosedError)
              .with.property('cause', reason)
          }
          expect(connection.signal.reason).to.equal(reason)
          expect(writer.isClosed).to.equal(true)
          await connection.close()
        })

        it('abort() without a reason rejects with a ConnectionClosedError without a cause: signal.reason', async () => {
          const { connection } = await open()
          const read = rejection(connection.reader.read())
          connection.abort()
          const error = await read
          expect(error).to.be.instanceOf(ConnectionClosedError).and.not.have.property('cause')
          expect(connection.signal.aborted).to.equal(false)
          await connection.closed
          expect(connection.signal.reason).to.equal(error)
        })

        it('abort() closes a connection whose peer takes nothing, and drops what waits', async () => {
          const { connection, peer } = await open()
          connection.writer.write(TOO_MUCH)
          await turns()
          connection.abort()
          await connection.closed
          expect(connection.writer.bytesPending).to.be.greaterThan(0)
          if (transport.isTcp) await expectCutOff(peer, TOO_MUCH.byteLength)
        })

        it('abort() drops buffered bytes', async () => {
          const { connection, peer } = await open()
          peer.write('buffered')
          await until(() => connection.reader.bytesAvailable > 0)
          connection.abort('mine')
          expectAborted(await rejection(connection.reader.read()), 'mine')
          expect(connection.reader.bytesAvailable).to.equal(0)
        })

        it('abort() called again changes nothing', async () => {
          const { connection } = await open()
          connection.abort('first')
          connection.abort('second')
          await connection.closed
          connection.abort('third')
          expect(connection.signal.reason).to.equal('first')
          expectAborted(await rejection(connection.reader.read()), 'first')
        })

        it('abort() after an orderly close changes nothing', async () => {
          const { connection, peer } = await open()
          peer.resume().end()
          await connection.close()
          connection.abort('late')
          expect(connection.signal.reason).to.be.instanceOf(ConnectionClosedError).and.not.have.property('cause')
          await connection.close()
        })

        it('abort() after a failed write tells later calls of the abort', async () => {
          const { connection, peer } = await open({ readerBufferSize: 1_000 })
          await new Promise((resolve) => peer.write(Buffer.alloc(60_000, 'x'), resolve))
          await until(() => connection.reader.bytesAvailable >= 1_000)
          await breakOff(connection, peer)
          expectReset(await writeUntilThrown(connection))
          expect(connection.signal.aborted).to.equal(false)
          connection.abort('mine')
          await connection.closed
          expectAborted(await rejection(connection.reader.read()), 'mine')
          expectAborted(await rejection(connection.writer.flushed()), 'mine')
          expect(() => connection.writer.write('late'))
            .to.throw(ConnectionClosedError)
            .with.property('cause', 'mine')
        })

        for (const [when, wait] of Object.entries({
          'in the same turn': () => {},
          'a microtask later': () => Promise.resolve(),
          'a turn later': () => turns(1)
        })) {
          it(`abort() after writer.close(), ${when}, closes the descriptor`, async () => {
            for (let round = 0; round < 20; round++) {
              const { connection, peer } = await open()
              connection.writer.write('x')
              void connection.writer.close()
              await wait()
              connection.abort('mine')
              await connection.closed
              expect(connection.signal.reason).to.equal('mine')
              expect(connection.socket?.destroyed).to.not.equal(false)
              peer.destroy()
            }
          })

          it(`abort() after close(), ${when}, closes the descriptor and settles close()`, async () => {
            for (let round = 0; round < 20; round++) {
              const { connection, peer } = await open()
              connection.writer.write('x')
              const closed = connection.close()
              await wait()
              connection.abort('mine')
              // Over TLS nobody knows so soon that the byte is with the system.
              await (transport.tls === undefined ? closed : closed.catch(ignore))
              expect(connection.signal.aborted).to.equal(true)
              peer.destroy()
            }
          })
        }

        it('abort() while close() still flushes makes it reject', async () => {
          const { connection } = await open()
          connection.writer.write(TOO_MUCH)
          const closed = rejection(connection.close())
          await turns()
          connection.abort('mine')
          expectAborted(await closed, 'mine')
        })

        it('abort() in the listener of its own signal, or in a handler of closed, is harmless', async () => {
          const { connection, peer } = await open()
          connection.signal.addEventListener('abort', () => connection.abort('listener'))
          peer.resume().end()
          await connection.close()
          await connection.closed.then(() => connection.abort('handler'))
          expect(connection.signal.reason).to.be.instanceOf(ConnectionClosedError).and.not.have.property('cause')
        })
      })

      describe('idleTimeout: no byte either way for this long ends the connection', () => {
        it('aborts a silent connection with IdleTimeoutError', async () => {
          const { connection, peer } = await open({ idleTimeout: 50 })
          const seen = peerSees(peer)
          const error = await rejection(connection.reader.read())
          expect(error).to.be.instanceOf(IdleTimeoutError).with.property('code', 'ERR_IDLE_TIMEOUT')
          expect((error as Error).message).to.match(/^No byte was sent to or received from .+ for 50 ms$/)
          await connection.closed
          expect(connection.signal.reason).to.equal(error)
          expect(() => connection.writer.write('late')).to.throw(IdleTimeoutError)
          expect(await seen).to.equal(transport.isTcp ? 'ECONNRESET' : 'end')
        })

        it('aborts with IdleTimeoutError while nobody waits, and tells the next call', async () => {
          const { connection } = await open({ idleTimeout: 50 })
          await connection.closed
          expect(connection.signal.reason).to.be.instanceOf(IdleTimeoutError)
          expect(await rejection(connection.reader.read())).to.equal(connection.signal.reason)
          expect(await rejection(connection.writer.flushed())).to.equal(connection.signal.reason)
        })

        // The rest takes its time, and who has dialled makes no difference to it.
        if (transport.isAccepted) return

        it('aborts a connection whose peer has ended and vanished', async () => {
          const { connection, peer } = await open({ idleTimeout: 50 })
          peer.end()
          await connection.reader.ended
          await connection.closed
          expect(connection.signal.reason).to.be.instanceOf(IdleTimeoutError)
        })

        it('keeps a connection that only receives, and one that only sends', async () => {
          const limit = 800
          const [receiving, sending] = [await open({ idleTimeout: limit }), await open({ idleTimeout: limit })]
          sending.peer.resume()
          const end = performance.now() + 2 * limit
          while (performance.now() < end) {
            receiving.peer.write('x')
            sending.connection.writer.write('x')
            await pause(limit / 8)
          }
          expect(receiving.connection.signal.aborted).to.equal(false)
          expect(sending.connection.signal.aborted).to.equal(false)
        })

        it('has no limit by default', async () => {
          const { connection } = await open()
          await pause(100)
          expect(connection.signal.aborted).to.equal(false)
        })

        it('together with bufferAgeLimit, the first that passes tells', async () => {
          const { connection } = await open({ idleTimeout: 10_000, bufferAgeLimit: 50 })
          connection.writer.write(TOO_MUCH)
          await connection.closed
          expect(connection.signal.reason).to.be.instanceOf(BufferAgeLimitError)
        })
      })

      // Breaks the connection, as the peer, so that a reader notices: a TCP peer resets; a unix peer goes while it has something unread.
      async function breakOff(connection: Connection, peer: Socket, leaveUnread = true): Promise<void> {
        if (transport.isTcp) {
          peer.resetAndDestroy()
          return
        }
        if (leaveUnread && connection.writer.bytesPending === 0) {
          connection.writer.write('unread')
          await connection.writer.flushed()
        }
        peer.destroy()
      }
    })
  }
})

describe('Connection whose socket somebody destroys, which is not supported', () => {
  it('tells it to a pending flush, also after the peer has ended', async () => {
    const server = await Server.create(onPortChosenByOs({ host: '127.0.0.1' }), async (connection) => {
      await connection.writer.close()
      await connection.closed
    })
    const connection = await connect(toHostAndPort('127.0.0.1', server.listeningOn))
    await connection.reader.ended
    connection.writer.write(new Uint8Array(64 * 1024 * 1024))
    const flushed = connection.writer.flushed()
    connection.socket.destroy()
    expect(await rejection(flushed)).to.be.instanceOf(ConnectionClosedError)
    expect(connection.signal.reason).to.have.property('message', 'The socket was destroyed')
    await server.close({ closeExistingConnections: true })
  })
})
