import { expect } from 'chai'
import type { Reader } from '../../src/index.ts'
import { FedReader } from '../helpers/fed.ts'
import { useScope } from '../helpers/scope.ts'
import { openPair } from '../helpers/transports.ts'

const KIB = 1024
const MIB = 1024 * KIB
const LONG = 64 * MIB
const RECORDS = 4 * MIB
const MANY = 100_000
const UNLIMITED = { maxLength: Number.POSITIVE_INFINITY }

/** For each byte that came in: a constant, however long a line is. */
const SEARCHED_PER_BYTE = 2
const COPIED_PER_BYTE = 2

describe('Cost: a read costs as much as what it takes, however many pieces that came in', () => {
  describe(`${LONG / MIB} MiB in pieces of 1 KiB are searched and copied a fixed number of times`, () => {
    const DELIMITERS = ['\n', '\r\n', 'aaab', '\r\n-é-\r\n']

    for (const [name, read] of Object.entries<(reader: Reader) => Promise<Uint8Array | string | null>>({
      'readLine()': (reader) => reader.readLine(UNLIMITED),
      'next() of lines()': async (reader) => (await reader.lines(UNLIMITED).next()).value ?? null,
      'readAll()': (reader) => reader.readAll(),
      'readExactly()': (reader) => reader.readExactly(LONG),
      'peek()': (reader) => reader.peek(LONG)
    })) {
      it(`by ${name}`, async () => {
        const reader = fed()
        await counted(LONG, async () => {
          const pending = read(reader)
          feedInPieces(reader, Buffer.alloc(KIB, 'x'), LONG)
          reader.peerEnded()
          expect((await pending)?.length).to.equal(LONG)
        })
      })
    }

    for (const delimiter of DELIMITERS) {
      // The end of each piece might be the beginning of the delimiter, and is not.
      for (const length of Array.from(Buffer.from(delimiter).keys()).slice(1)) {
        it(`by readUntil(${JSON.stringify(delimiter)}), though each piece ends with ${length} bytes of it`, async () => {
          const reader = fed()
          const wanted = Buffer.from(delimiter)
          const piece = Buffer.alloc(KIB, 'x')
          wanted.copy(piece, KIB - length, 0, length)
          await counted(LONG, async () => {
            const pending = reader.readUntil(delimiter, UNLIMITED)
            feedInPieces(reader, piece, LONG)
            feed(reader, Buffer.concat([Buffer.from('x'), wanted, Buffer.from('rest')]))
            expect((await pending)?.byteLength).to.equal(LONG + 1 + wanted.byteLength)
          })
          expect(reader.bytesAvailable).to.equal(4)
        })
      }

      for (const length of Array.from(Buffer.from(delimiter).keys())) {
        it(`by readUntil(${JSON.stringify(delimiter)}) for each record, with ${length} bytes of it in the next piece`, async () => {
          const wanted = Buffer.from(delimiter)
          const record = Buffer.concat([Buffer.alloc(KIB - wanted.byteLength, 'x'), wanted])
          // Turned, so that a piece begins with the end of a delimiter.
          const piece = Buffer.concat([record.subarray(KIB - length), record.subarray(0, KIB - length)])
          for (const isBuffered of [true, false]) {
            const reader = fed()
            await counted(RECORDS, async () => {
              feed(reader, record.subarray(0, KIB - length))
              if (isBuffered) feedInPieces(reader, piece, RECORDS)
              for (let left = RECORDS; left > 0; left -= KIB) {
                const pending = reader.readUntil(wanted)
                if (!isBuffered) feed(reader, piece)
                expect((await pending)?.byteLength).to.equal(KIB)
              }
            })
          }
        })
      }
    }
  })

  // So many that a walk over all of them for each of them would take minutes.
  describe('100 000 pieces of one byte', () => {
    for (const [name, read] of Object.entries<(reader: Reader) => Promise<Uint8Array | string | null>>({
      'readLine()': (reader) => reader.readLine(UNLIMITED),
      "readUntil('\\r\\n')": (reader) => reader.readUntil('\r\n', UNLIMITED),
      "readUntil('xxxxxxx\\r\\n')": (reader) => reader.readUntil('xxxxxxx\r\n', UNLIMITED),
      'readAll()': (reader) => reader.readAll()
    })) {
      it(`are no trouble for ${name}`, async () => {
        const reader = fed()
        const pending = read(reader)
        feedInPieces(reader, Buffer.from('x'), MANY)
        feed(reader, Buffer.from('\r\n'))
        reader.peerEnded()
        expect((await pending)?.length).to.be.within(MANY, MANY + 2)
      })
    }

    it('are copied no more often than a long delimiter has bytes, twice', async () => {
      const reader = fed()
      const delimiter = '-'.repeat(70)
      await counted(delimiter.length * MANY, async () => {
        const pending = reader.readUntil(delimiter, UNLIMITED)
        // Half of it, again and again.
        feedInPieces(reader, Buffer.from('-'), 35)
        for (let sent = 0; sent < MANY; sent += 36) {
          feed(reader, Buffer.from('x'))
          feedInPieces(reader, Buffer.from('-'), 35)
        }
        feedInPieces(reader, Buffer.from('-'), 35)
        expect((await pending)?.byteLength).to.be.within(MANY, MANY + 106)
      })
    })

    it('are no trouble for reads that are tried one after the other', async () => {
      const reader = fed()
      feedInPieces(reader, Buffer.from('x'), MANY)
      for (let count = 0; count < 1000; count++) {
        expect(await reader.peek(10)).to.have.length(10)
        expect(await reader.readUntil('x')).to.have.length(1)
      }
      expect(reader.bytesAvailable).to.equal(MANY - 1000)
    })
  })

  describe('through a socket', () => {
    const scope = useScope()

    for (const isTcp of [true, false]) {
      it(`readUntil() gives ${LONG / MIB} MiB that were written 1 KiB at a time, over ${isTcp ? 'TCP' : 'a unix socket'}`, async () => {
        const { client, server } = await openPair(scope, isTcp)
        const piece = Buffer.alloc(KIB, 'x')
        piece.write('\r\n-é', KIB - 5)
        const reading = client.reader.readUntil('\r\n-é-\r\n', UNLIMITED)
        await server.writer.writeAll(Array(LONG / KIB).fill(piece))
        server.writer.write('x\r\n-é-\r\nrest')
        expect((await reading)?.byteLength).to.equal(LONG + 9)
        expect(Buffer.from((await client.reader.readExactly(4)) as Uint8Array).toString()).to.equal('rest')
      })
    }
  })
})

