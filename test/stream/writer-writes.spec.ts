import { expect } from 'chai'
import { Uint8ArrayList } from 'uint8arraylist'
import type { ConnectionOptions } from '../../src/index.ts'
import { expectRefusal } from '../helpers/bad-input.ts'
import { skipIf } from '../helpers/programs.ts'
import { readToEnd } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'
import { transcript } from '../helpers/transcript.ts'
import { type Ends, EVERY_TRANSPORT, openEnds, TOO_MUCH } from '../helpers/transports.ts'
import { turns, until } from '../helpers/until.ts'
import { ascii, generate, KIB, MIB, NOT_DATA, patterned, readStuttering, watchHandOvers, writeTooMuch } from '../helpers/writer-cases.ts'

describe('Writer', () => {
  for (const transport of EVERY_TRANSPORT) {
    describe(`of ${transport.name}`, () => {
      const scope = useScope()
      // TLS over a stream: it tells of a write when it is encrypted and taken, and that is later than the call.
      const isToldLater = transport.tls?.closeNotify === 'optional'
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
          writeTooMuch(connection)
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
          writeTooMuch(connection)
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
            const goes = watchHandOvers(connection)
            writer.write(data)
            expect(goes).to.deep.equal([data.length])
            if (!isToldLater) expect([writer.bytesWritten - before, writer.bytesPending]).to.deep.equal([data.length, 0])
            await writer.flushed()
            await turns(1)
            expect([writer.bytesWritten - before, writer.bytesPending]).to.deep.equal([data.length, 0])
          }
        })

        it('write() lets the other writes of a turn wait for its end, and hands them over in one go', async () => {
          const { connection, peer } = await open()
          const { writer } = connection
          const goes = watchHandOvers(connection)
          for (const data of ['first', 'se', ascii('con'), 'd: ü', new Uint8ArrayList(ascii('a'), ascii('b'))]) writer.write(data)
          expect(goes).to.deep.equal([5])
          if (!isToldLater) expect([writer.bytesWritten, writer.bytesPending]).to.deep.equal([5, 12])
          await (isToldLater ? writer.flushed() : turns(1))
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
          expect(goes).to.deep.equal([1])
          if (!isToldLater) expect([writer.bytesWritten, writer.bytesPending]).to.deep.equal([1, 5])
          await (isToldLater ? writer.flushed() : turns(1))
          expect(goes).to.deep.equal([1, 5])
        })

        it('write() hands the first write of every later turn over at once too', async () => {
          const { connection } = await open()
          const { writer } = connection
          const goes = watchHandOvers(connection)
          for (let turn = 0; turn < 5; turn++) {
            writer.write('a')
            expect(goes.at(-1)).to.equal(1)
            if (!isToldLater) expect(writer.bytesPending).to.equal(0)
            writer.write('b')
            writer.write('c')
            expect(writer.bytesPending).to.equal(isToldLater ? 3 : 2)
            await writer.flushed()
            await turns(1)
          }
          expect(goes).to.deep.equal(Array(5).fill([1, 2]).flat())
        })

        it('gathers at most 512 KiB and a chunk for one go', async function () {
          skipIf(this, transport.tls !== undefined, 'over TLS a go is a record')
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
          expect(writer.bytesPending).to.equal(isToldLater ? 2 : 1)
          await writer.flushed()
          expect(writer.bytesPending).to.equal(0)
        })
      })
    })
  }
})
