import { createHash } from 'node:crypto'
import { expect } from 'chai'
import { Uint8ArrayList } from 'uint8arraylist'
import { type Connection, ConnectionResetError, type Reader, type Writer } from '../../src/index.ts'
import { holdsWithPushToo } from '../helpers/push-seam.ts'
import { type Random, randomFrom, randomPieces, randomText } from '../helpers/random.ts'
import { MIXED_WAYS, Reading, readBy, sha256, WAYS, type Way } from '../helpers/reading.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { openPair } from '../helpers/transports.ts'
import { turns, until } from '../helpers/until.ts'

const KIB = 1024
const MIB = 1024 * KIB
const DEFAULT_BUFFER = 64 * KIB
const SMALL_BUFFER = 1000

/** Making it takes longer than sending it: a test sends a part of it. */
const TEXT = randomText(randomFrom(1), 2 * MIB)

/** Sizes around what a reader holds. */
const SIZES: readonly [readerBufferSize: number, sizes: readonly number[]][] = [
  [SMALL_BUFFER, [0, 1, SMALL_BUFFER - 1, SMALL_BUFFER, SMALL_BUFFER + 1, MIB]],
  [DEFAULT_BUFFER, [DEFAULT_BUFFER - 1, DEFAULT_BUFFER, DEFAULT_BUFFER + 1, MIB]]
]

/** Sends everything, in pieces, and half-closes. */
type Sending = (writer: Writer, data: Uint8Array, random: Random) => Promise<void>

const SENDINGS: Readonly<Record<string, Sending>> = {
  'the sink'(writer, data, random) {
    return writer(randomPieces(random, data))
  },
  'the sink, of a source that takes its time'(writer, data, random) {
    return writer(slowly(random, data))
  },
  async 'several sinks in a row'(writer, data, random) {
    const middle = random(data.byteLength + 1)
    await writer.writeAll(randomPieces(random, data.subarray(0, middle)))
    await writer.writeAll([data.subarray(middle)])
    await writer.close()
  },
  async 'write(), flushed now and then'(writer, data, random) {
    for (const piece of randomPieces(random, data)) {
      writer.write(piece)
      if (random(4) === 0) await writer.flushed()
    }
    await writer.close()
  },
  async 'write() of everything at once'(writer, data, random) {
    for (const piece of randomPieces(random, data)) writer.write(piece)
    await writer.close()
  },
  async 'write() of strings'(writer, data, random) {
    for (const piece of randomPieces(random, data)) {
      writer.write(Buffer.from(piece).toString())
      if (random(4) === 0) await writer.flushed()
    }
    await writer.close()
  },
  'the sink, of lists'(writer, data, random) {
    return writer(lists(random, data))
  }
}

