import { once } from 'node:events'
import { Socket } from 'node:net'
import { inspect } from 'node:util'
import { expect } from 'chai'
import {
  BufferAgeLimitError,
  type Connection,
  ConnectionClosedError,
  type ConnectionOptions,
  ConnectionResetError,
  connect,
  IdleTimeoutError,
  onPortChosenByOs,
  Server,
  toHostAndPort
} from '../src/index.ts'
import { expectRefusal } from './helpers/bad-input.ts'
import { CAN_COUNT_DESCRIPTORS, openDescriptors } from './helpers/descriptors.ts'
import { skipIf } from './helpers/programs.ts'
import { rawServer, readToEnd } from './helpers/raw.ts'
import { rejection } from './helpers/rejection.ts'
import { useScope } from './helpers/scope.ts'
import { transcript } from './helpers/transcript.ts'
import { type Ends, openEnds, TOO_MUCH, WITH_MEMORY } from './helpers/transports.ts'
import { turns, until } from './helpers/until.ts'

const BAD_DELAYS: readonly unknown[] = [-1, Number.NaN, Number.NEGATIVE_INFINITY, '1000', null]
const REPLY = Buffer.alloc(300_000, 'reply')

type Activity = (connection: Connection) => void

/** What may be going on when the peer misbehaves. What a test starts here it watches only where every user has to. */
const ACTIVITIES: Record<string, Activity> = {
  nothing() {},
  'a read'({ reader }) {
    reader.read().catch(ignore)
  },
  'a write that waits'({ writer }) {
    writer.write(TOO_MUCH)
  },
  'a flush that nobody watches'({ writer }) {
    writer.write(TOO_MUCH)
    void writer.flushed()
  },
  'a half-close that nobody watches'({ writer }) {
    writer.write('x')
    void writer.close()
  },
  'a close that nobody watches'(connection) {
    connection.writer.write('x')
    void connection.close()
  },
  'a sink'({ writer }) {
    writer([TOO_MUCH, TOO_MUCH]).catch(ignore)
  },
  'a sink whose source hangs'({ writer }) {
    writer({ [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}) }) }).catch(ignore)
  },
  'an echo'({ source, sink }) {
    sink(source).catch(ignore)
  },
  'promises for the end'({ reader, closed, signal }) {
    void reader.ended
    void closed
    void signal
  },
  'an abort'(connection) {
    connection.writer.write(TOO_MUCH)
    connection.abort()
  }
}

/** What a peer can do, or what the network makes of it; over a unix socket a reset is a mere end. */
const MISBEHAVIOURS: Record<string, (peer: Socket) => unknown> = {
  resets: leave,
  'sends and resets at once'(peer) {
    peer.write('last words')
    leave(peer)
  },
  async 'sends, and resets when that is gone'(peer) {
    await new Promise((resolve) => peer.write(Buffer.alloc(200_000), resolve))
    leave(peer)
  },
  ends(peer) {
    peer.end('last words')
  },
  async 'ends, then resets'(peer) {
    await new Promise<void>((resolve) => peer.end(resolve))
    leave(peer)
  },
  async 'ends, then resets some time later'(peer) {
    peer.end()
    await turns()
    leave(peer)
  },
  vanishes(peer) {
    peer.destroy()
  },
  async 'reads some and vanishes'(peer) {
    peer.read()
    await turns()
    peer.destroy()
  }
}

