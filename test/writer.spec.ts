import { once } from 'node:events'
import type { Socket } from 'node:net'
import { inspect } from 'node:util'
import { expect } from 'chai'
import { Uint8ArrayList } from 'uint8arraylist'
import {
  BufferAgeLimitError,
  BusyError,
  type Chunk,
  type Connection,
  ConnectionClosedError,
  type ConnectionOptions,
  ConnectionResetError
} from '../src/index.ts'
import { BAD_DURATIONS, expectRefusal } from './helpers/bad-input.ts'
import { readToEnd } from './helpers/raw.ts'
import { rejection } from './helpers/rejection.ts'
import { useScope } from './helpers/scope.ts'
import { type Transcript, transcript } from './helpers/transcript.ts'
import { carrierOf, type Ends, openEnds, TOO_MUCH, WITH_MEMORY } from './helpers/transports.ts'
import { turns, until } from './helpers/until.ts'

const KIB = 1024
const MIB = 1024 * KIB
const NOT_DATA: readonly unknown[] = [42, null, undefined, [1], {}, new ArrayBuffer(1), new DataView(new ArrayBuffer(1)), Symbol('s'), true]
const NOT_CHUNKS: readonly unknown[] = [42, null, undefined, [1], new ArrayBuffer(1)]
const NOT_ITERABLE: readonly unknown[] = ['text', ascii('bytes'), 42, null, undefined, {}, () => {}, { [Symbol.asyncIterator]: 42 }]

/** Every way in which a source can fail before it has given anything. */
const THROWING: Record<string, (error: unknown) => AsyncIterable<Chunk> | Iterable<Chunk>> = {
  // biome-ignore lint/correctness/useYield: it throws before
  async *'an async generator throws'(error) {
    await turns(2)
    throw error
  },
  // biome-ignore lint/correctness/useYield: it throws before
  *'a sync generator throws'(error) {
    throw error
  },
  'its next() throws': (error) => ({ [Symbol.asyncIterator]: () => ({ next: throwing(error) }) }),
  'its next() rejects': (error) => ({ [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(error) }) }),
  'its [Symbol.asyncIterator]() throws': (error) => ({ [Symbol.asyncIterator]: throwing(error) }),
  'its [Symbol.iterator]() throws': (error) => ({ [Symbol.iterator]: throwing(error) })
}

