import { getEventListeners, once } from 'node:events'
import type { Socket } from 'node:net'
import { expect } from 'chai'
import {
  BusyError,
  type Connection,
  ConnectionClosedError,
  type ConnectionOptions,
  ConnectionResetError,
  DelimiterNotFoundError,
  LimitExceededError,
  type Reader,
  type ReadOptions,
  UnexpectedEndError
} from '../src/index.ts'
import { expectRefusal } from './helpers/bad-input.ts'
import { FedReader } from './helpers/fed.ts'
import { type Random, randomFrom, randomPieces, randomText } from './helpers/random.ts'
import { readToEnd } from './helpers/raw.ts'
import { MIXED_WAYS, Reading, readBy, sha256 } from './helpers/reading.ts'
import { rejection } from './helpers/rejection.ts'
import { useScope } from './helpers/scope.ts'
import { type Ends, openEnds, TOO_MUCH, WITH_MEMORY } from './helpers/transports.ts'
import { pace, turns, until } from './helpers/until.ts'

const KIB = 1024
const MIB = 1024 * KIB
/** What one read from the kernel gives at most. */
const LARGEST_CHUNK = 128 * KIB
const DEFAULT_MAX_LENGTH = 64 * KIB

/** A way to read, with what it gives of 'abcd\n' and an end, and what it leaves. */
interface Method {
  readonly name: string
  read(reader: Reader, options?: ReadOptions): Promise<unknown>
  readonly gives: string | number
  readonly leaves: string
  /** What it gives at the end. */
  readonly atEnd: string | number | null
  /** Whether it takes a signal. */
  readonly takesSignal: boolean
  /** Whether it waits for more although there are two bytes and no line feed. */
  readonly isPatient: boolean
}

const METHODS: readonly Method[] = [
  {
    name: 'read()',
    read: (reader, options) => reader.read(options),
    gives: 'abcd\n',
    leaves: '',
    atEnd: null,
    takesSignal: true,
    isPatient: false
  },
  {
    name: 'readExactly()',
    read: (reader, options) => reader.readExactly(4, options),
    gives: 'abcd',
    leaves: '\n',
    atEnd: null,
    takesSignal: true,
    isPatient: true
  },
  {
    name: 'readUntil()',
    read: (reader, options) => reader.readUntil('\n', options),
    gives: 'abcd\n',
    leaves: '',
    atEnd: null,
    takesSignal: true,
    isPatient: true
  },
  {
    name: 'peek()',
    read: (reader, options) => reader.peek(4, options),
    gives: 'abcd',
    leaves: 'abcd\n',
    atEnd: null,
    takesSignal: true,
    isPatient: true
  },
  {
    name: 'readLine()',
    read: (reader, options) => reader.readLine(options),
    gives: 'abcd',
    leaves: '',
    atEnd: null,
    takesSignal: true,
    isPatient: true
  },
  {
    name: 'readAll()',
    read: (reader, options) => reader.readAll(options),
    gives: 'abcd\n',
    leaves: '',
    atEnd: '',
    takesSignal: true,
    isPatient: true
  },
  {
    name: 'readInto()',
    read: (reader, options) => reader.readInto(new Uint8Array(3), options),
    gives: 3,
    leaves: 'd\n',
    atEnd: null,
    takesSignal: true,
    isPatient: false
  },
  {
    name: 'discard()',
    read: (reader, options) => reader.discard(options),
    gives: 5,
    leaves: '',
    atEnd: 0,
    takesSignal: true,
    isPatient: false
  },
  {
    name: 'next() of a loop',
    read: (reader) => reader[Symbol.asyncIterator]().next(),
    gives: 'abcd\n',
    leaves: '',
    atEnd: null,
    takesSignal: false,
    isPatient: false
  },
  {
    name: 'next() of lines()',
    read: (reader, options) => reader.lines(options).next(),
    gives: 'abcd',
    leaves: '',
    atEnd: null,
    takesSignal: true,
    isPatient: true
  },
  {
    name: 'next() of lineBatches()',
    read: (reader, options) => reader.lineBatches(options).next(),
    gives: 'abcd',
    leaves: '',
    atEnd: null,
    takesSignal: true,
    isPatient: true
  }
]