describe('Connection', () => {
  for (const transport of WITH_MEMORY) {
    describe(`is ${transport.name}`, () => {
      const scope = useScope()
      const open = (options?: ConnectionOptions): Promise<Ends> => openEnds(scope, transport, options)

      describe('a duplex', () => {
        it('source is the reader, sink is the writer, socket is the net.Socket', async () => {
          const { connection } = await open()
          expect(connection.source).to.equal(connection.reader)
          expect(connection.sink).to.equal(connection.writer)
          if (transport.isMemory === true) expect(connection.socket).to.equal(undefined)
          else expect(connection.socket).to.be.instanceOf(Socket)
        })

        it('remoteAddress and localAddress stay readable after it is closed', async () => {
          const { connection, peer } = await open()
          const { remoteAddress, localAddress } = connection
          expect(remoteAddress.family).to.equal(transport.isTcp ? 'IPv4' : 'unix')
          expect(localAddress.family).to.equal(remoteAddress.family)
          if (remoteAddress.family === 'IPv4') {
            expect(remoteAddress).to.deep.equal({ family: 'IPv4', address: '127.0.0.1', port: peer.localPort })
            expect(localAddress).to.deep.equal({ family: 'IPv4', address: '127.0.0.1', port: peer.remotePort })
          }
          connection.abort()
          await connection.closed
          expect(connection.remoteAddress).to.deep.equal(remoteAddress)
          expect(connection.localAddress).to.deep.equal(localAddress)
        })
      })

      describe('law 1: no socket error is ever unhandled and none is lost', () => {
        it('a reset reaches the pending read and signal.reason: the same error', async () => {
          const { connection, peer } = await open()
          const read = rejection(connection.reader.read())
          await breakOff(connection, peer)
          const error = await read
          expectReset(error)
          await connection.closed
          expect(connection.signal.reason).to.equal(error)
        })

        it('a reset reaches a pending iteration', async () => {
          const { connection, peer } = await open()
          const iterator = connection.reader[Symbol.asyncIterator]()
          const next = rejection(iterator.next())
          await breakOff(connection, peer)
          expectReset(await next)
        })

        it('a reset reaches the pending flush and signal.reason: the same error', async () => {
          const { connection, peer } = await open()
          connection.writer.write(TOO_MUCH)
          const flushed = rejection(connection.writer.flushed())
          await breakOff(connection, peer)
          const error = await flushed
          expectReset(error)
          await connection.closed
          expect(connection.signal.reason).to.equal(error)
        })

        it('a reset reaches the pending sink and signal.reason: the same error', async () => {
          const { connection, peer } = await open()
          const sink = rejection(connection.sink({ [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}) }) }))
          await breakOff(connection, peer)
          const error = await sink
          expectReset(error)
          await connection.closed
          expect(connection.signal.reason).to.equal(error)
        })

        it('a reset reaches everybody who waits: read, flush and sink', async () => {
          const { connection, peer } = await open()
          const { reader, writer } = connection
          const waiting = [reader.read(), writer([TOO_MUCH]), writer.flushed()].map(rejection)
          await breakOff(connection, peer, false)
          const [first, ...others] = await Promise.all(waiting)
          expectReset(first)
          for (const error of others) expect(error).to.equal(first)
        })

        it('a reset that nobody waits for reaches the next read, write and flush', async () => {
          const { connection, peer } = await open()
          await breakOff(connection, peer)
          await connection.closed
          const { reason } = connection.signal
          expectReset(reason)
          expect(await rejection(connection.reader.read())).to.equal(reason)
          expect(() => connection.writer.write('late'))
            .to.throw(ConnectionResetError)
            .that.equals(reason)
          expect(await rejection(connection.writer.flushed())).to.equal(reason)
          expect(await rejection(connection.reader.readLine())).to.equal(reason)
        })

        it('ended resolves, and closed never rejects, when the connection breaks', async () => {
          const { connection, peer } = await open()
          const { ended } = connection.reader
          const { closed } = connection
          await breakOff(connection, peer)
          await ended
          await closed
          await connection.reader.ended
          await connection.closed
        })

        it('a close() that nobody watches is no unhandled rejection when bytes are lost', async () => {
          const { connection, peer } = await open()
          connection.writer.write(TOO_MUCH)
          void connection.close()
          void connection.writer.close()
          await breakOff(connection, peer, false)
          await connection.closed
          void connection.close()
        })

        for (const [misbehaviour, misbehave] of Object.entries(MISBEHAVIOURS)) {
          it(`nothing is unhandled, and everything ends, whatever was going on when the peer ${misbehaviour}`, async () => {
            const record = transcript()
            const play = async (activity: string, start: Activity, dispose: boolean): Promise<void> => {
              const { connection, peer } = await open()
              start(connection)
              await misbehave(peer)
              await turns()
              const closed = connection.close({ forceAfter: 100 })
              await (dispose ? disposed(connection) : closed).catch(ignore)
              await connection.closed
              if (!connection.signal.aborted || connection.socket?.destroyed === false) record(`${activity}: still open`)
              peer.destroy()
            }
            const plays = Object.entries(ACTIVITIES)
            await Promise.all(plays.map(([activity, start]) => play(activity, start, false)))
            await Promise.all(plays.map(([activity, start]) => play(activity, start, true)))
            await turns()
            expect(record.lines).to.deep.equal([])
          })
        }
      })

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
          expect(connection.writer.bytesPending).to.equal(0)
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

      describe('law 3: signal is aborted exactly when the descriptor closes', () => {
        it('signal is aborted when the descriptor is gone, and not before', async function () {
          skipIf(this, !CAN_COUNT_DESCRIPTORS || transport.isMemory === true, 'needs a descriptor, and /proc/self/fd')
          const { connection, peer } = await open()
          const fd = descriptorOf(connection.socket)
          let isOpenAtAbort: boolean | undefined
          connection.signal.addEventListener('abort', () => {
            isOpenAtAbort = openDescriptors().has(fd)
          })
          const closed = connection.close()
          await readToEnd(peer)
          await turns()
          expect([connection.signal.aborted, openDescriptors().has(fd)]).to.deep.equal([false, true])
          peer.end()
          await closed
          expect([connection.signal.aborted, isOpenAtAbort]).to.deep.equal([true, false])
        })

        it('signal and closed come together, before close() resolves', async () => {
          const { connection, peer } = await open()
          const record = transcript()
          connection.signal.addEventListener('abort', () => record('signal'))
          const closed = connection.closed.then(() => record('closed'))
          const closing = connection.close().then(() => record('close()'))
          peer.resume().end()
          await Promise.all([closed, closing])
          expect(record.lines).to.deep.equal(['signal', 'closed', 'close()'])
        })

        for (const [when, early] of Object.entries({ 'asked for before': true, 'asked for only after': false })) {
          it(`signal.reason, ${when}, is a ConnectionClosedError after an orderly close`, async () => {
            const { connection, peer } = await open()
            if (early) void connection.signal
            peer.resume().end()
            await connection.close()
            expect(connection.signal.aborted).to.equal(true)
            expect(connection.signal.reason).to.be.instanceOf(ConnectionClosedError).and.not.have.property('cause')
            expect(connection.signal).to.equal(connection.signal)
          })

          it(`signal.reason, ${when}, is the ConnectionResetError after a reset`, async () => {
            const { connection, peer } = await open()
            if (early) void connection.signal
            await breakOff(connection, peer)
            await connection.closed
            expect(connection.signal.aborted).to.equal(true)
            expectReset(connection.signal.reason)
            expect(connection.signal.reason.message).to.match(/^The connection with .+ broke: connection reset by peer$/)
          })

          it(`signal.reason, ${when}, is the reason given to abort()`, async () => {
            const { connection } = await open()
            if (early) void connection.signal
            const reason = new Error('mine')
            connection.abort(reason)
            await connection.closed
            expect(connection.signal.reason).to.equal(reason)
          })

          it(`signal.reason, ${when}, is a ConnectionClosedError after abort() without a reason`, async () => {
            const { connection } = await open()
            if (early) void connection.signal
            connection.abort()
            await connection.closed
            expect(connection.signal.reason).to.be.instanceOf(ConnectionClosedError)
          })
        }

        it('a reset is noticed at once while the reader has room, though nobody reads or writes', async function () {
          skipIf(this, !transport.isTcp, 'a unix socket knows no reset')
          const { connection, peer } = await open()
          peer.write('some')
          await until(() => connection.reader.bytesAvailable === 4)
          peer.resetAndDestroy()
          await connection.closed
          expectReset(connection.signal.reason)
          expect(`${Buffer.from((await connection.reader.read()) as Uint8Array)}`).to.equal('some')
          expectReset(await rejection(connection.reader.read()))
        })

        it('a reset behind more than the reader has room for is noticed after the read that makes room', async () => {
          const { connection, peer } = await open({ readerBufferSize: 1_000 })
          await new Promise((resolve) => peer.write(Buffer.alloc(60_000, 'x'), resolve))
          await until(() => connection.reader.bytesAvailable >= 1_000)
          await breakOff(connection, peer)
          await turns()
          expect(connection.signal.aborted).to.equal(false)
          const { bytes, error } = await readAllThatComes(connection)
          expect(bytes).to.equal(60_000)
          expectReset(error)
          await connection.closed
          expect(connection.signal.reason).to.equal(error)
        })

        it('a reset behind more than the reader has room for is noticed by a write; what has arrived stays readable', async () => {
          const { connection, peer } = await open({ readerBufferSize: 1_000 })
          await new Promise((resolve) => peer.write(Buffer.alloc(60_000, 'x'), resolve))
          await until(() => connection.reader.bytesAvailable >= 1_000)
          await breakOff(connection, peer)
          const thrown = await writeUntilThrown(connection)
          expectReset(thrown)
          expect(connection.signal.aborted).to.equal(false)
          const { bytes, error } = await readAllThatComes(connection)
          expect(bytes).to.equal(60_000)
          expect(error).to.equal(thrown)
          await connection.closed
          expect(connection.signal.reason).to.equal(thrown)
        })

        it('a mere FIN settles reader.ended and leaves the connection open', async () => {
          const { connection, peer } = await open()
          peer.resume().end()
          await connection.reader.ended
          await turns()
          expect(connection.signal.aborted).to.equal(false)
          connection.writer.write('still here')
          await connection.writer.flushed()
          expect(connection.signal.aborted).to.equal(false)
        })

        it('after a FIN only a write notices that the peer has gone', async () => {
          const { connection, peer } = await open()
          await new Promise<void>((resolve) => peer.end(resolve))
          await connection.reader.ended
          connection.writer.write('unread')
          await connection.writer.flushed()
          if (transport.isTcp) peer.resetAndDestroy()
          else peer.destroy()
          await turns()
          expect(connection.signal.aborted).to.equal(false)
          expectReset(await writeUntilThrown(connection))
          await connection.closed
          expectReset(connection.signal.reason)
          // All that the peer sent was read: to the reader it was an end.
          expect(await connection.reader.read()).to.equal(null)
        })
      })

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
          const noDelay = await socketOption(IPPROTO_TCP, TCP_NODELAY)
          skipIf(this, noDelay === undefined, 'needs Linux and koffi')
          const { connection, peer } = await open()
          expect(noDelay?.(connection.socket)).to.equal(1)
          // What is looked at does tell: a plain socket has it off.
          expect(noDelay?.(peer)).to.equal(0)
          connection.socket.setNoDelay(false)
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
              await closed
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
          expect((error as Error).message).to.match(/^No byte went to or came from .+ for 50 ms$/)
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

function ignore(): void {}

async function disposed(connection: Connection): Promise<void> {
  await connection[Symbol.asyncDispose]()
}

function leave(peer: Socket): void {
  if (peer.remoteFamily !== undefined) peer.resetAndDestroy()
  else peer.destroy()
}

function expectReset(error: unknown): void {
  expect(error).to.be.instanceOf(ConnectionResetError).with.property('code', 'ERR_CONNECTION_RESET')
  const { cause } = error as Error
  expect((cause as NodeJS.ErrnoException).code).to.be.oneOf(['ECONNRESET', 'EPIPE'])
}

function expectAborted(error: unknown, reason: unknown): void {
  expect(error).to.be.instanceOf(ConnectionClosedError).with.property('code', 'ERR_CONNECTION_CLOSED')
  expect(error).to.have.property('cause', reason)
}

/** Reads on; resolves with 'end' at the FIN, or with the code of the error. */
async function peerSees(peer: Socket): Promise<string> {
  const end = once(peer, 'end').then(
    () => 'end',
    (error: NodeJS.ErrnoException) => error.code ?? error.message
  )
  peer.resume()
  return await end
}

/** Asserts that a peer that reads only now gets less than everything: not even what the system had taken for it. */
async function expectCutOff(peer: Socket, total: number): Promise<void> {
  // What a reset looks like after unread bytes depends on the version of Node.js: an error, or an end.
  await peerSees(peer)
  expect(peer.bytesRead).to.be.lessThan(total)
}

function sendEndlessly(peer: Socket): void {
  const chunk = Buffer.alloc(65_536)
  const send = (): void => {
    while (!peer.destroyed && peer.write(chunk));
  }
  peer.on('drain', send)
  send()
}

/** Reads until it fails. */
async function readAllThatComes({ reader }: Connection): Promise<{ bytes: number; error: unknown }> {
  let bytes = 0
  try {
    for await (const chunk of reader) bytes += chunk.byteLength
  } catch (error) {
    return { bytes, error }
  }
  throw new Error('The end came without an error')
}

/** Writes until the system says that there is nobody to write to. */
async function writeUntilThrown({ writer }: Connection): Promise<unknown> {
  for (;;) {
    try {
      writer.write('anybody there?')
    } catch (error) {
      return error
    }
    await turns(1)
  }
}

const IPPROTO_TCP = 6
const TCP_NODELAY = 1

/** Gives a function that reads a socket option, as the kernel has it; undefined where that can't be done. */
async function socketOption(level: number, name: number): Promise<((socket: Socket) => number | undefined) | undefined> {
  if (process.platform !== 'linux') return undefined
  try {
    const { default: koffi } = await import('koffi')
    const getsockopt = koffi.load(null).func('int getsockopt(int, int, int, _Out_ int *, _Inout_ uint32_t *)')
    return (socket) => {
      const value = [-1]
      getsockopt(descriptorOf(socket), level, name, value, [4])
      return value[0]
    }
  } catch {
    return undefined
  }
}

function descriptorOf(socket: Socket): number {
  return (socket as unknown as { _handle: { fd: number } })._handle.fd
}

// For what must not happen within a time that is part of the contract; nothing waits for the time to be exact.
function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}

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