describe('Byte exactness: what is written on one side is read on the other, every byte once and in order', () => {
  for (const isTcp of [true, false]) {
    describe(`over ${isTcp ? 'TCP' : 'a unix socket'}`, () => {
      const scope = useScope()

      describe('by each way to read, of each size, both directions at once', () => {
        for (const [name, way] of Object.entries(WAYS)) {
          it(`${name} gives every byte once and in order`, async () => {
            for (const [readerBufferSize, sizes] of SIZES) {
              for (const size of sizes) await exchange(isTcp, readerBufferSize, size, [way], `${size} bytes`)
            }
          })
        }

        for (const seed of [1, 2, 3]) {
          it(`all of them in turns give every byte once and in order (${seed})`, async () => {
            for (const [readerBufferSize, sizes] of SIZES) {
              for (const size of sizes) await exchange(isTcp, readerBufferSize, size, MIXED_WAYS, `${size} bytes`, seed)
            }
          })
        }
      })

      describe('however it is written', () => {
        for (const [name, send] of Object.entries(SENDINGS)) {
          it(`${name} sends every byte once and in order, to quick readers and to slow ones`, async () => {
            for (const ways of [MIXED_WAYS, [slowRead]]) {
              for (const size of [0, 1, DEFAULT_BUFFER, MIB + MIB / 2]) {
                await exchange(isTcp, SMALL_BUFFER, size, ways, `${size} bytes`, size, send)
              }
            }
          })
        }
      })

      it('256 MiB each way at once have the digest that was sent: by a loop, and into a buffer', async function () {
        this.timeout(60_000)
        const { client, server } = await openPair(scope, isTcp)
        const data = randomBytes(MIB + 1)
        const digest = digestOf(rounds(data, 256 * MIB))
        const [looped, filled] = await Promise.all([
          digestOf(client.reader),
          digestIntoBuffer(server.reader),
          client.writer(rounds(data, 256 * MIB)),
          server.writer(rounds(data, 256 * MIB))
        ])
        expect(looped).to.equal(await digest)
        expect(filled).to.equal(await digest)
        expect([client.reader.bytesRead, server.reader.bytesRead]).to.deep.equal([256 * MIB, 256 * MIB])
        await Promise.all([client.closed, server.closed])
      })

      for (const delimiter of ['\n', '\r\n', 'aab', 'abab', 'aaa', '\r\n-é-']) {
        it(`readUntil(${JSON.stringify(delimiter)}) finds the first, wherever the chunks are split`, async () => {
          const { client, server } = await openPair(scope, isTcp)
          const random = randomFrom(delimiter.length)
          for (const text of [delimiter, `${delimiter}${delimiter}`, `a${delimiter}b`, `aabab\ra${delimiter}x`, 'aaaa', '']) {
            // A last delimiter of another kind tells that nothing else is left.
            const data = Buffer.from(`${text}|${delimiter}`)
            for (const split of splits(data.byteLength)) {
              const isPending = random(2) === 0
              const first = isPending ? client.reader.readUntil(delimiter) : undefined
              await deliver(server, client, data, split)
              let position = 0
              for (let next = first ?? client.reader.readUntil(delimiter); position < data.byteLength; ) {
                const piece = Buffer.from((await next) as Uint8Array)
                const end = data.indexOf(delimiter, position) + Buffer.byteLength(delimiter)
                expect(piece.toString(), `${JSON.stringify(text)} split at ${split}`).to.equal(data.toString('utf8', position, end))
                position = end
                if (position < data.byteLength) next = client.reader.readUntil(Buffer.from(delimiter))
              }
              expect(client.reader.bytesAvailable).to.equal(0)
            }
          }
        })
      }

      it('readLine() and lines() give the same lines, wherever the chunks are split', async () => {
        const { client, server } = await openPair(scope, isTcp)
        const lines = client.reader.lines()
        const data = Buffer.from('a\n\r\né€\r\r\n\n😀b\r\n')
        const wanted = ['a', '', 'é€\r', '', '😀b']
        for (const split of splits(data.byteLength)) {
          await deliver(server, client, data, split)
          const given: unknown[] = []
          for (const index of wanted.keys()) given.push(index % 2 === 0 ? await client.reader.readLine() : (await lines.next()).value)
          expect(given, `split at ${split}`).to.deep.equal(wanted)
          expect(client.reader.bytesAvailable).to.equal(0)
        }
      })

      async function exchange(
        overTcp: boolean,
        readerBufferSize: number,
        size: number,
        ways: readonly Way[],
        what: string,
        seed = size,
        send?: Sending
      ): Promise<void> {
        const random = randomFrom(seed + 1)
        const { client, server } = await openPair(scope, overTcp, { readerBufferSize })
        const one = async (from: Connection, to: Connection): Promise<void> => {
          const data = textOf(random, size)
          const kinds = Object.values(SENDINGS)
          const sent = (send ?? (kinds[random(kinds.length)] as Sending))(from.writer, data, random)
          const digest = await readBy(ways, new Reading(to.reader, data, random))
          await sent
          expect(digest, what).to.equal(sha256(data))
          expect([from.writer.bytesWritten, to.reader.bytesRead], what).to.deep.equal([size, size])
        }
        await Promise.all([one(client, server), one(server, client)])
        // Both have ended: the descriptors are released by themselves, and the end stays the end.
        await Promise.all([client.closed, server.closed])
        expect(await client.reader.read()).to.equal(null)
        expect(await server.reader.read()).to.equal(null)
      }
    })
  }
})