describe('Reader', () => {
  for (const transport of WITH_MEMORY) {
    describe(`of ${transport.name}`, () => {
      const scope = useScope()
      const open = (options?: ConnectionOptions): Promise<Ends> => openEnds(scope, transport, options)

      describe('law 1: one position, which iterating and every read method share; nothing is lost or delivered twice', () => {
        for (const seed of [1, 2, 3]) {
          it(`gives every byte once and in order, whatever is mixed (${seed})`, async () => {
            const { connection, peer } = await open({ readerBufferSize: seed === 1 ? 1 : seed * 10_000 })
            const random = randomFrom(seed)
            const data = randomText(random, 500_000)
            const sending = sendInPieces(peer, data, random)
            const reading = new Reading(connection.reader, data, random)
            expect(await readBy(MIXED_WAYS, reading)).to.equal(sha256(data))
            expect(connection.reader.bytesRead).to.equal(data.byteLength)
            await sending
          })
        }

        it('reader.bytesRead counts what arrived, reader.bytesAvailable what is left of it', async () => {
          const { connection, peer } = await open()
          const { reader } = connection
          expect([reader.bytesRead, reader.bytesAvailable]).to.deep.equal([0, 0])
          await deliver(peer, connection, 'abc', 'de')
          expect([reader.bytesRead, reader.bytesAvailable]).to.deep.equal([5, 5])
          await reader.peek(4)
          expect([reader.bytesRead, reader.bytesAvailable]).to.deep.equal([5, 5])
          await reader.readExactly(4)
          expect([reader.bytesRead, reader.bytesAvailable]).to.deep.equal([5, 1])
        })

        it('reader.read() gives the chunks as they arrived', async () => {
          const { connection, peer } = await open()
          await deliver(peer, connection, 'abc', 'de')
          expect(text(await connection.reader.read())).to.equal('abc')
          expect(text(await connection.reader.read())).to.equal('de')
        })

        it('reader.readExactly() joins and cuts chunks, and 0 bytes are none', async () => {
          const { connection, peer } = await open()
          const { reader } = connection
          await deliver(peer, connection, 'abc', 'de', 'f')
          expect(text(await reader.readExactly(0))).to.equal('')
          expect(text(await reader.readExactly(1))).to.equal('a')
          expect(text(await reader.readExactly(4))).to.equal('bcde')
          expect(text(await reader.read())).to.equal('f')
        })

        it('reader.peek() waits for as many bytes as asked for, and takes none', async () => {
          const { connection, peer } = await open()
          const peek = connection.reader.peek(4)
          await deliver(peer, connection, 'abc', 'de')
          expect(text(await peek)).to.equal('abcd')
          expect(text(await connection.reader.peek(5))).to.equal('abcde')
          expect(text(await connection.reader.peek(0))).to.equal('')
          expect(connection.reader.bytesAvailable).to.equal(5)
        })

        it('reader.readInto() fills the buffer with what is there, and leaves the rest of the buffer and of the bytes alone', async () => {
          const { connection, peer } = await open()
          const { reader } = connection
          await deliver(peer, connection, 'abc', 'def')
          const buffer = bytes('.....')
          expect(await reader.readInto(buffer.subarray(1, 5))).to.equal(4)
          expect(text(buffer)).to.equal('.abcd')
          expect(await reader.readInto(buffer)).to.equal(2)
          expect(text(buffer)).to.equal('efbcd')
          const pending = reader.readInto(buffer)
          await deliver(peer, connection, '123456789')
          expect(await pending).to.equal(5)
          expect(text(buffer)).to.equal('12345')
          expect(text(await reader.read())).to.equal('6789')
          const exact = reader.readInto(buffer)
          await deliver(peer, connection, 'abcde')
          expect(await exact).to.equal(5)
          const next = reader.read()
          await deliver(peer, connection, 'f')
          expect(text(await next)).to.equal('f')
        })

        it('reader.readUntil() finds a delimiter that is split over chunks in every way', async () => {
          const { connection, peer } = await open()
          const { reader } = connection
          const delimiter = '\r\n-é-'
          const record = bytes(`ab\r\n-${delimiter}`)
          const rest = [...record.keys()].slice(1)
          const splits = [
            rest,
            ...rest.map((at) => [at]),
            ...rest.flatMap((first) => rest.filter((at) => at > first).map((at) => [first, at]))
          ]
          for (const split of splits) {
            for (const isPending of [true, false]) {
              const pieces = [0, ...split].map((start, index) => record.subarray(start, split[index] ?? record.byteLength))
              const pending = isPending ? reader.readUntil(delimiter) : undefined
              await deliver(peer, connection, ...pieces)
              const wanted = isPending ? pending : reader.readUntil(bytes(delimiter))
              expect(text((await wanted) ?? null), `split at ${split}`).to.equal(text(record))
              expect(reader.bytesAvailable).to.equal(0)
            }
          }
        })

        it('reader.readUntil() finds the first of several delimiters, and leaves what follows', async () => {
          const { connection, peer } = await open()
          const { reader } = connection
          await deliver(peer, connection, 'a', 'aab', '.aaab;')
          expect(text(await reader.readUntil('aab'))).to.equal('aaab')
          expect(text(await reader.readUntil('aab'))).to.equal('.aaab')
          expect(text(await reader.readUntil(bytes(';')))).to.equal(';')
        })

        it('reader.readLine() gives UTF-8 without \\n or \\r\\n, wherever the chunks are split', async () => {
          const { connection, peer } = await open()
          const { reader } = connection
          const wanted = ['', 'plain', 'crlf', '', 'é€😀', 'a\rb', 'double\r', '\uFEFFmark', 'last']
          const all = bytes('\nplain\ncrlf\r\n\r\né€😀\na\rb\ndouble\r\r\n\uFEFFmark\nlast\r\n')
          for (const size of [1, 2, 3, 5, 100]) {
            const pieces = Array.from({ length: Math.ceil(all.byteLength / size) }, (_, index) =>
              all.subarray(index * size, (index + 1) * size)
            )
            const delivered = deliver(peer, connection, ...pieces)
            const lines: (string | null)[] = []
            for (let count = 0; count < wanted.length; count++) lines.push(await reader.readLine())
            expect(lines, `in pieces of ${size}`).to.deep.equal(wanted)
            await delivered
            expect(reader.bytesAvailable).to.equal(0)
          }
        })

        it('reader.lines() gives the same lines as reader.readLine()', async () => {
          const { connection, peer } = await open()
          await deliver(peer, connection, 'a\r\nb', '\n\né\nc\n', 'd\nlast')
          peer.end()
          const lines: string[] = []
          for await (const line of connection.reader.lines()) {
            lines.push(line)
            if (line === 'a') lines.push((await connection.reader.readLine()) as string)
            if (line === 'c') lines.push(text(await connection.reader.readExactly(2)) as string)
          }
          expect(lines).to.deep.equal(['a', 'b', '', 'é', 'c', 'd\n', 'last'])
        })

        it('reader.lineBatches() gives the same lines, those together that came together', async () => {
          const { connection, peer } = await open()
          await deliver(peer, connection, 'a\r\nb\n', '\né\nc')
          const batches: string[][] = []
          for await (const lines of connection.reader.lineBatches()) {
            batches.push(lines)
            if (lines.includes('é')) peer.end('\nlast')
          }
          expect(batches.flat()).to.deep.equal(['a', 'b', '', 'é', 'c', 'last'])
          expect(batches.slice(0, 2)).to.deep.equal([
            ['a', 'b'],
            ['', 'é']
          ])
        })

        it('reader.readLine() gives a line of 64 MiB that came in pieces of 1 KiB', async () => {
          const { connection, peer } = await open()
          const piece = Buffer.alloc(KIB, 'x')
          const line = connection.reader.readLine({ maxLength: Number.POSITIVE_INFINITY })
          for (let sent = 0; sent < 64 * MIB; sent += KIB) if (!peer.write(piece)) await once(peer, 'drain')
          peer.write('\nrest')
          expect(await line).to.have.length(64 * MIB)
          expect(text(await connection.reader.read())).to.equal('rest')
        }).timeout(60_000)
      })

      describe('law 2: leaving a loop early leaves the reader open, and the next read goes on where the loop stopped', () => {
        it('goes on after a break', async () => {
          const { connection, peer } = await open()
          await deliver(peer, connection, 'abc', 'de')
          for await (const chunk of connection.reader) {
            expect(text(chunk)).to.equal('abc')
            break
          }
          expect(text(await connection.reader.read())).to.equal('de')
          for await (const chunk of whileSending(connection.reader, peer, 'fg')) {
            expect(text(chunk)).to.equal('fg')
            break
          }
          connection.writer.write('still open')
          expect(`${await onceData(peer)}`).to.equal('still open')
        })

        it('goes on after a throw', async () => {
          const { connection, peer } = await open()
          await deliver(peer, connection, 'abc', 'de')
          const reason = new Error('enough')
          const failing = async (): Promise<void> => {
            for await (const chunk of connection.reader) throw chunk.byteLength === 3 ? reason : chunk
          }
          expect(await rejection(failing())).to.equal(reason)
          expect(text(await connection.reader.read())).to.equal('de')
        })

        it('goes on inside a chunk after a loop over lines', async () => {
          const { connection, peer } = await open()
          await deliver(peer, connection, 'one\ntwo\nthree')
          for await (const line of connection.reader.lines()) if (line === 'two') break
          expect(text(await connection.reader.read())).to.equal('three')
        })

        it('an iterator that was left is done, and takes no byte', async () => {
          const { connection, peer } = await open()
          await deliver(peer, connection, 'abc\n')
          for (const iterator of [connection.reader[Symbol.asyncIterator](), connection.reader.lines(), connection.reader.lineBatches()]) {
            expect(await iterator.return?.()).to.deep.equal({ value: undefined, done: true })
            expect(await iterator.next()).to.deep.equal({ value: undefined, done: true })
          }
          expect(connection.reader.bytesAvailable).to.equal(4)
        })
      })

      describe("law 3: chunks are never empty and are the caller's to keep", () => {
        it('gives no empty chunk', async () => {
          const { connection, peer } = await open({ readerBufferSize: 1 })
          const random = randomFrom(4)
          const sending = sendInPieces(peer, randomText(random, 200_000), random)
          let received = 0
          for await (const chunk of connection.reader) {
            expect(chunk.byteLength).to.be.greaterThan(0)
            received += chunk.byteLength
          }
          expect(received).to.equal(200_000)
          await sending
        })

        it('leaves kept chunks as they are, whatever arrives after them', async () => {
          const { connection, peer } = await open()
          const random = randomFrom(5)
          const data = randomText(random, 4 * MIB)
          const sending = sendInPieces(peer, data, random)
          const kept: Uint8Array[] = []
          for await (const chunk of connection.reader) kept.push(chunk)
          expect(sha256(Buffer.concat(kept))).to.equal(sha256(data))
          await sending
        })

        it('lets the caller change chunks without changing others', async () => {
          const { connection, peer } = await open()
          const { reader } = connection
          await deliver(peer, connection, 'abc', 'def', 'ghi\njkl')
          ;(await reader.readExactly(2))?.fill(0)
          ;(await reader.read())?.fill(0)
          const kept = await reader.read()
          expect(text(kept)).to.equal('def')
          ;(await reader.readUntil('\n'))?.fill(0)
          expect(text(await reader.read())).to.equal('jkl')
          expect(text(kept)).to.equal('def')
        })

        it('lets the caller change a peeked copy without changing what is read', async () => {
          const { connection, peer } = await open()
          await deliver(peer, connection, 'abc', 'def')
          for (const length of [3, 5, 6]) (await connection.reader.peek(length))?.fill(0)
          expect(text(await connection.reader.readExactly(6))).to.equal('abcdef')
        })

        it('lets the caller transfer the memory of a chunk without emptying others', async () => {
          const { connection, peer } = await open()
          await deliver(peer, connection, 'abc', 'def', 'ghi')
          const kept = await connection.reader.read()
          const given = await connection.reader.read()
          try {
            // Refused, or copied, where the memory is shared.
            structuredClone(given, { transfer: [given?.buffer as ArrayBuffer] })
          } catch (error) {
            expect(error).to.have.property('name', 'DataCloneError')
          }
          expect(text(kept)).to.equal('abc')
          expect(text(await connection.reader.read())).to.equal('ghi')
          await deliver(peer, connection, 'jkl')
          expect(text(await connection.reader.read())).to.equal('jkl')
        })

        it('lets the caller transfer the memory of a part of a chunk without emptying the rest', async () => {
          const { connection, peer } = await open()
          // Larger than what is cut from memory shared by small chunks.
          const sent = new Uint8Array(20_000).map((_, i) => i % 251)
          peer.write(sent)
          await connection.reader.peek(sent.byteLength)
          const given = await connection.reader.readExactly(1_000)
          try {
            // Refused, or copied, where the memory is shared.
            structuredClone(given, { transfer: [given?.buffer as ArrayBuffer] })
          } catch (error) {
            expect(error).to.have.property('name', 'DataCloneError')
          }
          expect(Buffer.from((await connection.reader.readExactly(19_000)) as Uint8Array).equals(sent.subarray(1_000))).to.equal(true)
        })

        it('gives chunks that crypto.subtle and Blob take', async () => {
          const { connection, peer } = await open()
          await deliver(peer, connection, 'abc', 'def')
          const chunk = (await connection.reader.read()) as Uint8Array<ArrayBuffer>
          expect(Buffer.from(await crypto.subtle.digest('SHA-256', chunk)).toString('hex')).to.equal(sha256(bytes('abc')))
          expect(await new Blob([chunk]).text()).to.equal('abc')
        })
      })

      describe('law 4: while nobody reads, at most readerBufferSize bytes plus one chunk are held; then the peer feels it', () => {
        for (const readerBufferSize of [1, 10_000, 300_000]) {
          it(`holds no more with a readerBufferSize of ${readerBufferSize}, and loses nothing`, async () => {
            const { connection, peer } = await open({ readerBufferSize })
            const { reader } = connection
            peer.end(TOO_MUCH)
            await until(() => reader.bytesAvailable >= readerBufferSize)
            const held = reader.bytesAvailable
            await turns(50)
            expect(reader.bytesAvailable).to.equal(held)
            expect(held).to.be.at.most(readerBufferSize + LARGEST_CHUNK)
            expect(peer.writableLength).to.be.greaterThan(0)
            expect(await reader.discard()).to.equal(TOO_MUCH.byteLength)
          })
        }

        it('holds 64 KiB plus a chunk unless told otherwise', async () => {
          const { connection, peer } = await open()
          peer.end(TOO_MUCH)
          await until(() => connection.reader.bytesAvailable >= 64 * KIB)
          await turns(50)
          expect(connection.reader.bytesAvailable).to.be.at.most(64 * KIB + LARGEST_CHUNK)
        })

        it('goes on as soon as there is room again, and stops again', async () => {
          const { connection, peer } = await open({ readerBufferSize: 1000 })
          const { reader } = connection
          peer.end(TOO_MUCH)
          for (let round = 0; round < 5; round++) {
            await until(() => reader.bytesAvailable >= 1000)
            await turns(5)
            expect(reader.bytesAvailable).to.be.at.most(1000 + LARGEST_CHUNK)
            await reader.readExactly(reader.bytesAvailable - (round % 2))
          }
        })

        it('holds no more while a loop is slow', async () => {
          const { connection, peer } = await open({ readerBufferSize: 1000 })
          peer.end(TOO_MUCH)
          let count = 0
          for await (const chunk of connection.reader) {
            await turns(3)
            expect(connection.reader.bytesAvailable).to.be.at.most(1000 + LARGEST_CHUNK)
            if (++count === 20 || chunk.byteLength === 0) break
          }
        })

        it('still gives a read that asks for more all of it', async () => {
          const { connection, peer } = await open({ readerBufferSize: 1000 })
          const { reader } = connection
          peer.end(TOO_MUCH)
          await until(() => reader.bytesAvailable >= 1000)
          expect(await reader.peek(MIB)).to.have.length(MIB)
          expect(await reader.readExactly(MIB)).to.have.length(MIB)
          await until(() => reader.bytesAvailable >= 1000)
          await turns(50)
          expect(reader.bytesAvailable).to.be.at.most(1000 + LARGEST_CHUNK)
          expect((await rejection(reader.readLine({ maxLength: MIB }))) as Error).to.be.instanceOf(DelimiterNotFoundError)
          expect(await reader.discard()).to.equal(TOO_MUCH.byteLength - MIB)
        })
      })

      describe("law 5: after the peer's FIN all buffered bytes are still delivered, then the end, again and again", () => {
        for (const method of METHODS) {
          it(`${method.name} gives what is buffered, then ${method.atEnd === null ? 'null' : 'nothing'} again and again`, async () => {
            const { connection, peer } = await open()
            const { reader } = connection
            await deliver(peer, connection, 'abcd\n')
            peer.end()
            await reader.ended
            expect(plain(await method.read(reader))).to.equal(method.gives)
            expect(text(await reader.readAll())).to.equal(method.leaves)
            for (let again = 0; again < 3; again++) expect(plain(await method.read(reader))).to.equal(method.atEnd)
          })

          it(`${method.name} that is pending settles at the end`, async () => {
            const { connection, peer } = await open()
            const pending = method.read(connection.reader)
            peer.end()
            expect(plain(await pending)).to.equal(method.atEnd)
          })
        }

        it('leaves the writer alone', async () => {
          const { connection, peer } = await open()
          peer.end('request')
          expect(text(await connection.reader.readAll())).to.equal('request')
          connection.writer.write('reply')
          await connection.writer.close()
          expect(`${await readToEnd(peer)}`).to.equal('reply')
        })

        it('delivers buffered bytes also after the descriptor was released', async () => {
          const { connection, peer } = await open()
          await deliver(peer, connection, 'abc')
          peer.end()
          await connection.writer.close()
          await connection.closed
          expect(text(await connection.reader.read())).to.equal('abc')
          expect(await connection.reader.read()).to.equal(null)
        })

        it('reader.ended resolves once the end is noticed, with bytes still buffered, whoever asks when', async () => {
          const { connection, peer } = await open()
          const { reader } = connection
          let isEnded = false
          const ended = reader.ended.then(() => {
            isEnded = true
          })
          await deliver(peer, connection, 'abc')
          await turns()
          expect(isEnded).to.equal(false)
          peer.end()
          await ended
          await reader.ended
          expect(reader.bytesAvailable).to.equal(3)
        })

        it('gives the end behind more than is read ahead', async () => {
          const { connection, peer } = await open({ readerBufferSize: 1 })
          peer.end(new Uint8Array(MIB))
          expect(await connection.reader.readAll()).to.have.length(MIB)
          expect(await connection.reader.read()).to.equal(null)
        })
      })

      describe('law 6: if the connection breaks, what the system holds is delivered first, then reads reject with ConnectionResetError', () => {
        for (const method of METHODS) {
          it(`${method.name} that is pending rejects, and so does every later one`, async () => {
            const { connection, peer } = await open()
            const failed = rejection(method.read(connection.reader))
            await breakOff(connection, peer)
            expectReset(await failed, 'ECONNRESET')
            for (let again = 0; again < 3; again++) expectReset(await rejection(method.read(connection.reader)), 'ECONNRESET')
          })

          if (!method.isPatient) continue
          it(`${method.name} rejects with too few bytes, which stay readable`, async () => {
            const { connection, peer } = await open()
            const { reader } = connection
            await deliver(peer, connection, 'ab')
            const failed = rejection(method.read(reader))
            await breakOff(connection, peer)
            expectReset(await failed, 'ECONNRESET')
            expectReset(await rejection(method.read(reader)), 'ECONNRESET')
            expect(text(await reader.read())).to.equal('ab')
            expectReset(await rejection(reader.read()), 'ECONNRESET')
          })
        }

        it('delivers bytes and a reset that arrive together, and takes the reset for no end', async () => {
          for (const isPending of [true, false]) {
            const { connection, peer } = await open()
            const { reader } = connection
            await provoke(connection, peer)
            const pending = isPending ? reader.read() : undefined
            await breakOff(connection, peer, 'abcd\n')
            if (!isPending) await reader.ended
            expect(text((await (pending ?? reader.read())) ?? null)).to.equal('abcd\n')
            expectReset(await rejection(reader.read()), 'ECONNRESET')
          }
        })

        it('delivers what a reset finds unread in the system', async () => {
          const { connection, peer } = await open({ readerBufferSize: 1 })
          const { reader } = connection
          await deliver(peer, connection, 'a')
          await provoke(connection, peer)
          await new Promise((resolve) => peer.write('bc', resolve))
          await breakOff(connection, peer)
          await turns()
          expect(reader.bytesAvailable).to.equal(1)
          expect(text(await reader.readExactly(3))).to.equal('abc')
          expectReset(await rejection(reader.read()), 'ECONNRESET')
        })

        it('delivers all that a reset finds unread in the system, though no read is under way', async function () {
          if (process.platform !== 'linux') this.skip()
          const { connection, peer } = await open({ readerBufferSize: 1 })
          await deliver(peer, connection, 'a')
          await provoke(connection, peer)
          const data = new Uint8Array(40_000).map((_, index) => index % 251)
          await new Promise((resolve) => peer.write(data, resolve))
          await breakOff(connection, peer)
          const received: Uint8Array[] = []
          const loop = async (): Promise<void> => {
            for await (const chunk of connection.reader) received.push(chunk)
          }
          expectReset(await rejection(loop()), 'ECONNRESET')
          expect(sha256(Buffer.concat(received))).to.equal(sha256(Buffer.concat([bytes('a'), data])))
        })

        it('delivers unread bytes after a write has met the reset, and takes what follows for no end', async () => {
          const { connection, peer } = await open({ readerBufferSize: 1 })
          const { reader, writer } = connection
          await deliver(peer, connection, 'a')
          await new Promise((resolve) => peer.write('bcd', resolve))
          await breakOff(connection, peer)
          await until(async () => {
            if (writer.isClosed) return true
            writer.write('x')
            return (await rejection(writer.flushed().then(() => Promise.reject(undefined)))) !== undefined
          })
          expectReset(await rejection(writer.flushed()), 'ECONNRESET', 'EPIPE')
          expect(reader.bytesAvailable).to.equal(1)
          expect(text(await reader.readExactly(4))).to.equal('abcd')
          for (let again = 0; again < 3; again++) expectReset(await rejection(reader.read()), 'ECONNRESET', 'EPIPE')
          await connection.closed
        })

        it('a write that fails after the end was noticed leaves what is buffered, and the end', async () => {
          const { connection, peer } = await open()
          const { reader, writer } = connection
          await deliver(peer, connection, 'abc')
          peer.end()
          await reader.ended
          peer.destroy()
          await once(peer, 'close')
          await until(async () => {
            if (writer.isClosed) return true
            writer.write('x')
            await writer.flushed().catch(() => {})
            return connection.signal.aborted
          })
          expect(text(await reader.read())).to.equal('abc')
          expect(await reader.read()).to.equal(null)
        })

        it('reader.ended resolves on a reset', async () => {
          const { connection, peer } = await open()
          const { ended } = connection.reader
          await breakOff(connection, peer)
          await ended
          await connection.reader.ended
        })
      })

      describe('law 7: of two reads at once the second rejects with BusyError and takes nothing', () => {
        for (const method of METHODS) {
          it(`${method.name} that is pending makes every other read reject, and gets all that it waits for`, async () => {
            const { connection, peer } = await open()
            const { reader } = connection
            const pending = method.read(reader)
            for (const other of METHODS) expect(await rejection(other.read(reader)), other.name).to.be.instanceOf(BusyError)
            await deliver(peer, connection, 'abcd\n')
            peer.end()
            expect(plain(await pending)).to.equal(method.gives)
            expect(text(await reader.readAll())).to.equal(method.leaves)
          })
        }

        it('rejects also when a read that asks for less could be given it', async () => {
          const { connection, peer } = await open()
          await deliver(peer, connection, 'abc\n')
          const pending = connection.reader.readExactly(5)
          for (const other of METHODS) expect(await rejection(other.read(connection.reader)), other.name).to.be.instanceOf(BusyError)
          expect(connection.reader.bytesAvailable).to.equal(4)
          await deliver(peer, connection, 'd')
          expect(text(await pending)).to.equal('abc\nd')
        })

        it('an iterator goes on after a BusyError', async () => {
          const { connection, peer } = await open()
          const iterator = connection.reader[Symbol.asyncIterator]()
          const first = iterator.next()
          expect(await rejection(iterator.next())).to.be.instanceOf(BusyError)
          await deliver(peer, connection, 'a')
          expect(plain(await first)).to.equal('a')
          const second = iterator.next()
          await deliver(peer, connection, 'b')
          expect(plain(await second)).to.equal('b')
        })

        it("an iterator's return() settles its pending next() as done and takes no byte", async () => {
          const { connection, peer } = await open()
          for (const iterator of [connection.reader[Symbol.asyncIterator](), connection.reader.lines(), connection.reader.lineBatches()]) {
            const pending = iterator.next()
            const returned = iterator.return?.()
            expect(await pending).to.deep.equal({ value: undefined, done: true })
            expect(await returned).to.deep.equal({ value: undefined, done: true })
            await deliver(peer, connection, 'abc\n')
            expect(text(await connection.reader.read())).to.equal('abc\n')
          }
        })

        it('return() of a loop over lines leaves an unfinished line', async () => {
          const { connection, peer } = await open()
          const lines = connection.reader.lines()
          const pending = lines.next()
          await deliver(peer, connection, 'ab')
          await lines.return?.()
          expect(await pending).to.deep.equal({ value: undefined, done: true })
          await deliver(peer, connection, 'cd\n')
          expect(await connection.reader.readLine()).to.equal('abcd')
        })

        it("an iterator's return() leaves the pending read of another alone", async () => {
          const { connection, peer } = await open()
          const pending = connection.reader.read()
          await connection.reader[Symbol.asyncIterator]().return?.()
          await deliver(peer, connection, 'abc')
          expect(text(await pending)).to.equal('abc')
        })
      })

      describe('law 8: what asks for too much rejects, and the bytes stay readable', () => {
        it('reader.readExactly() with too few bytes before the end: UnexpectedEndError', async () => {
          const { connection, peer } = await open()
          const { reader } = connection
          const failed = rejection(reader.readExactly(4))
          peer.end('abc')
          const error = (await failed) as Error
          expect(error).to.be.instanceOf(UnexpectedEndError)
          expect(error.message).to.equal('Cannot read 4 bytes as the stream ended after 3')
          expect(await rejection(reader.readExactly(4))).to.be.instanceOf(UnexpectedEndError)
          expect(text(await reader.readExactly(3))).to.equal('abc')
          expect(await reader.readExactly(1)).to.equal(null)
        })

        it('reader.peek() gives less at the end', async () => {
          const { connection, peer } = await open()
          const pending = connection.reader.peek(4)
          peer.end('abc')
          expect(text(await pending)).to.equal('abc')
          expect(text(await connection.reader.peek(4))).to.equal('abc')
          expect(text(await connection.reader.read())).to.equal('abc')
          expect(await connection.reader.peek(4)).to.equal(null)
        })

        it('reader.readUntil() gives the rest without a delimiter, then null', async () => {
          const { connection, peer } = await open()
          peer.end('a\r\nb\r')
          expect(text(await connection.reader.readUntil('\r\n'))).to.equal('a\r\n')
          expect(text(await connection.reader.readUntil('\r\n'))).to.equal('b\r')
          expect(await connection.reader.readUntil('\r\n')).to.equal(null)
        })

        it('reader.readLine() and lines() give an unterminated last line', async () => {
          for (const last of ['b', 'b\r', 'é']) {
            const { connection, peer } = await open()
            peer.end(`a\r\n${last}`)
            expect(await connection.reader.readLine()).to.equal('a')
            expect(await connection.reader.readLine()).to.equal(last)
            expect(await connection.reader.readLine()).to.equal(null)
            expect(await connection.reader.lines().next()).to.deep.equal({ value: undefined, done: true })
          }
        })

        const limited = {
          'readUntil()': (reader: Reader, maxLength?: number) => reader.readUntil('\n', limit(maxLength)),
          'readLine()': (reader: Reader, maxLength?: number) => reader.readLine(limit(maxLength)),
          'lines()': (reader: Reader, maxLength?: number) => reader.lines(limit(maxLength)).next(),
          'lineBatches()': (reader: Reader, maxLength?: number) => reader.lineBatches(limit(maxLength)).next()
        }
        for (const [name, read] of Object.entries(limited)) {
          it(`reader.${name} takes maxLength bytes, the delimiter not counted, and rejects beyond with DelimiterNotFoundError`, async () => {
            const { connection, peer } = await open()
            const { reader } = connection
            for (const letter of ['a', 'é']) {
              const line = letter.repeat(6 / bytes(letter).byteLength)
              await deliver(peer, connection, `${line}\n`)
              expect(String(plain(await read(reader, 6))).trimEnd()).to.equal(line)
              await deliver(peer, connection, `${line}\n`)
              const error = (await rejection(read(reader, 5))) as Error
              expect(error).to.be.instanceOf(DelimiterNotFoundError)
              expect(error.message).to.equal("Cannot find '\\n' within 5 bytes")
              expect(text(await reader.read())).to.equal(`${line}\n`)
            }
          })

          it(`reader.${name} rejects without a delimiter in sight, pending and at the end`, async () => {
            const { connection, peer } = await open()
            const { reader } = connection
            const failed = rejection(read(reader, 3))
            await deliver(peer, connection, 'abc', 'd', 'e')
            expect(await failed).to.be.instanceOf(DelimiterNotFoundError)
            peer.end()
            await reader.ended
            expect(await rejection(read(reader, 4))).to.be.instanceOf(DelimiterNotFoundError)
            expect(plain(await read(reader, 5))).to.equal('abcde')
          })

          it(`reader.${name} rejects as soon as the byte after maxLength is none of a delimiter`, async () => {
            const { connection, peer } = await open()
            const failed = rejection(read(connection.reader, 3))
            await deliver(peer, connection, 'abcd')
            expect(await failed).to.be.instanceOf(DelimiterNotFoundError)
            expect(text(await connection.reader.read())).to.equal('abcd')
          })

          it(`reader.${name} takes 64 KiB unless told otherwise, and any length with Infinity`, async () => {
            const { connection, peer } = await open({ readerBufferSize: 1 })
            const { reader } = connection
            const longest = 'x'.repeat(DEFAULT_MAX_LENGTH)
            peer.end(`${longest}\n${longest}x\n`)
            expect(String(plain(await read(reader))).trimEnd()).to.equal(longest)
            expect(await rejection(read(reader))).to.be.instanceOf(DelimiterNotFoundError)
            expect(String(plain(await read(reader, Number.POSITIVE_INFINITY))).trimEnd()).to.equal(`${longest}x`)
          })
        }

        it('reader.readLine() counts neither \\n nor \\r\\n', async () => {
          const { connection, peer } = await open()
          const { reader } = connection
          for (const pieces of [['abc\r\n'], ['abc', '\r', '\n'], ['abc\r', '\n'], ['é', 'x\r\n']]) {
            const pending = reader.readLine({ maxLength: 3 })
            await deliver(peer, connection, ...pieces)
            expect(await pending).to.equal(pieces.join('').trimEnd())
          }
        })

        it('reader.readUntil() does not count a long delimiter', async () => {
          const { connection, peer } = await open()
          const { reader } = connection
          await deliver(peer, connection, 'abc--', '--')
          expect(text(await reader.readUntil('----', { maxLength: 3 }))).to.equal('abc----')
          const pending = reader.readUntil('----', { maxLength: 3 })
          await deliver(peer, connection, 'abc---', '-')
          expect(text(await pending)).to.equal('abc----')
          await deliver(peer, connection, 'abcd---', '-')
          expect(await rejection(reader.readUntil('----', { maxLength: 3 }))).to.be.instanceOf(DelimiterNotFoundError)
          expect(text(await reader.readUntil('----', { maxLength: 4 }))).to.equal('abcd----')
        })

        it('reader.readAll() takes maxLength bytes, and rejects beyond with LimitExceededError', async () => {
          const { connection, peer } = await open()
          const { reader } = connection
          const failed = rejection(reader.readAll({ maxLength: 5 }))
          await deliver(peer, connection, 'abc', 'def')
          const error = (await failed) as Error
          expect(error).to.be.instanceOf(LimitExceededError)
          expect(error.message).to.equal('Cannot read all as there are more than 5 bytes')
          peer.end()
          expect(text(await reader.readAll({ maxLength: 6 }))).to.equal('abcdef')
        })

        it('reader.readAll() has no limit unless given one', async () => {
          const { connection, peer } = await open({ readerBufferSize: 1 })
          peer.end(TOO_MUCH.subarray(0, 5 * MIB))
          expect(await connection.reader.readAll()).to.have.length(5 * MIB)
        })

        it('none of them ends the reader', async () => {
          const { connection, peer } = await open()
          const { reader } = connection
          await deliver(peer, connection, 'abcdef')
          await rejection(reader.readLine({ maxLength: 2 }))
          await rejection(reader.readUntil(';', { maxLength: 2 }))
          await rejection(reader.readAll({ maxLength: 2 }))
          await deliver(peer, connection, '\n')
          expect(await reader.readLine()).to.equal('abcdef')
        })
      })

      describe('law 9: a read that is aborted by its signal rejects with signal.reason and loses no byte', () => {
        for (const method of METHODS.filter(({ takesSignal }) => takesSignal)) {
          it(`${method.name} that is pending rejects, and the next gets every byte`, async () => {
            const { connection, peer } = await open()
            const { reader } = connection
            const controller = new AbortController()
            const reason = new Error('enough')
            const pieces = method.isPatient ? ['ab', 'cd\n'] : ['', 'abcd\n']
            if (method.isPatient) await deliver(peer, connection, 'ab')
            const failed = rejection(method.read(reader, { signal: controller.signal }))
            expect(getEventListeners(controller.signal, 'abort')).to.have.length(1)
            controller.abort(reason)
            expect(await failed).to.equal(reason)
            expect(getEventListeners(controller.signal, 'abort')).to.have.length(0)
            expect(reader.bytesAvailable).to.equal(pieces[0]?.length)
            await deliver(peer, connection, pieces[1] as string)
            peer.end()
            expect(plain(await method.read(reader))).to.equal(method.gives)
            expect(text(await reader.readAll())).to.equal(method.leaves)
          })

          it(`${method.name} with an aborted signal rejects and takes nothing`, async () => {
            const { connection, peer } = await open()
            await deliver(peer, connection, 'abcd\n')
            peer.end()
            await connection.reader.ended
            const reason = new Error('enough')
            expect(await rejection(method.read(connection.reader, { signal: AbortSignal.abort(reason) }))).to.equal(reason)
            expect(text(await connection.reader.readAll())).to.equal('abcd\n')
          })

          it(`${method.name} leaves no listener on its signal, whether it succeeds, ends or fails`, async () => {
            const { signal } = new AbortController()
            const { connection, peer } = await open()
            const pending = method.read(connection.reader, { signal })
            await deliver(peer, connection, 'abcd\n')
            peer.end()
            await pending
            await connection.reader.discard()
            await method.read(connection.reader, { signal })
            expect(getEventListeners(signal, 'abort')).to.have.length(0)
            const broken = await open()
            const failed = rejection(method.read(broken.connection.reader, { signal }))
            await breakOff(broken.connection, broken.peer)
            await failed
            expect(getEventListeners(signal, 'abort')).to.have.length(0)
            const closed = await open()
            const refused = rejection(method.read(closed.connection.reader, { signal }))
            closed.connection.abort()
            await refused
            expect(getEventListeners(signal, 'abort')).to.have.length(0)
          })
        }

        it('a loop over aborted reads gets every byte', async () => {
          const { connection, peer } = await open()
          const { reader } = connection
          const random = randomFrom(9)
          const data = randomText(random, 200_000)
          const sending = sendInPieces(peer, data, random)
          const received: Uint8Array[] = []
          for (;;) {
            const controller = new AbortController()
            const pending = reader.readExactly(1 + random(5000), { signal: controller.signal })
            setImmediate(() => controller.abort())
            try {
              const chunk = await pending
              if (chunk === null) break
              received.push(chunk)
            } catch (error) {
              if (error instanceof UnexpectedEndError) received.push(await reader.readAll())
              else expect(error).to.equal(controller.signal.reason)
            }
          }
          expect(sha256(Buffer.concat(received))).to.equal(sha256(data))
          await sending
        })
      })

      describe('law 10: after your own close() or abort() a pending or later read rejects', () => {
        for (const method of METHODS) {
          it(`${method.name} rejects after close(), also with bytes or an end at hand`, async () => {
            const { connection, peer } = await open()
            const failed = rejection(method.read(connection.reader))
            void connection.close()
            peer.end()
            expect(await failed).to.be.instanceOf(ConnectionClosedError)
            expect(await rejection(method.read(connection.reader))).to.be.instanceOf(ConnectionClosedError)
            await connection.closed
            expect(await rejection(method.read(connection.reader))).to.be.instanceOf(ConnectionClosedError)

            const other = await open()
            await deliver(other.peer, other.connection, 'abcd\n')
            other.peer.end()
            await other.connection.reader.ended
            void other.connection.close()
            expect(await rejection(method.read(other.connection.reader))).to.be.instanceOf(ConnectionClosedError)
            expect(other.connection.reader.bytesAvailable).to.equal(0)
          })

          it(`${method.name} rejects after abort(), with the reason as the cause`, async () => {
            const { connection, peer } = await open()
            const reason = new Error('enough')
            if (method.isPatient) await deliver(peer, connection, 'ab')
            const failed = rejection(method.read(connection.reader))
            connection.abort(reason)
            for (const failure of [failed, rejection(method.read(connection.reader))]) {
              const error = (await failure) as Error
              expect(error).to.be.instanceOf(ConnectionClosedError)
              expect(error.cause).to.equal(reason)
            }
          })
        }

        it('reader.ended resolves after either', async () => {
          const closed = await open()
          closed.peer.end()
          await closed.connection.close()
          await closed.connection.reader.ended
          const aborted = await open()
          const { ended } = aborted.connection.reader
          aborted.connection.abort()
          await ended
        })
      })

      describe('wrong arguments are refused with a rejection, and nothing is taken', () => {
        const NUMBERS: readonly unknown[] = [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, '1', 1n, null, undefined]
        const LIMITS: readonly unknown[] = [0, -1, 1.5, Number.NaN, Number.NEGATIVE_INFINITY, '1', 1n, null]
        const SIGNALS: readonly unknown[] = [null, {}, 'signal', new AbortController(), new EventTarget()]
        const OPTIONS: readonly unknown[] = [null, 5, 'x', true]
        type Call = (reader: Reader, value: unknown) => Promise<unknown>
        const calls: [method: string, name: string, values: readonly unknown[], call: Call][] = [
          ['readExactly()', 'length', NUMBERS, (reader, value) => reader.readExactly(value as never)],
          ['peek()', 'length', NUMBERS, (reader, value) => reader.peek(value as never)],
          ['readUntil()', 'delimiter', [1, null, undefined, {}, [10]], (reader, value) => reader.readUntil(value as never)],
          ['readUntil()', 'delimiter', ['', new Uint8Array(0)], (reader, value) => reader.readUntil(value as never)],
          ['readUntil()', 'maxLength', LIMITS, (reader, value) => reader.readUntil('\n', { maxLength: value as never })],
          ['readLine()', 'maxLength', LIMITS, (reader, value) => reader.readLine({ maxLength: value as never })],
          ['readAll()', 'maxLength', LIMITS, (reader, value) => reader.readAll({ maxLength: value as never })],
          ['lines()', 'maxLength', LIMITS, async (reader, value) => reader.lines({ maxLength: value as never })],
          ['lineBatches()', 'maxLength', LIMITS, async (reader, value) => reader.lineBatches({ maxLength: value as never })],
          [
            'readInto()',
            'buffer',
            [null, undefined, 'x', 5, [], {}, new ArrayBuffer(1), new DataView(new ArrayBuffer(1)), new Uint16Array(1)],
            (reader, value) => reader.readInto(value as never)
          ]
        ]
        for (const method of METHODS.filter(({ takesSignal }) => takesSignal)) {
          const call = async (reader: Reader, options: unknown): Promise<unknown> => await method.read(reader, options as never)
          calls.push([method.name, 'signal', SIGNALS, (reader, signal) => call(reader, { signal })])
          calls.push([method.name, 'options', OPTIONS, call])
        }
        for (const [method, name, values, call] of calls) {
          it(`reader.${method} refuses a wrong '${name}' such as ${typeof values[0] === 'number' ? values[0] : typeof values[0]}`, async () => {
            const { connection, peer } = await open()
            await deliver(peer, connection, 'abcd\n')
            for (const value of values) {
              expectRefusal(await rejection(call(connection.reader, value)), name, 'Cannot read', value)
              expect(connection.reader.bytesAvailable).to.equal(5)
            }
            expect(text(await connection.reader.read())).to.equal('abcd\n')
          })
        }

        it('reader.readInto() rejects when its buffer was transferred meanwhile, and takes nothing', async () => {
          const { connection, peer } = await open()
          const buffer = new Uint8Array(10)
          const error = rejection(connection.reader.readInto(buffer))
          structuredClone(buffer, { transfer: [buffer.buffer] })
          await deliver(peer, connection, 'abc')
          expect(await error)
            .to.be.an.instanceOf(TypeError)
            .with.property('message')
            .that.matches(/detached/)
          expect(text(await connection.reader.read())).to.equal('abc')
        })

        it('reader.readInto() refuses an empty buffer', async () => {
          const { connection } = await open()
          const error = (await rejection(connection.reader.readInto(new Uint8Array(0)))) as Error
          expect(error).to.be.instanceOf(RangeError)
          expect(error.message).to.equal("Cannot read as 'buffer' must not be empty: received 0 bytes")
        })

        it('reader.readExactly(0) is no wrong argument, also after close()', async () => {
          const { connection } = await open()
          expect(text(await connection.reader.readExactly(0))).to.equal('')
          connection.abort()
          expect(await rejection(connection.reader.readExactly(0))).to.be.instanceOf(ConnectionClosedError)
        })
      })
    })
  }

  // What no peer can be made to do reliably: single bytes by the ten thousand, and two events in one turn.
  describe('fed by hand', () => {
    const fed = (bufferSize = MIB): FedReader => new FedReader(bufferSize)
    const feed = (reader: FedReader, data: string): boolean => reader.received(bytes(data))

    it('law 1: a line of 64 MiB that arrives in 65 536 chunks is searched once', async () => {
      const reader = fed()
      const chunk = new Uint8Array(KIB).fill(120)
      const line = reader.readLine({ maxLength: Number.POSITIVE_INFINITY })
      const breathe = pace()
      for (let count = 0; count < 64 * KIB; count++) {
        reader.received(chunk)
        await breathe(count)
      }
      feed(reader, '\n')
      expect(await line).to.have.length(64 * MIB)
    })

    it('law 1: a long delimiter is searched once too', async () => {
      const reader = fed()
      const chunk = new Uint8Array(KIB).fill(120)
      const record = reader.readUntil('\r\n.\r\n', { maxLength: Number.POSITIVE_INFINITY })
      const breathe = pace()
      for (let count = 0; count < 64 * KIB; count++) {
        reader.received(chunk)
        await breathe(count)
      }
      for (const byte of '\r\n.\r\n') feed(reader, byte)
      expect(await record).to.have.length(64 * MIB + 5)
    })

    for (const [name, take] of Object.entries({
      'readLine()': (reader: Reader) => reader.readLine(),
      'readUntil()': (reader: Reader) => reader.readUntil(';\n'),
      'readExactly()': (reader: Reader) => reader.readExactly(3),
      'read()': (reader: Reader) => reader.read()
    })) {
      it(`law 1: reader.${name} takes 200 000 single bytes at a cost that does not grow with what is behind`, async () => {
        const reader = fed()
        for (let count = 0; count < 200_000; count++) feed(reader, 'a;\n'[count % 3] as string)
        const breathe = pace()
        for (let count = 0; reader.bytesAvailable > 2; count++) {
          await take(reader)
          await breathe(count)
        }
      })
    }

    it('law 7: a next() that was settled by return() in the turn in which bytes arrive leaves them', async () => {
      const reader = fed()
      const iterator = reader[Symbol.asyncIterator]()
      const pending = iterator.next()
      void iterator.return?.()
      feed(reader, 'abc')
      expect(await pending).to.deep.equal({ value: undefined, done: true })
      expect(text(await reader.read())).to.equal('abc')
    })

    for (const method of METHODS.filter(({ takesSignal }) => takesSignal)) {
      it(`law 9: ${method.name} gives or leaves every byte when its signal aborts in the turn in which they arrive`, async () => {
        for (const arriveFirst of [true, false]) {
          const reader = fed()
          const controller = new AbortController()
          const settled = method.read(reader, { signal: controller.signal }).then(plain, () => undefined)
          if (!arriveFirst) controller.abort()
          feed(reader, 'abcd\n')
          if (method.name === 'discard()' || method.name === 'readAll()') reader.peerEnded()
          if (arriveFirst) controller.abort()
          expect(await settled).to.equal(arriveFirst ? method.gives : undefined)
          reader.peerEnded()
          expect(text(await reader.readAll())).to.equal(arriveFirst ? method.leaves : 'abcd\n')
        }
      })
    }
  })
})

