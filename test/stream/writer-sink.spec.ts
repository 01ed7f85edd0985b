import type { Socket } from 'node:net'
import { inspect } from 'node:util'
import { expect } from 'chai'
import { Uint8ArrayList } from 'uint8arraylist'
import { BusyError, type Chunk, type Connection, ConnectionClosedError, type ConnectionOptions } from '../../src/index.ts'
import { expectRefusal } from '../helpers/bad-input.ts'
import { readToEnd } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { transcript } from '../helpers/transcript.ts'
import { type Ends, EVERY_TRANSPORT, openEnds, TOO_MUCH } from '../helpers/transports.ts'
import { turns, until } from '../helpers/until.ts'
import {
  ascii,
  expectReset,
  generate,
  generateSync,
  hanging,
  KIB,
  MIB,
  NOT_CHUNKS,
  NOT_ITERABLE,
  patterned,
  peerSees,
  queue,
  recorded,
  THROWING,
  throwing
} from '../helpers/writer-cases.ts'

describe('Writer', () => {
  for (const transport of EVERY_TRANSPORT) {
    describe(`of ${transport.name}`, () => {
      const scope = useScope()
      const open = (options?: ConnectionOptions): Promise<Ends> => openEnds(scope, transport, options)

      describe('law 5: as a sink it pulls only as fast as the peer takes the bytes, flushes, then half-closes', () => {
        for (const [kind, make] of [
          ['an async generator', generate],
          ['a sync generator', generateSync]
        ] as const) {
          it(`stops pulling from ${kind} while the peer reads nothing, and goes on when it reads`, async () => {
            const { connection, peer } = await open()
            const { writer } = connection
            const chunk = patterned(64 * KIB, 3)
            let pulled = 0
            let most = 0
            const sink = writer(
              make(
                (function* () {
                  for (; pulled < 1_024; pulled++) {
                    most = Math.max(most, writer.bytesPending)
                    yield chunk
                  }
                })()
              )
            )
            let last = -1
            await until(async () => {
              if (pulled === last) return true
              last = pulled
              await turns(50)
              return false
            })
            expect(pulled).to.be.lessThan(1_000)
            expect(writer.bytesPending).to.be.within(1, 512 * KIB + chunk.byteLength)
            const arrived = readToEnd(peer)
            await sink
            expect(most).to.be.lessThan(512 * KIB)
            expect(pulled).to.equal(1_024)
            const all = await arrived
            expect(all.byteLength).to.equal(1_024 * chunk.byteLength)
            for (let at = 0; at < all.byteLength; at += chunk.byteLength) {
              expect(all.subarray(at, at + chunk.byteLength).equals(chunk), `at ${at}`).to.equal(true)
            }
          })
        }

        it('lets the event loop turn while an endless source without waiting is sent to a fast peer', async () => {
          const { connection, peer } = await open()
          peer.resume()
          const chunk = patterned(KIB, 1)
          const sink = rejection(
            connection.writer(
              (function* () {
                for (;;) yield chunk
              })()
            )
          )
          await turns(50)
          connection.abort('enough')
          expect(await sink).to.have.property('cause', 'enough')
        })

        it('sends arrays, generators and Uint8ArrayLists, flushes, then sends FIN and leaves the reader open', async () => {
          const { connection, peer } = await open()
          await connection.writer([ascii('a'), new Uint8ArrayList(ascii('b'), ascii('c')), new Uint8Array(0), ascii('d')])
          expect(connection.writer.bytesPending).to.equal(0)
          expect(connection.writer.isClosed).to.equal(true)
          expect(`${await readToEnd(peer)}`).to.equal('abcd')
          peer.end('reply')
          expect(await connection.reader.readLine()).to.equal('reply')
        })

        it('resolves when FIN is sent, not before the peer takes the last bytes', async () => {
          const { connection, peer } = await open()
          const record = transcript()
          const sink = connection.writer([TOO_MUCH]).then(() => record('resolved'))
          await turns()
          expect(record.lines).to.deep.equal([])
          peer.resume()
          await sink
          expect(connection.writer.bytesWritten).to.equal(TOO_MUCH.byteLength)
        })

        it('an empty source is a mere half-close', async () => {
          const { connection, peer } = await open()
          await connection.writer([])
          expect((await readToEnd(peer)).byteLength).to.equal(0)
        })

        it('writeAll() sends several sources in a row without a half-close and flushes each', async () => {
          const { connection, peer } = await open()
          const { writer } = connection
          const arrived = readToEnd(peer)
          for (let i = 0; i < 3; i++) {
            await writer.writeAll(generate([patterned(MIB, i), ascii(`${i}`)]))
            expect([writer.bytesPending, writer.isClosed]).to.deep.equal([0, false])
          }
          await writer.close()
          const expected = [0, 1, 2].flatMap((i) => [patterned(MIB, i), ascii(`${i}`)])
          expect((await arrived).equals(Buffer.concat(expected))).to.equal(true)
        })

        it('writeAll() resolves when all is handed over, not before', async () => {
          const { connection, peer } = await open()
          const record = transcript()
          const all = connection.writer.writeAll([TOO_MUCH]).then(() => record(`${connection.writer.bytesPending}`))
          await turns()
          expect(record.lines).to.deep.equal([])
          peer.resume()
          await all
          expect(record.lines).to.deep.equal(['0'])
        })

        for (const [kind, make] of Object.entries(THROWING)) {
          it(`aborts the connection and rejects with the very error if ${kind}`, async () => {
            for (const method of ['sink', 'writeAll'] as const) {
              const { connection, peer } = await open()
              const error = new Error('out of data')
              const arrived = peerSees(peer)
              const pour = method === 'sink' ? connection.writer(make(error)) : connection.writer.writeAll(make(error))
              expect(await rejection(pour)).to.equal(error)
              await connection.closed
              expect(connection.signal.reason).to.equal(error)
              expect(await arrived).to.equal(transport.isTcp ? 'ECONNRESET' : 'end')
              expect(await rejection(connection.reader.read()))
                .to.be.instanceOf(ConnectionClosedError)
                .with.property('cause', error)
            }
          })
        }

        it('aborts the connection if the source throws in the middle, so that the peer does not take a part for the whole', async () => {
          const { connection, peer } = await open()
          const error = new Error('out of data')
          const arrived = peerSees(peer)
          const source = async function* (): AsyncGenerator<Uint8Array> {
            yield ascii('a part')
            await until(() => peer.bytesRead === 6)
            throw error
          }
          expect(await rejection(connection.writer(source()))).to.equal(error)
          expect(await arrived).to.equal(transport.isTcp ? 'ECONNRESET' : 'end')
        })

        it('rejects with what the source throws though it is no Error', async () => {
          const { connection } = await open()
          // biome-ignore lint/correctness/useYield: it throws before
          const source = async function* (): AsyncGenerator<Uint8Array> {
            throw 'a string'
          }
          expect(await rejection(connection.writer(source()))).to.equal('a string')
          await connection.closed
        })

        for (const value of NOT_CHUNKS) {
          it(`aborts the connection and rejects with a TypeError if the source yields ${inspect(value)}`, async () => {
            const { connection, peer } = await open()
            const { writer } = connection
            const record = transcript()
            const arrived = peerSees(peer)
            const source = async function* (): AsyncGenerator<Chunk> {
              try {
                yield ascii('good')
                await until(() => peer.bytesRead === 4)
                yield value as never
                record('pulled again')
              } finally {
                record('left')
              }
            }
            const error = await rejection(writer(source()))
            expect(error).to.be.instanceOf(TypeError)
            expect((error as Error).message.endsWith(`received ${inspect(value)}`), `${error}`).to.equal(true)
            await connection.closed
            expect(connection.signal.reason).to.equal(error)
            expect(writer.bytesWritten + writer.bytesPending).to.equal(4)
            expect(record.lines).to.deep.equal(['left'])
            expect(await arrived).to.equal(transport.isTcp ? 'ECONNRESET' : 'end')
          })
        }

        for (const source of [[42], [['text']]]) {
          it(`aborts the connection and rejects with a TypeError if the source is ${inspect(source)}`, async () => {
            const { connection, peer } = await open()
            const arrived = peerSees(peer)
            expect(await rejection(connection.writer(source as never))).to.be.instanceOf(TypeError)
            expect(connection.writer.bytesWritten + connection.writer.bytesPending).to.equal(0)
            expect(await arrived).to.equal(transport.isTcp ? 'ECONNRESET' : 'end')
          })
        }

        for (const value of NOT_ITERABLE) {
          it(`rejects with a TypeError, and nothing happens, if the source is ${inspect(value)}`, async () => {
            const { connection, peer } = await open()
            for (const method of ['sink', 'writeAll'] as const) {
              const pour = method === 'sink' ? connection.writer(value as never) : connection.writer.writeAll(value as never)
              const error = await rejection(pour)
              expect(error).to.be.instanceOf(TypeError)
              expectRefusal(error, 'source', 'Cannot write', value)
            }
            await connection.writer([ascii('still open')])
            expect(`${await readToEnd(peer)}`).to.equal('still open')
          })
        }

        it('rejects when the connection breaks while the source hangs; its return() is called and not awaited', async () => {
          const { connection, peer } = await open()
          const source = hanging(() => new Promise(() => {}))
          const sink = rejection(connection.writer(source))
          await breakOffUnread(connection, peer)
          expectReset(await sink)
          expect(source.lines).to.deep.equal(['next', 'return'])
        })

        it('rejects when the connection breaks while the peer takes no bytes', async () => {
          const { connection, peer } = await open()
          const source = recorded(transcript(), TOO_MUCH, ascii('more'))
          const sink = rejection(connection.writer(source))
          await turns()
          breakOff(peer)
          expectReset(await sink)
          expect(source.lines).to.deep.equal(['next', 'return'])
        })

        it('calls return() of a source from which nothing was pulled yet, since other bytes wait', async () => {
          const { connection } = await open()
          connection.writer.write(TOO_MUCH)
          const source = recorded(transcript())
          const sink = rejection(connection.writer(source))
          await turns()
          connection.abort('enough')
          expect(await sink).to.have.property('cause', 'enough')
          expect(source.lines).to.deep.equal(['return'])
        })

        it('rejects when the connection breaks while a generator is parked, and drops what it still yields', async () => {
          const { connection, peer } = await open()
          const gate: (() => void)[] = []
          const record = transcript()
          const source = async function* (): AsyncGenerator<Uint8Array> {
            try {
              await new Promise<void>((resolve) => gate.push(resolve))
              yield ascii('late')
              record('resumed')
            } finally {
              record('finally')
            }
          }
          const sink = rejection(connection.writer(source()))
          await breakOffUnread(connection, peer)
          const error = await sink
          expectReset(error)
          expect(record.lines).to.deep.equal([])
          for (const open of gate) open()
          await until(() => record.lines.length > 0)
          expect(record.lines).to.deep.equal(['finally'])
        })

        it('rejects with the error of abort() while the source hangs, and calls its return()', async () => {
          const { connection } = await open()
          const source = hanging(() => new Promise(() => {}))
          const sink = rejection(connection.writer(source))
          const reason = new Error('no more')
          connection.abort(reason)
          expect(await sink)
            .to.be.instanceOf(ConnectionClosedError)
            .with.property('cause', reason)
          expect(source.lines).to.deep.equal(['next', 'return'])
        })

        it('rejects when the connection is closed by its owner while the source hangs, and calls its return()', async () => {
          const { connection, peer } = await open()
          const source = hanging(() => new Promise(() => {}))
          const sink = rejection(connection.writer(source))
          const arrived = readToEnd(peer)
          const closed = connection.close()
          expect(await sink).to.be.instanceOf(ConnectionClosedError)
          expect(source.lines).to.deep.equal(['next', 'return'])
          await arrived
          peer.end()
          await closed
        })

        it('ignores what return() throws, and that it rejects', async () => {
          for (const leave of [() => Promise.reject(new Error('return')), throwing(new Error('return'))]) {
            const { connection } = await open()
            const sink = rejection(connection.writer(hanging(leave)))
            connection.abort('enough')
            expect(await sink).to.have.property('cause', 'enough')
          }
          await turns()
        })

        it('takes sources whose iterator has no return()', async () => {
          const { connection } = await open()
          const sink = rejection(connection.writer({ [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}) }) }))
          connection.abort('enough')
          expect(await sink).to.have.property('cause', 'enough')
        })

        it('a second sink at once rejects with BusyError and takes nothing from its source; the first goes on', async () => {
          const { connection, peer } = await open()
          const { writer } = connection
          const first = queue()
          const second = recorded(transcript(), ascii('second'))
          const sink = writer(first)
          first.push(ascii('a'))
          expect(await rejection(writer(second))).to.be.instanceOf(BusyError)
          expect(await rejection(writer.writeAll(second))).to.be.instanceOf(BusyError)
          expect(second.lines).to.deep.equal([])
          first.push(ascii('b'))
          first.end()
          await sink
          expect(`${await readToEnd(peer)}`).to.equal('ab')
        })

        it('a sink is not busy after writeAll() has ended', async () => {
          const { connection, peer } = await open()
          await connection.writer.writeAll([ascii('a')])
          await connection.writer([ascii('b')])
          expect(await rejection(connection.writer([ascii('c')]))).to.be.instanceOf(ConnectionClosedError)
          expect(`${await readToEnd(peer)}`).to.equal('ab')
        })
      })

      // What a failed write leaves behind ----------------------------------------------------------------------------

      function breakOff(peer: Socket): void {
        if (transport.isTcp) peer.resetAndDestroy()
        else peer.destroy()
      }

      // A unix peer that goes with something unread breaks the connection; if it has read all, it has merely ended.
      async function breakOffUnread(connection: Connection, peer: Socket): Promise<void> {
        connection.writer.write('unread')
        await connection.writer.flushed()
        breakOff(peer)
      }
    })
  }
})
