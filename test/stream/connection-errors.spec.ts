import { Socket } from 'node:net'
import { expect } from 'chai'
import { type Connection, ConnectionClosedError, type ConnectionOptions, ConnectionResetError, TruncatedError } from '../../src/index.ts'
import {
  ACTIVITIES,
  type Activity,
  descriptorOf,
  disposed,
  expectReset,
  ignore,
  MISBEHAVIOURS,
  readAllThatComes,
  writeUntilThrown
} from '../helpers/connection-cases.ts'
import { CAN_COUNT_DESCRIPTORS, openDescriptors } from '../helpers/descriptors.ts'
import { skipIf } from '../helpers/programs.ts'
import { readToEnd } from '../helpers/raw.ts'
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

      describe('law 3: signal is aborted exactly when the descriptor closes', () => {
        it('signal is aborted when the descriptor is gone, and not before', async function () {
          skipIf(this, !CAN_COUNT_DESCRIPTORS || transport.isMemory === true, 'needs a descriptor, and /proc/self/fd')
          skipIf(this, transport.tls?.closeNotify === 'optional', 'needs a handle')
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
          // A stream under TLS reads further ahead than its reader.
          if (transport.tls?.closeNotify !== 'optional') expect(connection.signal.aborted).to.equal(false)
          const { bytes, error } = await readAllThatComes(connection)
          expect(bytes).to.equal(60_000)
          if (transport.tls !== undefined && error instanceof TruncatedError) return
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