function bytes(data: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.from(data))
}

function text(data: Uint8Array | null | undefined): string | null {
  return data == null ? null : Buffer.from(data).toString()
}

/** What a read gave, in a form that compares: bytes as text, an iterator's result as its value, the end as null. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return text(value)
  if (Array.isArray(value)) return value.join('\n')
  if (value !== null && typeof value === 'object') return plain((value as { value?: unknown }).value)
  return value ?? null
}

function limit(maxLength: number | undefined): { maxLength?: number } {
  return maxLength === undefined ? {} : { maxLength }
}

/** Sends the pieces so that each arrives as a chunk of its own. */
async function deliver(peer: Socket, { reader }: Connection, ...pieces: (Uint8Array | string)[]): Promise<void> {
  for (const piece of pieces) {
    const wanted = reader.bytesRead + Buffer.from(piece as string).byteLength
    peer.write(piece)
    await until(() => reader.bytesRead >= wanted)
  }
}

/** Sends data in pieces of random size, then FIN. */
async function sendInPieces(peer: Socket, data: Uint8Array, random: Random): Promise<void> {
  for (const piece of randomPieces(random, data)) {
    if (!peer.write(piece)) await once(peer, 'drain')
    if (random(5) === 0) await turns(1)
  }
  peer.end()
}