/**
 * Fails as soon as `run` has searched or copied more than `length` bytes allow. Counted are the platform's own calls, without which
 * neither can be done quickly.
 */
async function counted(length: number, run: () => Promise<void>): Promise<void> {
  let searched = 0
  let copied = 0
  const search = (count: number): void => {
    searched += count
    if (searched > SEARCHED_PER_BYTE * length) throw new Error(`${searched} bytes searched for ${length}`)
  }
  const copy = (count: number): void => {
    copied += count
    if (copied > COPIED_PER_BYTE * length) throw new Error(`${copied} bytes copied for ${length}`)
  }
  const bytes = Uint8Array.prototype
  const buffers = Buffer.prototype
  const originals = [bytes.indexOf, bytes.lastIndexOf, bytes.set, buffers.indexOf, Buffer.concat] as const
  const [indexOf, lastIndexOf, set, indexOfBytes, concat] = originals
  bytes.indexOf = function (this: Uint8Array, wanted: number, from = 0) {
    search(this.byteLength - from)
    return indexOf.call(this, wanted, from)
  }
  bytes.lastIndexOf = function (this: Uint8Array, wanted: number, from = this.byteLength) {
    search(Math.min(from, this.byteLength))
    return lastIndexOf.call(this, wanted, from)
  }
  bytes.set = function (this: Uint8Array, source: ArrayLike<number>, at?: number) {
    copy(source.length)
    set.call(this, source, at)
  }
  buffers.indexOf = function (this: Buffer, wanted: Uint8Array, from = 0) {
    search(this.byteLength - from)
    return indexOfBytes.call(this, wanted, from)
  }
  Buffer.concat = (list: readonly Uint8Array[], total?: number) => {
    const all = concat(list, total)
    copy(all.byteLength)
    return all
  }
  try {
    await run()
  } finally {
    ;[bytes.indexOf, bytes.lastIndexOf, bytes.set, buffers.indexOf, Buffer.concat] = originals
  }
}

function fed(): FedReader {
  return new FedReader(64 * KIB)
}

function feed(reader: FedReader, data: Uint8Array): void {
  reader.received(data)
}

function feedInPieces(reader: FedReader, piece: Uint8Array, length: number): void {
  for (let sent = 0; sent < length; sent += piece.byteLength) feed(reader, piece)
}
