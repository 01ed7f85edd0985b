import { getEventListeners } from 'node:events'
import { expect } from 'chai'
import {
  BusyError,
  ConnectionClosedError,
  type ConnectionOptions,
  DelimiterNotFoundError,
  LimitExceededError,
  type Reader,
  UnexpectedEndError
} from '../../src/index.ts'
import { expectRefusal } from '../helpers/bad-input.ts'
import { randomFrom, randomText } from '../helpers/random.ts'
import { breakOff, bytes, DEFAULT_MAX_LENGTH, deliver, limit, METHODS, MIB, plain, sendInPieces, text } from '../helpers/reader-cases.ts'
import { sha256 } from '../helpers/reading.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { type Ends, openEnds, TLS_TRANSPORTS, TOO_MUCH, WITH_MEMORY } from '../helpers/transports.ts'

describe('Reader', () => {
  for (const transport of [...WITH_MEMORY, ...TLS_TRANSPORTS.slice(0, 2)]) {
    describe(`of ${transport.name}`, () => {
      const scope = useScope()
      const open = (options?: ConnectionOptions): Promise<Ends> => openEnds(scope, transport, options)

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
})