async function* whileSending(reader: Reader, peer: Socket, data: string): AsyncGenerator<Uint8Array> {
  peer.write(data)
  yield* reader
}

async function onceData(peer: Socket): Promise<Buffer> {
  const [data] = await once(peer.resume(), 'data')
  return data as Buffer
}

/** Leaves something unread at the peer: closing with that is a reset also on a unix socket. */
async function provoke(connection: Connection, peer: Socket): Promise<void> {
  peer.pause()
  connection.writer.write('unread')
  await connection.writer.flushed()
}

/** Ends the connection as an error: the peer resets it, with `last` sent in the same turn of the event loop. */
async function breakOff(connection: Connection, peer: Socket, last = ''): Promise<void> {
  const isTcp = connection.remoteAddress.family !== 'unix'
  if (!isTcp && connection.writer.bytesWritten === 0 && !connection.writer.isClosed) await provoke(connection, peer)
  if (last !== '') peer.write(last)
  // On the loopback what is sent has arrived when the call returns: both come before one poll.
  if (isTcp) peer.resetAndDestroy()
  else peer.destroy()
  if (!peer.closed) await once(peer, 'close')
}

function expectReset(error: unknown, ...codes: string[]): void {
  expect(error).to.be.instanceOf(ConnectionResetError)
  expect(((error as Error).cause as NodeJS.ErrnoException).code).to.be.oneOf(codes)
}
