import { once } from 'node:events'
import { expect } from 'chai'
import { ConnectionClosedError, type ConnectionOptions, DelimiterNotFoundError } from '../../src/index.ts'
import { readToEnd } from '../helpers/raw.ts'
import {
  breakOff,
  bytes,
  deliver,
  expectCut,
  expectReset,
  KIB,
  LARGEST_CHUNK,
  METHODS,
  MIB,
  plain,
  provoke,
  text
} from '../helpers/reader-cases.ts'
import { sha256 } from '../helpers/reading.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { type Ends, EVERY_TRANSPORT, openEnds, TOO_MUCH } from '../helpers/transports.ts'
import { turns, until } from '../helpers/until.ts'

describe('Reader', () => {
  for (const transport of EVERY_TRANSPORT) {
    describe(`of ${transport.name}`, () => {
      const scope = useScope()
      const open = (options?: ConnectionOptions): Promise<Ends> => openEnds(scope, transport, options)

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
            expectCut(transport, await rejection(reader.read()), 'ECONNRESET')
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
          // What a stream under TLS has taken from the system is delivered at once.
          if (transport.tls?.closeNotify !== 'optional') expect(reader.bytesAvailable).to.equal(1)
          expect(text(await reader.readExactly(3))).to.equal('abc')
          expectCut(transport, await rejection(reader.read()), 'ECONNRESET')
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
          expectCut(transport, await rejection(loop()), 'ECONNRESET')
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
    })
  }
})
