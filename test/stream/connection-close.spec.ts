import type { Socket } from 'node:net'
import { inspect } from 'node:util'
import { expect } from 'chai'
import { type Connection, ConnectionClosedError, type ConnectionOptions, connect, toHostAndPort } from '../../src/index.ts'
import { expectRefusal } from '../helpers/bad-input.ts'
import { BAD_DELAYS, disposed, expectCutOff, expectReset, pause, REPLY, sendEndlessly } from '../helpers/connection-cases.ts'
import { rawServer, readToEnd } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { transcript } from '../helpers/transcript.ts'
import { type Ends, EVERY_TRANSPORT, openEnds, TOO_MUCH } from '../helpers/transports.ts'
import { turns, until } from '../helpers/until.ts'

describe('Connection', () => {
  for (const transport of EVERY_TRANSPORT) {
    describe(`is ${transport.name}`, () => {
      const scope = useScope()
      const open = (options?: ConnectionOptions): Promise<Ends> => openEnds(scope, transport, options)

      describe('law 2: close() flushes, sends FIN, then reads and throws away until the peer has ended, then closes the descriptor', () => {
        it('close() hands over everything that was written, then ends', async () => {
          const { connection, peer } = await open()
          connection.writer.write('begin')
          connection.writer.write(TOO_MUCH)
          connection.writer.write('end')
          const closed = connection.close()
          const arrived = await readToEnd(peer)
          peer.end()
          await closed
          expect(arrived.byteLength).to.equal(TOO_MUCH.byteLength + 8)
          expect(`${arrived.subarray(-3)}`).to.equal('end')
        })

        it('close() does not close the descriptor before the peer has ended, and does when it has', async () => {
          const { connection, peer } = await open()
          const record = transcript()
          const closed = connection.close().then(() => record('closed'))
          await readToEnd(peer)
          await turns()
          expect(record.lines).to.deep.equal([])
          expect(connection.signal.aborted).to.equal(false)
          record('peer ends')
          peer.end('thrown away')
          await closed
          expect(record.lines).to.deep.equal(['peer ends', 'closed'])
        })

        it('close() does not lose a reply in flight though there is unread input, and more comes', async () => {
          for (let round = 0; round < 5; round++) {
            const { connection, peer } = await open()
            peer.write(Buffer.alloc(500_000, 'unread'))
            await until(() => connection.reader.bytesAvailable > 0)
            connection.writer.write(REPLY)
            const closed = connection.close()
            peer.write(Buffer.alloc(500_000, 'more'))
            await turns()
            // Only now does the peer begin to read.
            const arrived = await readToEnd(peer)
            expect(arrived.equals(REPLY)).to.equal(true)
            peer.end()
            await closed
            expect(connection.signal.reason).to.be.instanceOf(ConnectionClosedError)
          }
        })

        it('close() waits 2 s for the peer to end, not longer', async () => {
          const { connection, peer } = await open()
          const record = transcript()
          const closed = connection.close().then(() => record('closed'))
          await readToEnd(peer)
          // Timers fire in the order in which they are due, however late.
          await Promise.all([closed, pause(1_800).then(() => record('almost 2 s')), pause(3_000).then(() => record('3 s'))])
          expect(record.lines).to.deep.equal(['almost 2 s', 'closed', '3 s'])
          expect(connection.signal.reason).to.be.instanceOf(ConnectionClosedError)
        })

        it('close() waits no longer for a peer that never stops sending, or after any kind of half-close', async () => {
          const prepare: ((connection: Connection, peer: Socket) => unknown)[] = [
            (_, peer) => sendEndlessly(peer),
            ({ writer }) => writer.close(),
            ({ writer }) => void writer.close(),
            ({ writer }) => writer([Buffer.from('all')]),
            async (connection) => {
              await connection.writer.close()
              // Each further call gives the peer no more time.
              const timer = setInterval(() => void connection.close(), 500)
              scope.defer(() => clearInterval(timer))
            }
          ]
          await Promise.all(
            prepare.map(async (start) => {
              const { connection, peer } = await open()
              await start(connection, peer)
              await connection.close()
              expect(connection.signal.reason).to.be.instanceOf(ConnectionClosedError)
            })
          )
        })

        it('close() called again, at once or later, gives the same promise', async () => {
          const { connection, peer } = await open()
          peer.resume().end()
          const closed = connection.close()
          expect(connection.close()).to.equal(closed)
          expect(connection.close({ forceAfter: 5_000 })).to.equal(closed)
          await closed
          expect(connection.close()).to.equal(closed)
        })

        it('close() after abort() resolves if nothing was lost', async () => {
          const { connection } = await open()
          connection.abort()
          await connection.close()
        })

        it('close() resolves though the peer has reset the connection, if nothing was lost', async () => {
          const { connection, peer } = await open()
          connection.writer.write('handed over')
          await connection.writer.flushed()
          await breakOff(connection, peer)
          await connection.closed
          await connection.close()
        })

        it('close() rejects with the cause if the connection breaks before written bytes are handed over', async () => {
          const { connection, peer } = await open()
          connection.writer.write(TOO_MUCH)
          const closed = rejection(connection.close())
          await turns()
          await breakOff(connection, peer, false)
          const error = await closed
          expectReset(error)
          expect(connection.signal.reason).to.equal(error)
        })

        it('close() rejects with the cause if the connection broke before, with bytes not handed over', async () => {
          const { connection, peer } = await open()
          connection.writer.write(TOO_MUCH)
          await breakOff(connection, peer, false)
          await connection.closed
          expectReset(await rejection(connection.close()))
        })

        it('close() rejects with ConnectionClosedError when forceAfter has passed, and aborts', async () => {
          const { connection, peer } = await open()
          connection.writer.write(TOO_MUCH)
          const flushed = rejection(connection.writer.flushed())
          const error = await rejection(connection.close({ forceAfter: 50 }))
          expect(error).to.be.instanceOf(ConnectionClosedError)
          expect(connection.signal.reason).to.be.instanceOf(ConnectionClosedError)
          expect(await flushed).to.be.instanceOf(ConnectionClosedError)
          if (transport.isTcp) await expectCutOff(peer, TOO_MUCH.byteLength)
        })

        it('close() with forceAfter 0 aborts at once what is not handed over, and keeps what is', async () => {
          const { connection: full } = await open()
          full.writer.write(TOO_MUCH)
          expect(await rejection(full.close({ forceAfter: 0 }))).to.be.instanceOf(ConnectionClosedError)
          const { connection, peer } = await open()
          connection.writer.write('handed over')
          const closed = connection.close({ forceAfter: 0 })
          const arrived = readToEnd(peer)
          expect(`${await arrived}`).to.equal('handed over')
          peer.end()
          await closed
          expect(connection.signal.reason).to.have.property('message', 'The connection is closed')
        })

        it('close() with forceAfter keeps what is handed over, though the event loop is held up', async () => {
          const { connection, peer } = await open()
          // The next turn then begins with the timers.
          await turns(1)
          connection.writer.write('handed over')
          // Over TLS it is known a turn later.
          if (transport.tls === undefined) expect(connection.writer.bytesPending).to.equal(0)
          const closed = connection.close({ forceAfter: 1 })
          const start = performance.now()
          while (performance.now() - start < 20);
          expect(`${await readToEnd(peer)}`).to.equal('handed over')
          peer.end()
          await closed
          expect(connection.signal.reason).to.have.property('message', 'The connection is closed')
        })

        it('close() with forceAfter bounds the flush, not the time that the peer is given to end', async () => {
          const { connection, peer } = await open()
          const closed = connection.close({ forceAfter: 20 })
          await readToEnd(peer)
          await pause(200)
          expect(connection.signal.aborted).to.equal(false)
          peer.end()
          await closed
        })

        it('close() called again with a shorter forceAfter escalates, with a longer one changes nothing', async () => {
          const { connection } = await open()
          connection.writer.write(TOO_MUCH)
          const closed = rejection(connection.close())
          void connection.close({ forceAfter: 50 })
          void connection.close({ forceAfter: 100_000 })
          expect(await closed).to.be.instanceOf(ConnectionClosedError)
        })

        it('close() with forceAfter beyond what a timer can hold does not fire at once', async () => {
          const { connection, peer } = await open()
          connection.writer.write(TOO_MUCH)
          const closed = connection.close({ forceAfter: 2 ** 40 })
          await pause(50)
          expect(connection.signal.aborted).to.equal(false)
          peer.resume().end()
          await closed
        })

        it('close() with forceAfter Infinity waits for a peer that takes its time', async () => {
          const { connection, peer } = await open()
          connection.writer.write(TOO_MUCH)
          const closed = connection.close({ forceAfter: Number.POSITIVE_INFINITY })
          await turns()
          peer.resume().end()
          await closed
        })

        it('close() rejects a pending read with ConnectionClosedError at once, and later reads', async () => {
          const { connection, peer } = await open()
          const record = transcript()
          const read = rejection(connection.reader.read()).then((error) => {
            record('read')
            return error
          })
          const closed = connection.close().then(() => record('closed'))
          const error = await read
          expect(error).to.be.instanceOf(ConnectionClosedError).with.property('code', 'ERR_CONNECTION_CLOSED')
          expect(await rejection(connection.reader.read())).to.be.instanceOf(ConnectionClosedError)
          expect(await rejection(connection.reader[Symbol.asyncIterator]().next())).to.be.instanceOf(ConnectionClosedError)
          peer.resume().end('too late')
          await closed
          expect(record.lines).to.deep.equal(['read', 'closed'])
          expect(await rejection(connection.reader.read())).to.be.instanceOf(ConnectionClosedError)
        })

        it('close() makes buffered bytes unreadable', async () => {
          const { connection, peer } = await open()
          peer.end('buffered')
          await until(() => connection.reader.bytesAvailable > 0)
          const closed = connection.close()
          expect(await rejection(connection.reader.read())).to.be.instanceOf(ConnectionClosedError)
          await closed
        })

        it('a write after close() throws ConnectionClosedError, also if the connection was broken before', async () => {
          const { connection, peer } = await open()
          peer.resume().end()
          const closed = connection.close()
          expect(() => connection.writer.write('late')).to.throw(ConnectionClosedError)
          await closed
          expect(() => connection.writer.write('late')).to.throw(ConnectionClosedError)
          const { connection: broken, peer: other } = await open()
          await breakOff(broken, other)
          await broken.closed
          await broken.close()
          expect(() => broken.writer.write('late')).to.throw(ConnectionClosedError)
          expect(await rejection(broken.reader.read())).to.be.instanceOf(ConnectionClosedError)
        })

        it('close() ends an echo in an orderly way: the peer sees all that was echoed, and the end', async () => {
          const { connection, peer } = await open()
          const sink = rejection(connection.sink(connection.source))
          // More than a peer that does not read has room for, on TCP: a reset would lose what is on its way.
          const sent = Buffer.alloc(100_000, 'echo this')
          peer.write(sent)
          await until(() => connection.writer.bytesWritten === sent.byteLength)
          const closed = connection.close()
          const arrived = await readToEnd(peer)
          peer.end()
          await closed
          expect(await sink).to.be.instanceOf(ConnectionClosedError)
          expect(connection.signal.reason).to.be.instanceOf(ConnectionClosedError)
          expect(arrived.equals(sent)).to.equal(true)
        })

        for (const value of BAD_DELAYS) {
          it(`close() refuses ${inspect(value)} as forceAfter, and leaves the connection open`, async () => {
            const { connection, peer } = await open()
            expectRefusal(await rejection(connection.close({ forceAfter: value as never })), 'forceAfter', 'Cannot close', value)
            connection.writer.write('still open')
            await connection.writer.close()
            expect(`${await readToEnd(peer)}`).to.equal('still open')
          })
        }

        for (const value of [42, null, 'now']) {
          it(`close() refuses ${inspect(value)} as options, and leaves the connection open`, async () => {
            const { connection } = await open()
            expectRefusal(await rejection(connection.close(value as never)), 'options', 'Cannot close', value)
            expect(connection.writer.isClosed).to.equal(false)
          })
        }

        it('leaving an await using scope closes', async () => {
          const { connection, peer } = await open()
          const arrived = readToEnd(peer)
          peer.end()
          {
            await using held = connection
            held.writer.write('last words')
          }
          expect(connection.signal.aborted).to.equal(true)
          expect(`${await arrived}`).to.equal('last words')
        })

        it(`leaving an await using scope ${transport.isAccepted ? 'does not throw' : 'throws'} if bytes were lost`, async () => {
          const { connection, peer } = await open()
          connection.writer.write(TOO_MUCH)
          await breakOff(connection, peer, false)
          const dispose = disposed(connection)
          if (transport.isAccepted) await dispose
          else expectReset(await rejection(dispose))
        })

        it('leaving an await using scope does not throw for lost bytes of which a flush has told', async () => {
          const { connection, peer } = await open()
          connection.writer.write(TOO_MUCH)
          const flushed = rejection(connection.writer.flushed())
          await breakOff(connection, peer, false)
          expectReset(await flushed)
          await connection[Symbol.asyncDispose]()
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

  describe('of 100 connections at once', () => {
    const scope = useScope()

    it('leaves nothing open, however each of them ends', async () => {
      const server = await rawServer(scope)
      await Promise.all(
        Array.from({ length: 100 }, async (_, i) => {
          const connection = await connect(toHostAndPort('127.0.0.1', server.target as number))
          const peer = await server.accept()
          peer.resume()
          connection.writer.write('x'.repeat(i * 1_000))
          if (i % 4 === 0) connection.abort()
          else if (i % 4 === 1) peer.resetAndDestroy()
          else if (i % 4 === 2) peer.end()
          else void connection.writer.close()
          if (i % 4 > 1) peer.end()
          await connection.close().catch(() => {})
          expect(connection.signal.aborted).to.equal(true)
        })
      )
    })
  })
})
