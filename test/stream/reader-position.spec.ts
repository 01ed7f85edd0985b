import { once } from 'node:events'
import { expect } from 'chai'
import type { ConnectionOptions } from '../../src/index.ts'
import { randomFrom, randomText } from '../helpers/random.ts'
import { bytes, deliver, KIB, MIB, onceData, sendInPieces, text, whileSending } from '../helpers/reader-cases.ts'
import { MIXED_WAYS, Reading, readBy, sha256 } from '../helpers/reading.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { type Ends, EVERY_TRANSPORT, openEnds } from '../helpers/transports.ts'

describe('Reader', () => {
  for (const transport of EVERY_TRANSPORT) {
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
    })
  }
})
