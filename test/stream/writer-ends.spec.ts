import type { Socket } from 'node:net'
import { inspect } from 'node:util'
import { expect } from 'chai'
import { BufferAgeLimitError, ConnectionClosedError, type ConnectionOptions, ConnectionResetError } from '../../src/index.ts'
import { BAD_DURATIONS, expectRefusal } from '../helpers/bad-input.ts'
import { readToEnd } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { transcript } from '../helpers/transcript.ts'
import { type Ends, EVERY_TRANSPORT, openEnds, TOO_MUCH } from '../helpers/transports.ts'
import { turns, until } from '../helpers/until.ts'
import { ascii, expectReset, MIB, pause, peerSees, recorded, writeTooMuch } from '../helpers/writer-cases.ts'

describe('Writer', () => {
  for (const transport of EVERY_TRANSPORT) {
    describe(`of ${transport.name}`, () => {
      const scope = useScope()
      const open = (options?: ConnectionOptions): Promise<Ends> => openEnds(scope, transport, options)

      describe('law 4: after close() a write throws ConnectionClosedError; after the connection broke, what broke it', () => {
        it('close() sends what waits, then FIN', async () => {
          const { connection, peer } = await open()
          connection.writer.write(TOO_MUCH.subarray(0, 16 * MIB))
          connection.writer.write('the end')
          const closed = connection.writer.close()
          const arrived = await readToEnd(peer)
          await closed
          expect(arrived.byteLength).to.equal(16 * MIB + 7)
          expect(`${arrived.subarray(16 * MIB)}`).to.equal('the end')
        })

        it('close() called several times returns the same promise', async () => {
          const { connection } = await open()
          const closed = connection.writer.close()
          expect(connection.writer.close()).to.equal(closed)
          await closed
          expect(connection.writer.close()).to.equal(closed)
        })

        it('write() after close() throws, also while bytes still wait, and sends nothing', async () => {
          const { connection, peer } = await open()
          const { writer } = connection
          writer.write(TOO_MUCH)
          expect(writer.isClosed).to.equal(false)
          const closed = writer.close()
          expect(writer.isClosed).to.equal(true)
          expect(() => writer.write('late')).to.throw(ConnectionClosedError, 'Cannot write as the writer is closed')
          const arrived = readToEnd(peer)
          await closed
          expect(writer.isClosed).to.equal(true)
          expect(() => writer.write('late')).to.throw(ConnectionClosedError)
          expect((await arrived).byteLength).to.equal(TOO_MUCH.byteLength)
        })

        it('flushed() may be called after close()', async () => {
          const { connection, peer } = await open()
          const { writer } = connection
          writer.write(TOO_MUCH)
          const closed = writer.close()
          const flushed = writer.flushed()
          peer.resume()
          await flushed
          expect(writer.bytesPending).to.equal(0)
          await closed
          await writer.flushed()
        })

        it('a sink or writeAll() after close() rejects, takes nothing from its source and lets it go', async () => {
          const { connection, peer } = await open()
          await connection.writer.close()
          const source = recorded(transcript())
          expect(await rejection(connection.writer(source))).to.be.instanceOf(ConnectionClosedError)
          expect(await rejection(connection.writer.writeAll(source))).to.be.instanceOf(ConnectionClosedError)
          expect(source.lines).to.deep.equal(['return', 'return'])
          expect((await readToEnd(peer)).byteLength).to.equal(0)
        })

        it('a pending flushed(), close() and later calls are told what broke the connection', async () => {
          const { connection, peer } = await open()
          const { writer } = connection
          writer.write(TOO_MUCH)
          const flushed = rejection(writer.flushed())
          const closed = rejection(writer.close())
          breakOff(peer)
          const error = await flushed
          expectReset(error)
          expect(await closed).to.equal(error)
          expect(await rejection(writer.flushed())).to.equal(error)
          expect(await rejection(writer.close())).to.equal(error)
          expect(() => writer.write('late'))
            .to.throw(ConnectionResetError)
            .that.equals(error)
          expect(await rejection(writer([ascii('late')]))).to.equal(error)
          expect(await rejection(writer.writeAll([ascii('late')]))).to.equal(error)
          expect(writer.isClosed).to.equal(true)
          expect(writer.bytesPending).to.be.greaterThan(0)
        })

        it('write() after the connection broke unnoticed throws soon, and never does flushed() hang', async () => {
          const { connection, peer } = await open()
          const { writer } = connection
          breakOff(peer)
          let thrown: unknown
          await until(() => {
            try {
              writer.write('anybody there?')
            } catch (error) {
              thrown = error
            }
            return thrown !== undefined
          })
          expectReset(thrown)
          expect(await rejection(writer.flushed())).to.equal(thrown)
          expect(writer.isClosed).to.equal(true)
        })

        it('bytesWritten never goes back, also when the connection breaks', async () => {
          const { connection, peer } = await open()
          const { writer } = connection
          writeTooMuch(connection)
          await turns()
          const before = writer.bytesWritten
          expect(before).to.be.greaterThan(0)
          breakOff(peer)
          await rejection(writer.flushed())
          expect(writer.bytesWritten).to.be.at.least(before)
          expect(writer.bytesWritten + writer.bytesPending).to.equal(TOO_MUCH.byteLength)
          const { connection: aborted } = await open()
          aborted.writer.write(TOO_MUCH)
          await turns()
          const beforeAbort = aborted.writer.bytesWritten
          aborted.abort()
          await aborted.closed
          expect(aborted.writer.bytesWritten).to.be.at.least(beforeAbort)
        })

        it('bytesWritten counts what was handed over before the connection broke, though nobody looked', async () => {
          const { connection, peer } = await open()
          const { writer } = connection
          writer.write('handed over')
          await writer.flushed()
          writer.write(TOO_MUCH)
          breakOff(peer)
          await rejection(writer.flushed())
          expect(writer.bytesWritten).to.be.within(11, TOO_MUCH.byteLength)
          expect(writer.bytesWritten + writer.bytesPending).to.equal(TOO_MUCH.byteLength + 11)
        })

        it('promises that nobody watches are no unhandled rejections', async () => {
          const { connection, peer } = await open()
          const { writer } = connection
          writer.write(TOO_MUCH)
          void writer.flushed()
          void writer.close()
          breakOff(peer)
          await connection.closed
          void writer.flushed().catch(() => {})
          void writer.close()
          await turns()
        })
      })

      describe('law 6: if bytes wait and none has been handed over for bufferAgeLimit, the connection is aborted', () => {
        it('aborts with BufferAgeLimitError a connection whose peer never reads', async () => {
          const { connection, peer } = await open({ bufferAgeLimit: 100 })
          const { writer, reader } = connection
          writeTooMuch(connection)
          const flushed = rejection(writer.flushed())
          const read = rejection(reader.read())
          await turns()
          const taken = writer.bytesWritten
          const error = await flushed
          expect(error).to.be.instanceOf(BufferAgeLimitError).with.property('code', 'ERR_BUFFER_AGE_LIMIT')
          expect((error as Error).message).to.match(/^The peer took none of \d+ bytes for 100 ms$/)
          expect(await read).to.equal(error)
          await connection.closed
          expect(connection.signal.reason).to.equal(error)
          expect(() => writer.write('late'))
            .to.throw(BufferAgeLimitError)
            .that.equals(error)
          expect(await rejection(writer.flushed())).to.equal(error)
          // A FIN would have sent the rest of what the system had taken before it.
          if (!peer.readableEnded && !peer.destroyed) await peerSees(peer)
          if (transport.isTcp && transport.isMemory !== true) expect(peer.bytesRead).to.be.lessThan(taken)
        })

        // The rest takes its time, and who has dialled makes no difference to it.
        if (transport.isAccepted) return

        it('rejects a sink with BufferAgeLimitError and calls return() of its source', async () => {
          const { connection } = await open({ bufferAgeLimit: 100 })
          const source = recorded(transcript(), TOO_MUCH, ascii('more'))
          const error = await rejection(connection.writer(source))
          expect(error).to.be.instanceOf(BufferAgeLimitError)
          expect(source.lines).to.deep.equal(['next', 'return'])
        })

        it('counts gathered writes too', async () => {
          const { connection } = await open({ bufferAgeLimit: 100 })
          connection.writer.write('first of its turn')
          connection.writer.write('gathered')
          connection.writer.write(TOO_MUCH)
          expect(await rejection(connection.writer.flushed())).to.be.instanceOf(BufferAgeLimitError)
        })

        it('keeps a peer that is slow but moves, for several times the limit', async () => {
          const limit = 800
          const { connection, peer } = await open({ bufferAgeLimit: limit })
          const { writer } = connection
          const end = performance.now() + 2 * limit
          while (performance.now() < end) {
            if (writer.bytesPending < TOO_MUCH.byteLength) writeTooMuch(connection)
            await turns()
            const before = writer.bytesWritten
            await until(() => {
              peer.read()
              return writer.bytesWritten > before
            })
            expect(writer.bytesPending).to.be.greaterThan(0)
            await pause(limit / 8)
          }
          expect(connection.signal.aborted).to.equal(false)
        })

        it('keeps a connection that is idle after all has been handed over', async () => {
          const { connection, peer } = await open({ bufferAgeLimit: 600 })
          const { writer } = connection
          // Only what has to wait is watched.
          writer.write(TOO_MUCH)
          peer.resume()
          await writer.flushed()
          await pause(900)
          expect(connection.signal.aborted).to.equal(false)
          writer.write('still here')
          await writer.flushed()
        })

        it('bufferAgeLimit has the default and the value of the option', async () => {
          expect((await open()).connection.writer.bufferAgeLimit).to.equal(120_000)
          expect((await open({ bufferAgeLimit: Number.POSITIVE_INFINITY })).connection.writer.bufferAgeLimit).to.equal(Infinity)
        })

        it('bufferAgeLimit may be set while bytes wait: shorter', async () => {
          const { connection } = await open()
          const { writer } = connection
          writer.write(TOO_MUCH)
          await turns()
          writer.bufferAgeLimit = 50
          expect(writer.bufferAgeLimit).to.equal(50)
          expect(await rejection(writer.flushed())).to.be.instanceOf(BufferAgeLimitError)
        })

        it('bufferAgeLimit may be set while bytes wait: to Infinity', async () => {
          const { connection, peer } = await open({ bufferAgeLimit: 100 })
          const { writer } = connection
          writer.write(TOO_MUCH)
          writer.bufferAgeLimit = Number.POSITIVE_INFINITY
          await pause(300)
          expect(connection.signal.aborted).to.equal(false)
          peer.resume()
          await writer.flushed()
        })

        it('bufferAgeLimit may be set before bytes wait', async () => {
          const { connection } = await open()
          connection.writer.bufferAgeLimit = 50
          connection.writer.write(TOO_MUCH)
          expect(await rejection(connection.writer.flushed())).to.be.instanceOf(BufferAgeLimitError)
        })

        for (const value of BAD_DURATIONS) {
          it(`bufferAgeLimit refuses ${inspect(value)} and keeps its value`, async () => {
            const { connection } = await open({ bufferAgeLimit: 1_234 })
            expect(() => {
              connection.writer.bufferAgeLimit = value as never
            })
              .to.throw()
              .that.satisfies((error: unknown) => {
                expectRefusal(error, 'bufferAgeLimit', 'Cannot set the limit', value)
                return true
              })
            expect(connection.writer.bufferAgeLimit).to.equal(1_234)
          })
        }

        it('counts while the connection is being closed', async () => {
          const { connection } = await open({ bufferAgeLimit: 100 })
          connection.writer.write(TOO_MUCH)
          expect(await rejection(connection.close())).to.be.instanceOf(BufferAgeLimitError)
        })
      })

      // What a failed write leaves behind ----------------------------------------------------------------------------

      function breakOff(peer: Socket): void {
        if (transport.isTcp) peer.resetAndDestroy()
        else peer.destroy()
      }
    })
  }
})