describe('Truncation: a sender that resets in the middle is an error at the receiver, never an end', () => {
  /** What is told of the break, and never of an end. */
  const READERS: Readonly<Record<string, (reader: Reader) => Promise<unknown>>> = {
    'a loop': collect,
    'a loop over lines': (reader) => drain(reader.lines({ maxLength: Number.POSITIVE_INFINITY })),
    'read()': untilNull((reader) => reader.read()),
    'readExactly()': untilNull((reader) => reader.readExactly(1000)),
    'readUntil()': untilNull((reader) => reader.readUntil('\n', { maxLength: Number.POSITIVE_INFINITY })),
    'peek()': (reader) => reader.peek(10 * MIB),
    'readLine()': untilNull((reader) => reader.readLine({ maxLength: Number.POSITIVE_INFINITY })),
    'readAll()': (reader) => reader.readAll(),
    'readInto()': untilNull((reader) => reader.readInto(new Uint8Array(5000))),
    'discard()': (reader) => reader.discard()
  }

  /** How a sender breaks off after what it has sent. */
  const BREAKS: Readonly<Record<string, (from: Connection, data: Uint8Array) => unknown>> = {
    'abort() at once'(from, data) {
      if (data.byteLength > 0) from.writer.write(data)
      from.abort()
    },
    async 'abort() when all is handed over'(from, data) {
      from.writer.write(data)
      await from.writer.flushed()
      from.abort()
    },
    async 'abort() some time later'(from, data) {
      from.writer.write(data)
      await turns(3)
      from.abort()
    },
    'a source that throws'(from, data) {
      return rejection(from.writer(failing(data)))
    }
  }

  for (const isTcp of [true, false]) {
    // A unix socket has no reset of its own: the kernel makes one of a close that leaves something unread.
    describe(`over ${isTcp ? 'TCP' : 'a unix socket, with something unread at the sender'}`, () => {
      const scope = useScope()

      for (const [name, read] of Object.entries(READERS)) {
        it(`${name} rejects with ConnectionResetError, whatever has arrived before`, async () => {
          for (const [how, breakOff] of Object.entries(BREAKS)) {
            for (const size of [0, 1, SMALL_BUFFER, DEFAULT_BUFFER - 1, DEFAULT_BUFFER, DEFAULT_BUFFER + 1, MIB]) {
              for (const isPending of [true, false]) {
                const { client, server } = await openPair(scope, isTcp, { readerBufferSize: SMALL_BUFFER })
                if (!isTcp) await leaveUnread(client, server)
                const pending = isPending ? rejection(read(client.reader)) : undefined
                const breaking = breakOff(server, textOf(randomFrom(size), size))
                // What the system has no room for is handed over only while somebody reads.
                await Promise.race([breaking, turns(5)])
                const error = await (pending ?? rejection(read(client.reader)))
                await breaking
                expect(error, `${how} after ${size} bytes`).to.be.instanceOf(ConnectionResetError)
                expect(client.signal.reason === error || !client.signal.aborted, `${how} after ${size} bytes`).to.equal(true)
              }
            }
          }
        })
      }

      for (const [name, read] of Object.entries(READERS)) {
        it(`${name} rejects with ConnectionResetError, also where a write has met the reset before`, async () => {
          for (const size of [1, SMALL_BUFFER + 1, DEFAULT_BUFFER]) {
            const { client, server } = await openPair(scope, isTcp, { readerBufferSize: 1 })
            if (!isTcp) await leaveUnread(client, server)
            const data = textOf(randomFrom(size), 2 * size)
            // The first part fills the reader, so that nobody looks behind the second; the write takes the system's only word of the reset.
            server.writer.write(data.subarray(0, size))
            await until(() => client.reader.bytesAvailable === size)
            server.writer.write(data.subarray(size))
            await server.writer.flushed()
            server.abort()
            await until(async () => {
              if (!client.writer.isClosed) client.writer.write('x')
              return (await rejection(client.writer.flushed().then(() => Promise.reject()))) !== undefined
            })
            const error = await rejection(read(client.reader))
            expect(error, `${size} bytes`).to.be.instanceOf(ConnectionResetError)
            expect(client.reader.bytesRead, `${size} bytes`).to.equal(2 * size)
            await client.closed
            expect(client.signal.reason).to.equal(error)
          }
        })
      }

      it('what arrives before it is a beginning of what was sent, and is given before the error', async () => {
        for (const [how, breakOff] of Object.entries(BREAKS)) {
          for (const readerBufferSize of [1, DEFAULT_BUFFER]) {
            for (const size of [1, DEFAULT_BUFFER, MIB]) {
              const { client, server } = await openPair(scope, isTcp, { readerBufferSize })
              if (!isTcp) await leaveUnread(client, server)
              const data = textOf(randomFrom(size), size)
              const chunks: Uint8Array[] = []
              const reading = rejection(collect(client.reader, chunks))
              await breakOff(server, data)
              expect(await reading).to.be.instanceOf(ConnectionResetError)
              const all = Buffer.concat(chunks)
              if (!all.equals(data.subarray(0, all.byteLength))) expect.fail(`${how} after ${size} bytes: wrong bytes`)
              expect(all.byteLength, how).to.equal(client.reader.bytesRead)
            }
          }
        }
      })
    })
  }
})

