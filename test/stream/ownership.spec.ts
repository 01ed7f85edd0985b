import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect } from 'chai'
import type { Connection, Reader } from '../../src/index.ts'
import { FedReader } from '../helpers/fed.ts'
import { readToEnd } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'
import { EVERY_TLS, openEnds, TRANSPORTS } from '../helpers/transports.ts'
import { until } from '../helpers/until.ts'

const SIZES = [1, 64, 500, 2000, 16_384, 65_536, 200_000]

const METHODS: Record<string, (reader: Reader) => Promise<Uint8Array | null>> = {
  'read()': (reader) => reader.read(),
  'next()': async (reader) => (await reader[Symbol.asyncIterator]().next()).value ?? null,
  'readExactly(1)': (reader) => reader.readExactly(1),
  'readExactly(700)': (reader) => reader.readExactly(700),
  "readUntil('\\n')": (reader) => reader.readUntil('\n', { maxLength: Number.POSITIVE_INFINITY }),
  'peek(10)': (reader) => reader.peek(10)
}

describe('Memory', () => {
  describe('a chunk that leaves the library shares its ArrayBuffer with nothing else', () => {
    for (const kind of [...TRANSPORTS, ...EVERY_TLS]) {
      describe(`of ${kind.name}`, () => {
        const scope = useScope()

        it('neither with a chunk of another connection', async () => {
          const ends = await Promise.all([1, 2, 3].map(() => openEnds(scope, kind)))
          const buffers = new Set<ArrayBuffer>()
          let count = 0
          for (const size of SIZES) {
            for (const { connection, peer } of ends) {
              const before = connection.reader.bytesRead
              peer.write(new Uint8Array(size))
              await until(() => connection.reader.bytesRead > before)
              while (connection.reader.bytesRead < before + size || connection.reader.bytesAvailable > 0) {
                const chunk = (await connection.reader.read()) as Uint8Array<ArrayBuffer>
                buffers.add(chunk.buffer)
                count++
              }
            }
          }
          expect(buffers.size).to.equal(count)
        })

        it('neither where a read waits for it', async () => {
          const ends = await Promise.all([1, 2].map(() => openEnds(scope, kind)))
          const buffers = new Set<ArrayBuffer>()
          for (const size of [1, 64, 500, 2000, 5000]) {
            for (const { connection, peer } of ends) {
              const read = connection.reader.read()
              peer.write(new Uint8Array(size))
              const chunk = (await read) as Uint8Array<ArrayBuffer>
              expect(chunk.buffer.byteLength).to.be.at.most(2 * chunk.byteLength)
              buffers.add(chunk.buffer)
              await connection.reader.readExactly(size - chunk.byteLength)
            }
          }
          expect(buffers.size).to.equal(10)
        })

        it('and a short write keeps its own bytes, though its buffer is filled anew once it is flushed, and others are written meanwhile', async () => {
          const ends = await Promise.all([1, 2].map(() => openEnds(scope, kind)))
          const buffer = Buffer.alloc(64)
          const sent = ends.map((): string[] => [])
          for (let round = 0; round < 50; round++) {
            for (const [index, { connection }] of ends.entries()) {
              const length = 1 + ((round * 7 + index) % 63)
              const text = String.fromCharCode(97 + (round % 26)).repeat(length)
              buffer.fill(text)
              connection.writer.write(buffer.subarray(0, length))
              sent[index]?.push(text)
              // The memory is the writer's until then.
              await connection.writer.flushed()
              buffer.fill('!')
            }
            // Several of one turn, on both at once, each from memory of its own.
            for (const [index, { connection }] of ends.entries()) {
              for (const text of [`<${round}>`, `(${index})`]) {
                connection.writer.write(Buffer.from(text))
                sent[index]?.push(text)
              }
            }
          }
          for (const [index, { connection, peer }] of ends.entries()) {
            const arrived = readToEnd(peer)
            await connection.writer.close()
            expect(`${await arrived}`).to.equal(sent[index]?.join(''))
          }
        })

        it('nor with what is still queued, if it is transferred', async () => {
          const { connection, peer } = await openEnds(scope, kind)
          const data = Buffer.from('a line\nanother line\nand more\n'.repeat(3000))
          peer.end(data)
          const parts: Uint8Array[] = []
          for (let chunk = await nextOf(connection, parts.length); chunk !== null; chunk = await nextOf(connection, parts.length)) {
            parts.push(Buffer.from(chunk))
            structuredClone(chunk, { transfer: [chunk.buffer] })
            expect(chunk.byteLength).to.equal(0)
          }
          expect(Buffer.concat(parts).equals(data)).to.equal(true)
        })
      })
    }

    for (const [name, read] of Object.entries(METHODS)) {
      it(`and holds no more than as much again: ${name}`, async () => {
        for (const size of SIZES) {
          const reader = new FedReader(1024 * 1024)
          const data = Buffer.alloc(size, 'x\n')
          reader.received(data)
          reader.received(data)
          reader.peerEnded()
          const chunk = await read(reader).catch(() => null)
          if (chunk !== null) expect(chunk.buffer.byteLength, `${size}`).to.be.at.most(2 * chunk.byteLength)
          expect(structuredClone(chunk)?.buffer.byteLength ?? 0).to.be.at.most(2 * (chunk?.byteLength ?? 0))
        }
      })
    }
  })

  it('and the rest of a chunk of which most was taken holds no more than as much again', async () => {
    for (const left of [1, 100, 30_000]) {
      const reader = new FedReader(1024 * 1024)
      reader.received(new Uint8Array(65_536))
      await reader.readExactly(65_536 - left)
      const rest = (await reader.read()) as Uint8Array
      expect(rest.byteLength).to.equal(left)
      expect(rest.buffer.byteLength).to.be.at.most(2 * left)
    }
  })

  it('of what nobody reads is bounded by readerBufferSize and a chunk, however small the pieces are', async () => {
    setFlagsFromString('--expose-gc')
    const gc = runInNewContext('gc') as () => void
    const READERS = 10
    const used = (): number => {
      gc()
      const { heapUsed, arrayBuffers } = process.memoryUsage()
      return heapUsed + arrayBuffers
    }
    const readers = Array.from({ length: READERS }, () => new FedReader(65_536))
    const before = used()
    const byte = new Uint8Array(1)
    for (const reader of readers) while (reader.received(byte));
    const each = (used() - before) / READERS
    expect(readers.every((reader) => reader.bytesAvailable === 65_536)).to.equal(true)
    expect(each).to.be.at.most(2 * 65_536)
  })
})

// All the ways to take bytes, one after the other.
async function nextOf({ reader }: Connection, turn: number): Promise<Uint8Array<ArrayBuffer> | null> {
  if (turn % 4 === 0) return await reader.read()
  if (turn % 4 === 1) return await reader.readUntil('\n')
  if (turn % 4 === 2) return (await reader[Symbol.asyncIterator]().next()).value ?? null
  const length = Math.min(10, reader.bytesAvailable)
  return length === 0 ? await reader.read() : await reader.readExactly(length)
}