describe('Writer', () => {
  for (const transport of WITH_MEMORY) {
    describe(`of ${transport.name}`, () => {
      const scope = useScope()
      const open = (options?: ConnectionOptions): Promise<Ends> => openEnds(scope, transport, options)

      describe('law 1: bytes leave in the order of the calls; write never blocks', () => {
        it('write() sends strings, Uint8Arrays and Uint8ArrayLists in the order of the calls', async () => {
          const { connection, peer } = await open()
          const { writer } = connection
          writer.write('one ')
          writer.write(ascii('two '))
          writer.write(new Uint8ArrayList(ascii('three '), ascii('four ')))
          writer.write('five ')
          const all = writer.writeAll([ascii('six '), new Uint8ArrayList(ascii('seven '))])
          writer.write('eight ')
          await all
          writer.write('nine ')
          await writer(generate([ascii('ten '), ascii('eleven')]))
          expect(`${await readToEnd(peer)}`).to.equal('one two three four five six seven eight nine ten eleven')
        })

        it('write() keeps the order of pieces of all kinds and sizes over many turns, to a peer that stutters', async () => {
          const { connection, peer } = await open()
          const { writer } = connection
          const expected: Uint8Array[] = []
          const arrived = readStuttering(peer)
          for (let i = 0; i < 1_500; i++) {
            const text = 'abcdefghij'.repeat((i * 7919) % 499)
            const piece = Buffer.from(`${i}:${text}`)
            expected.push(piece)
            if (i % 3 === 0) writer.write(piece)
            else if (i % 3 === 1) writer.write(new Uint8ArrayList(piece.subarray(0, i % 5), piece.subarray(i % 5)))
            else writer.write(`${piece}`)
            if (i % 40 === 0) await turns(1)
            if (i % 301 === 0) await writer.flushed()
          }
          await writer.close()
          expect((await arrived).equals(Buffer.concat(expected))).to.equal(true)
        })

        it('write() sends a string as UTF-8', async () => {
          const { connection, peer } = await open()
          const text = 'plain, Grüße, żółw, 🐢, lone \ud800 surrogate'
          // One as the first of its turn, the others gathered.
          for (let i = 0; i < 3; i++) connection.writer.write(text)
          await connection.writer.close()
          expect((await readToEnd(peer)).equals(Buffer.from(text.repeat(3)))).to.equal(true)
        })

        it('write() sends nothing for what is empty', async () => {
          const { connection, peer } = await open()
          const { writer } = connection
          for (const empty of ['', new Uint8Array(0), new Uint8ArrayList(), new Uint8ArrayList(new Uint8Array(0))]) writer.write(empty)
          expect(writer.bytesPending + writer.bytesWritten).to.equal(0)
          await writer.flushed()
          await writer.close()
          expect((await readToEnd(peer)).byteLength).to.equal(0)
        })

        it('write() returns while the peer reads nothing, and bytesWritten and bytesPending together count what it accepted', async () => {
          const { connection, peer } = await open()
          const { writer } = connection
          writer.write(TOO_MUCH)
          writer.write('text')
          writer.write(new Uint8ArrayList(ascii('a'), ascii('list')))
          const accepted = TOO_MUCH.byteLength + 9
          expect(writer.bytesPending).to.be.greaterThan(9)
          expect(writer.bytesWritten + writer.bytesPending).to.equal(accepted)
          await turns()
          expect(writer.bytesPending).to.be.greaterThan(9)
          expect(writer.bytesWritten).to.be.greaterThan(0)
          expect(writer.bytesWritten + writer.bytesPending).to.equal(accepted)
          peer.resume()
          await writer.flushed()
          expect([writer.bytesWritten, writer.bytesPending]).to.deep.equal([accepted, 0])
        })

        it('bytesPending goes down, and bytesWritten up, as the peer reads', async () => {
          const { connection, peer } = await open()
          const { writer } = connection
          writer.write(TOO_MUCH)
          await turns()
          const before = writer.bytesWritten
          peer.resume()
          await until(() => writer.bytesWritten > before && writer.bytesPending > 0)
          expect(writer.bytesWritten + writer.bytesPending).to.equal(TOO_MUCH.byteLength)
        })

        it('the data may be changed after flushed()', async () => {
          const { connection, peer } = await open()
          const { writer } = connection
          const data = Buffer.alloc(8 * MIB, 'a')
          writer.write('-')
          writer.write(data)
          const arrived = readToEnd(peer)
          await writer.flushed()
          data.fill('b')
          await writer.close()
          expect((await arrived).equals(Buffer.concat([ascii('-'), Buffer.alloc(8 * MIB, 'a')]))).to.equal(true)
        })

        it('write() refuses what is no data with a TypeError that quotes it, sends nothing of it, and goes on', async () => {
          const { connection, peer } = await open()
          const { writer } = connection
          for (const value of NOT_DATA) {
            expect(() => writer.write(value as never))
              .to.throw(TypeError)
              .that.satisfies((error: Error) => {
                expectRefusal(error, 'data', 'Cannot write', value)
                return true
              })
          }
          expect(writer.bytesPending + writer.bytesWritten).to.equal(0)
          writer.write('good')
          await writer.close()
          expect(`${await readToEnd(peer)}`).to.equal('good')
        })
      })

      describe('law 2: the first write of a turn of the event loop goes out at once, the others of that turn together', () => {
        it('write() hands the first write of a turn over before it returns', async () => {
          const { connection } = await open()
          const { writer } = connection
          for (const data of ['text', ascii('bytes'), new Uint8ArrayList(ascii('list'))]) {
            const before = writer.bytesWritten
            writer.write(data)
            expect([writer.bytesWritten - before, writer.bytesPending]).to.deep.equal([data.length, 0])
            await turns(1)
          }
        })

        it('write() lets the other writes of a turn wait for its end, and hands them over in one go', async () => {
          const { connection, peer } = await open()
          const { writer } = connection
          const goes = watchHandOvers(connection)
          for (const data of ['first', 'se', ascii('con'), 'd: ü', new Uint8ArrayList(ascii('a'), ascii('b'))]) writer.write(data)
          expect([writer.bytesWritten, writer.bytesPending]).to.deep.equal([5, 12])
          await turns(1)
          expect([writer.bytesWritten, writer.bytesPending]).to.deep.equal([17, 0])
          expect(goes).to.deep.equal([5, 12])
          await writer.close()
          expect(`${await readToEnd(peer)}`).to.equal('firstsecond: üab')
        })

        it('write() counts microtasks and ticks to the same turn', async () => {
          const { connection } = await open()
          const { writer } = connection
          const goes = watchHandOvers(connection)
          writer.write('1')
          await Promise.resolve()
          writer.write('22')
          await Promise.resolve()
          writer.write('333')
          expect([writer.bytesWritten, writer.bytesPending]).to.deep.equal([1, 5])
          await turns(1)
          expect(goes).to.deep.equal([1, 5])
        })

        it('write() hands the first write of every later turn over at once too', async () => {
          const { connection } = await open()
          const { writer } = connection
          const goes = watchHandOvers(connection)
          for (let turn = 0; turn < 5; turn++) {
            writer.write('a')
            expect(writer.bytesPending).to.equal(0)
            writer.write('b')
            writer.write('c')
            expect(writer.bytesPending).to.equal(2)
            await turns(1)
          }
          expect(goes).to.deep.equal(Array(5).fill([1, 2]).flat())
        })

        it('gathers at most 512 KiB and a chunk for one go', async () => {
          const { connection, peer } = await open()
          const { writer } = connection
          const goes = watchHandOvers(connection)
          for (let i = 0; i < 50; i++) writer.write(patterned(50_000, i))
          const arrived = readToEnd(peer)
          await writer.close()
          expect((await arrived).byteLength).to.equal(50 * 50_000)
          expect(goes.every((bytes) => bytes < 512 * KIB + 50_000)).to.equal(true)
          expect(goes).to.have.lengthOf(6)
        })

        it('gathers what is written while the peer reads nothing, and hands it over in order when it does', async () => {
          const { connection, peer } = await open()
          const { writer } = connection
          writer.write(TOO_MUCH)
          for (let i = 0; i < 1_000; i++) writer.write(`${i},`)
          await turns()
          const goes = watchHandOvers(connection)
          const arrived = readToEnd(peer)
          await writer.close()
          expect(goes).to.deep.equal([3_890])
          expect(`${(await arrived).subarray(TOO_MUCH.byteLength)}`).to.equal(Array.from({ length: 1_000 }, (_, i) => `${i},`).join(''))
        })
      })

      describe('law 3: flushed() covers exactly the bytes written before it was called', () => {
        it('flushed() resolves if nothing waits', async () => {
          const { connection } = await open()
          await connection.writer.flushed()
          connection.writer.write('at once')
          await connection.writer.flushed()
        })

        it('flushed() does not resolve while bytes wait, and resolves when they are handed over', async () => {
          const { connection, peer } = await open()
          const { writer } = connection
          const record = transcript()
          writer.write(TOO_MUCH)
          const flushed = writer.flushed().then(() => record(`${writer.bytesWritten}, ${writer.bytesPending}`))
          await turns()
          expect(record.lines).to.deep.equal([])
          peer.resume()
          await flushed
          expect(record.lines).to.deep.equal([`${TOO_MUCH.byteLength}, 0`])
        })

        it('flushed() is not held up by what is written after it, though the peer takes none of that', async () => {
          const { connection } = await open()
          const { writer } = connection
          writer.write('first, ')
          writer.write('second, ')
          writer.write(new Uint8ArrayList(ascii('third, '), ascii('fourth')))
          const flushed = writer.flushed()
          writer.write(TOO_MUCH)
          await flushed
          expect(writer.bytesWritten).to.be.at.least(28)
          expect(writer.bytesPending).to.be.greaterThan(0)
        })

        it('flushed() of several calls resolves each for its own bytes, in order', async () => {
          const { connection, peer } = await open()
          const { writer } = connection
          const record = transcript()
          const flushes: Promise<void>[] = []
          let accepted = 0
          // Filled up first, so that all of them wait.
          for (const [name, data] of Object.entries({ full: TOO_MUCH, a: ascii('a'), b: patterned(3 * MIB, 1), c: ascii('ccc') })) {
            writer.write(data)
            accepted += data.byteLength
            const mark = accepted
            flushes.push(
              writer.flushed().then(() => {
                expect(writer.bytesWritten).to.be.at.least(mark)
                record(name)
              })
            )
          }
          const beyond = TOO_MUCH.byteLength
          writer.write(TOO_MUCH)
          peer.resume()
          await flushes[0]
          await Promise.all(flushes)
          expect(record.lines).to.deep.equal(['full', 'a', 'b', 'c'])
          peer.pause()
          expect(writer.bytesWritten + writer.bytesPending).to.equal(accepted + beyond)
        })

        it('flushed() resolves for a write of a turn that is not over yet', async () => {
          const { connection } = await open()
          const { writer } = connection
          writer.write('a')
          writer.write('b')
          expect(writer.bytesPending).to.equal(1)
          await writer.flushed()
          expect(writer.bytesPending).to.equal(0)
        })
      })

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
          writer.write(TOO_MUCH)
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

      describe('law 6: if bytes wait and none has been handed over for bufferAgeLimit, the connection is aborted', () => {
        it('aborts with BufferAgeLimitError a connection whose peer never reads', async () => {
          const { connection, peer } = await open({ bufferAgeLimit: 100 })
          const { writer, reader } = connection
          writer.write(TOO_MUCH)
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
            if (writer.bytesPending < TOO_MUCH.byteLength) writer.write(TOO_MUCH)
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

      // A unix peer that goes with something unread breaks the connection; if it has read all, it has merely ended.
      async function breakOffUnread(connection: Connection, peer: Socket): Promise<void> {
        connection.writer.write('unread')
        await connection.writer.flushed()
        breakOff(peer)
      }
    })
  }
})

function ascii(text: string): Uint8Array {
  return Buffer.from(text, 'ascii')
}

function patterned(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length)
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >> 8) + seed * 17) & 0xff
  return bytes
}

async function* generate(chunks: Iterable<Chunk>): AsyncGenerator<Chunk> {
  yield* chunks
}

function* generateSync(chunks: Iterable<Chunk>): Generator<Chunk> {
  yield* chunks
}

function throwing(error: unknown): () => never {
  return () => {
    throw error
  }
}

type Recorded = AsyncIterable<Chunk> & { readonly lines: readonly string[] }

/** A source of `chunks` that writes down what is done with it. */
function recorded(record: Transcript, ...chunks: Chunk[]): Recorded {
  const iterator = {
    next(): Promise<IteratorResult<Chunk, undefined>> {
      record('next')
      // Undefined and null are chunks too, bad ones.
      const done = chunks.length === 0
      return Promise.resolve(done ? { done, value: undefined } : { done, value: chunks.shift() as Chunk })
    },
    return(): Promise<IteratorResult<Chunk, undefined>> {
      record('return')
      return Promise.resolve({ done: true, value: undefined })
    }
  }
  return { lines: record.lines, [Symbol.asyncIterator]: () => iterator }
}

/** A source that never answers, and does `leave` when it is let go. */
function hanging(leave: () => Promise<never>): Recorded {
  const record = transcript()
  const iterator = {
    next(): Promise<never> {
      record('next')
      return new Promise(() => {})
    },
    return(): Promise<never> {
      record('return')
      return leave()
    }
  }
  return { lines: record.lines, [Symbol.asyncIterator]: () => iterator }
}

/** A source that is fed by the test. */
function queue(): AsyncIterable<Chunk> & { push(chunk: Chunk): void; end(): void } {
  const items: (Chunk | undefined)[] = []
  let wake = (): void => {}
  const add = (item: Chunk | undefined): void => {
    items.push(item)
    wake()
  }
  return {
    push: add,
    end: () => add(undefined),
    async *[Symbol.asyncIterator]() {
      for (;;) {
        while (items.length === 0) {
          await new Promise<void>((resolve) => {
            wake = resolve
          })
        }
        const item = items.shift()
        if (item === undefined) return
        yield item
      }
    }
  }
}

function expectReset(error: unknown): void {
  expect(error).to.be.instanceOf(ConnectionResetError).with.property('code', 'ERR_CONNECTION_RESET')
  const { cause } = error as Error
  expect((cause as NodeJS.ErrnoException).code).to.be.oneOf(['ECONNRESET', 'EPIPE'])
}

/** Reads on; resolves with 'end' at the peer's FIN, or with the code of the error. */
async function peerSees(peer: Socket): Promise<string> {
  const end = once(peer, 'end').then(
    () => 'end',
    (error: NodeJS.ErrnoException) => error.code ?? error.message
  )
  peer.resume()
  return await end
}

/** Counts the bytes of every system call that the writer makes, by the members that a stream's implementer has. */
function watchHandOvers(connection: Connection): number[] {
  const goes: number[] = []
  type Entry = { chunk: string | Uint8Array }
  const carrier = carrierOf(connection)
  if (carrier !== undefined) {
    const write = carrier.write.bind(carrier)
    carrier.write = (entries) => {
      goes.push(entries.reduce((sum, { byteLength }) => sum + byteLength, 0))
      return write(entries)
    }
    return goes
  }
  const socket = connection.socket as unknown as {
    _write(chunk: string | Uint8Array, ...rest: unknown[]): void
    _writev(entries: Entry[], ...rest: unknown[]): void
  }
  const { _write, _writev } = socket
  socket._write = (chunk, ...rest) => {
    goes.push(Buffer.byteLength(chunk))
    _write.call(socket, chunk, ...rest)
  }
  socket._writev = (entries, ...rest) => {
    goes.push(entries.reduce((sum, { chunk }) => sum + Buffer.byteLength(chunk), 0))
    _writev.call(socket, entries, ...rest)
  }
  return goes
}

/** Reads to the end, with a pause after every few chunks. */
async function readStuttering(peer: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of peer) {
    chunks.push(chunk)
    if (chunks.length % 3 === 0) await turns(3)
  }
  return Buffer.concat(chunks)
}

// For what must not happen within a time that is part of the contract; nothing waits for the time to be exact.
function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}