describe('Byte exactness', () => {
  holdsWithPushToo([import.meta.filename], 70)
})

const slowRead: Way = async (reading) => {
  const chunk = await reading.reader.read()
  if (chunk !== null) reading.took(chunk)
  await turns(reading.random(3))
  return chunk !== null
}

async function* slowly(random: Random, data: Uint8Array): AsyncGenerator<Uint8Array> {
  for (const piece of randomPieces(random, data)) {
    await turns(random(3))
    yield piece
  }
}

function* lists(random: Random, data: Uint8Array): Generator<Uint8Array | Uint8ArrayList> {
  let list = new Uint8ArrayList()
  for (const piece of randomPieces(random, data)) {
    list.append(piece)
    if (random(3) > 0) continue
    yield list
    list = new Uint8ArrayList()
  }
  yield list
}

async function* failing(data: Uint8Array): AsyncGenerator<Uint8Array> {
  if (data.byteLength > 0) yield data
  throw new Error('No more')
}

function textOf(random: Random, size: number): Uint8Array {
  const start = random(TEXT.byteLength - size)
  return TEXT.subarray(start, start + size)
}

function randomBytes(size: number): Uint8Array {
  const random = randomFrom(size)
  return new Uint8Array(size).map(() => random(256))
}

/** `data` over and over, cut off at `size`. Its length is no power of two: what is lost or doubled shifts everything that follows. */
function* rounds(data: Uint8Array, size: number): Generator<Uint8Array> {
  for (let left = size; left > 0; left -= data.byteLength) yield left < data.byteLength ? data.subarray(0, left) : data
}

async function digestOf(source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of source) hash.update(chunk)
  return hash.digest('hex')
}

async function digestIntoBuffer(reader: Reader): Promise<string> {
  const hash = createHash('sha256')
  const buffer = new Uint8Array(256 * KIB)
  for (;;) {
    const length = await reader.readInto(buffer)
    if (length === null) return hash.digest('hex')
    hash.update(buffer.subarray(0, length))
  }
}

/** No split, one at each place, and two at each pair of places. */
function splits(length: number): number[][] {
  const places = Array.from({ length: length - 1 }, (_, index) => index + 1)
  return [
    [],
    places,
    ...places.map((place) => [place]),
    ...places.flatMap((first) => places.filter((place) => place > first).map((second) => [first, second]))
  ]
}

/** Sends `data` so that each piece arrives as a chunk of its own. */
async function deliver(from: Connection, to: Connection, data: Uint8Array, split: readonly number[]): Promise<void> {
  for (const [index, start] of [0, ...split].entries()) {
    const piece = data.subarray(start, split[index])
    const wanted = to.reader.bytesRead + piece.byteLength
    from.writer.write(piece)
    await until(() => to.reader.bytesRead >= wanted)
  }
}

/** Leaves a byte at `from` that its reader has no room for. */
async function leaveUnread(to: Connection, from: Connection): Promise<void> {
  to.writer.write(new Uint8Array(2 * DEFAULT_BUFFER))
  await until(() => from.reader.bytesAvailable > 0)
  await to.writer.flushed()
}

async function collect(reader: Reader, chunks: Uint8Array[] = []): Promise<void> {
  for await (const chunk of reader) chunks.push(chunk)
}

async function drain(source: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of source);
}

function untilNull(read: (reader: Reader) => Promise<unknown>): (reader: Reader) => Promise<void> {
  return async (reader) => {
    while ((await read(reader)) !== null);
  }
}
