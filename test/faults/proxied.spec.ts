import { join } from 'node:path'
import { expect } from 'chai'
import {
  BufferAgeLimitError,
  type Connection,
  ConnectionClosedError,
  type ConnectionOptions,
  ConnectionResetError,
  connect,
  IdleTimeoutError,
  onFile,
  onPortChosenByOs,
  type Reader,
  Server,
  UnexpectedEndError
} from '../../src/index.ts'
import { type Course, type Courses, type FaultProxy, faultProxy, type Link, type Moment } from '../helpers/fault-proxy.ts'
import { holdsWithPushToo } from '../helpers/push-seam.ts'
import { randomFrom, randomPieces, randomText } from '../helpers/random.ts'
import type { Target } from '../helpers/raw.ts'
import { MIXED_WAYS, Reading, readBy, sha256 } from '../helpers/reading.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { openPair, type Pair, TOO_MUCH, whereIs } from '../helpers/transports.ts'
import { turns, until } from '../helpers/until.ts'

const REQUEST = randomText(randomFrom(1), 100_000)
const ANSWER = randomText(randomFrom(2), 150_000)

/** The steps of a conversation in which the client asks and half-closes, and the server answers and closes. */
const STEPS: Readonly<Record<string, readonly ['up' | 'down', Moment]>> = {
  'before the first byte of the request': ['up', 0],
  'after the first byte of the request': ['up', 1],
  'in the middle of the request': ['up', 50_000],
  "in place of the client's FIN": ['up', 'end'],
  "after the client's FIN": ['up', 'ended'],
  'after the first byte of the answer': ['down', 1],
  'in the middle of the answer': ['down', 75_000],
  'after the last byte of the answer': ['down', ANSWER.byteLength],
  "in place of the server's FIN": ['down', 'end'],
  "after the server's FIN": ['down', 'ended']
}

/** What one side got: all and the end, an end before the first byte, or an error. */
type Got = 'whole' | 'nothing' | Error

interface Told {
  request: Got | undefined
  answer: Got | undefined
  readonly client: Connection
  readonly server: Connection | undefined
}

/** What may be told instead of 'whole', in words. */
type Kind = 'reset' | 'idle' | 'end'

interface Fault {
  readonly strike: (link: Link) => void
  readonly client: readonly Kind[]
  readonly server: readonly Kind[]
}

const FAULTS: Readonly<Record<string, Fault>> = {
  'a stall': {
    strike(link) {
      link.stall()
      void turns(20).then(() => link.resume())
    },
    client: [],
    server: []
  },
  'a reset of both sides': { strike: (link) => link.reset(), client: ['reset'], server: ['reset'] },
  'a reset of the client, of which the server is not told': { strike: (link) => link.down.reset(), client: ['reset'], server: ['idle'] },
  'a reset of the server, of which the client is not told': { strike: (link) => link.up.reset(), client: ['idle'], server: ['reset'] },
  'an end that the server did not send': { strike: (link) => link.down.end(), client: ['end'], server: ['end', 'reset'] },
  'an end that the client did not send': { strike: (link) => link.up.end(), client: ['end', 'reset'], server: ['end'] },
  'everything that follows being lost': { strike: (link) => link.drop(), client: ['idle'], server: ['idle'] }
}

for (const isTcp of [true, false]) {
  describe(`Through a proxy, over ${isTcp ? 'TCP' : 'a unix socket'}`, () => {
    const scope = useScope()

    const proxied = async (target: Target, plan: Courses | (() => Courses)): Promise<FaultProxy> => {
      return await faultProxy(scope, target, plan, isTcp ? undefined : join(scope.tempDir(), 'p'))
    }

    /** Both ends, with a proxy in between. */
    const open = async (plan: Courses = {}, options?: ConnectionOptions): Promise<Pair & { readonly link: Link }> => {
      let proxy: FaultProxy | undefined
      const pair = await openPair(scope, isTcp, options, async (target) => {
        proxy = await proxied(target, plan)
        return proxy.target
      })
      return { ...pair, link: (proxy as FaultProxy).links[0] as Link }
    }

    const serve = async (options: ConnectionOptions, handler: (connection: Connection) => unknown): Promise<Server> => {
      const where = isTcp ? onPortChosenByOs({ host: '127.0.0.1' }) : onFile(join(scope.tempDir(), 's'))
      const server = (await Server.create<never, Target>(where as never, options, handler)) as unknown as Server
      scope.defer(() => server.close({ closeExistingConnections: true }))
      return server
    }

    describe('whatever the way does to the pieces, every byte arrives once and in order, both directions at once', () => {
      const COURSES: Readonly<Record<string, readonly [course: Course, size: number]>> = {
        'split to single bytes': [{ split: 1 }, 3000],
        'split to 7 bytes': [{ split: 7 }, 20_000],
        'split to 1000 bytes, each of them late': [{ split: 1000, delay: 2 }, 200_000],
        'joined to 50 000 bytes': [{ join: 50_000 }, 300_000],
        'held back until the end': [{ join: Number.POSITIVE_INFINITY }, 60_000],
        'slow in one direction, split in the other': [{ delay: 3 }, 200_000]
      }

      for (const [name, [course, size]] of Object.entries(COURSES)) {
        it(`${name}`, async () => {
          for (const readerBufferSize of [1, 1000, 65_536]) {
            const random = randomFrom(size)
            const { client, server } = await open({ up: course, down: course.delay === 3 ? { split: 13 } : course }, { readerBufferSize })
            const one = async (from: Connection, to: Connection): Promise<void> => {
              const data = randomText(random, size)
              const sent = from.writer(randomPieces(random, data))
              expect(await readBy(MIXED_WAYS, new Reading(to.reader, data, random))).to.equal(sha256(data))
              await sent
            }
            await Promise.all([one(client, server), one(server, client)])
            await Promise.all([client.closed, server.closed])
          }
        })
      }
    })

    describe('at every step of a conversation: each side gets all and the end, or learns that it did not, and nothing is left', () => {
      for (const [name, fault] of Object.entries(FAULTS)) {
        it(`${name} is told as ${[...new Set([...fault.client, ...fault.server])].join(' or ') || 'nothing, since nothing is lost'}`, async () => {
          await Promise.all(
            Object.entries(STEPS).map(async ([step, [direction, at]]) => {
              const told = await converse({ [direction]: { at, fault: fault.strike } }, fault.client.length > 0)
              expectKind(told.answer, fault.client, `client, ${step}`)
              expectKind(told.request, fault.server, `server, ${step}`)
              expectReason(told.client, told.answer, `client, ${step}`)
            })
          )
        })
      }

      const converse = async (courses: Courses, mayBeSilent: boolean): Promise<Told> => {
        const options = mayBeSilent ? { idleTimeout: 300 } : {}
        const told: { -readonly [K in keyof Told]?: Told[K] } = {}
        const server = await serve(options, async (connection) => {
          told.server = connection
          told.request = await got(connection.reader, REQUEST)
          if (told.request === 'whole') await connection.writer(randomPieces(randomFrom(3), ANSWER)).catch(ignore)
        })
        const { target } = await proxied(server.listeningOn as Target, courses)
        const client = await connect(whereIs(target), options)
        told.client = client
        const sent = client.writer(randomPieces(randomFrom(4), REQUEST)).catch(ignore)
        told.answer = await got(client.reader, ANSWER)
        await sent
        await client.close().catch(ignore)
        expect(client.signal.aborted).to.equal(true)
        // A client that was never heard of on the other side has no slot either.
        await until(() => server.numConnections === 0)
        if (told.server !== undefined) expect(told.server.signal.aborted).to.equal(true)
        server.invariant()
        await server.close()
        await server.finished
        return told as Told
      }

      const expectKind = (got: Got | undefined, kinds: readonly Kind[], what: string): void => {
        // Whoever was never connected was told nothing.
        if (got === undefined || got === 'whole') return
        const kind: Kind | undefined =
          got instanceof ConnectionResetError ? 'reset' : got instanceof IdleTimeoutError ? 'idle' : isEnd(got) ? 'end' : undefined
        // A unix socket knows no reset: the proxy can only close, and where nothing was unread that is an end.
        const allowed = !isTcp && kinds.includes('reset') ? [...kinds, 'end'] : kinds
        expect(kind, `${what}: ${got}`).to.be.oneOf([...allowed])
      }

      const expectReason = ({ signal }: Connection, got: Got | undefined, what: string): void => {
        if (got instanceof ConnectionResetError || got instanceof IdleTimeoutError) expect(signal.reason, what).to.equal(got)
      }
    })

    // The proxy can't reset a unix socket.
    if (isTcp) {
      describe('a reset after any number of bytes is never an end', () => {
        const READS: readonly ((reader: Reader) => Promise<unknown>)[] = [
          (reader) => reader.readAll(),
          (reader) => reader.discard(),
          (reader) => reader.readExactly(1_000_000),
          (reader) => untilEnd(() => reader.read()),
          (reader) => untilEnd(() => reader.readLine()),
          (reader) => untilEnd(() => reader.readUntil('ab')),
          (reader) => untilEnd(() => reader.readInto(new Uint8Array(10))),
          async (reader) => {
            for await (const _ of reader);
          }
        ]

        it('though some of it arrives with the reset, and whatever reads', async () => {
          const sizes = [...Array.from({ length: 33 }, (_, size) => size), 1000, 65_535, 65_536, 65_537, 131_072]
          for (const size of sizes) {
            for (const [index, read] of READS.entries()) {
              const { client, server } = await open({ down: { at: size, fault: (link) => link.reset() } })
              const sending = rejection(server.writer(endlessly()))
              expect(await rejection(read(client.reader)), `after ${size} bytes, read ${index}`).to.be.instanceOf(ConnectionResetError)
              expect(client.reader.bytesRead).to.be.at.most(size)
              expect(await sending).to.be.instanceOf(ConnectionResetError)
            }
          }
        })
      })
    }

    describe('half-close', () => {
      it('both ways: each side goes on after the end of the other, however late that is', async () => {
        for (const first of ['client', 'server'] as const) {
          const pair = await open()
          const [one, other] = first === 'client' ? [pair.client, pair.server] : [pair.server, pair.client]
          one.writer.write('question')
          await one.writer.close()
          expect(Buffer.from(await other.reader.readAll()).toString()).to.equal('question')
          pair.link.stall()
          const answered = other.writer([ANSWER])
          await turns()
          expect(one.signal.aborted).to.equal(false)
          pair.link.resume()
          expect(sha256(await one.reader.readAll())).to.equal(sha256(ANSWER))
          await answered
          // Both have ended: the descriptors are released by themselves.
          await Promise.all([one.closed, other.closed])
        }
      })

      it('FINs that cross on their way end both directions, each after its bytes', async () => {
        for (const first of ['up', 'down'] as const) {
          const { client, server, link } = await open()
          link.stall()
          const closing = [client.writer([REQUEST]), server.writer([ANSWER])]
          await Promise.all(closing)
          await turns()
          expect([client.signal.aborted, server.signal.aborted]).to.deep.equal([false, false])
          link[first].resume()
          const [one, other] = first === 'up' ? [server, client] : [client, server]
          expect((await one.reader.readAll()).byteLength).to.equal(first === 'up' ? REQUEST.byteLength : ANSWER.byteLength)
          await one.closed
          expect(other.signal.aborted).to.equal(false)
          link.resume()
          expect((await other.reader.readAll()).byteLength).to.equal(first === 'up' ? ANSWER.byteLength : REQUEST.byteLength)
          await other.closed
        }
      })

      it('a FIN while the other side writes leaves its writes alone', async () => {
        const { client, server, link } = await open()
        link.down.stall()
        const writing = server.writer.writeAll([TOO_MUCH.subarray(0, 10_000_000)])
        await client.writer.close()
        await server.reader.ended
        expect(await server.reader.read()).to.equal(null)
        await turns()
        expect(server.writer.bytesPending).to.be.greaterThan(0)
        link.resume()
        const [count] = await Promise.all([client.reader.discard(), writing.then(() => server.writer.close())])
        expect(count).to.equal(10_000_000)
        await Promise.all([client.closed, server.closed])
      })

      it('a peer that half-closes and goes away is noticed by a write only: ConnectionResetError', async () => {
        const { client, server } = await open()
        await client.writer.close()
        await server.reader.ended
        client.abort()
        await until(async () => {
          if (server.writer.isClosed) return true
          server.writer.write('x')
          await server.writer.flushed().catch(ignore)
          return false
        })
        expect(await rejection(server.writer.flushed())).to.be.instanceOf(ConnectionResetError)
        await server.closed
      })
    })

    describe('close()', () => {
      it('of both sides at once is orderly for both, and what they wrote arrives', async () => {
        const { client, server, link } = await open()
        client.writer.write(REQUEST)
        server.writer.write(ANSWER)
        link.stall()
        await Promise.all([client.writer.flushed(), server.writer.flushed()])
        const closing = Promise.all([client.close(), server.close()])
        await turns()
        expect([client.signal.aborted, server.signal.aborted]).to.deep.equal([false, false])
        link.resume()
        await closing
        expect([link.up.passed, link.down.passed]).to.deep.equal([REQUEST.byteLength, ANSWER.byteLength])
        expect(client.signal.reason).to.be.instanceOf(ConnectionClosedError)
        expect(server.signal.reason).to.be.instanceOf(ConnectionClosedError)
      })

      it('with unread data on both sides loses nothing that was written', async () => {
        const { client, server, link } = await open({}, { readerBufferSize: 1 })
        // More than a reader holds: it is in the kernel, and a descriptor that was closed now would answer with a reset.
        client.writer.write(REQUEST)
        server.writer.write(ANSWER)
        await Promise.all([client.writer.flushed(), server.writer.flushed()])
        await until(() => client.reader.bytesAvailable > 0 && server.reader.bytesAvailable > 0)
        await Promise.all([client.close(), server.close()])
        expect([link.up.passed, link.down.passed]).to.deep.equal([REQUEST.byteLength, ANSWER.byteLength])
      })

      it('with unread data delivers the reply in flight to a peer that still sends', async () => {
        const { client, server, link } = await open({}, { readerBufferSize: 1 })
        const sending = client.writer(endlessly()).catch((error: unknown) => error)
        await until(() => server.reader.bytesAvailable > 0)
        link.down.stall()
        server.writer.write(ANSWER)
        const closing = server.close()
        await turns()
        link.down.resume()
        expect((await client.reader.readExactly(ANSWER.byteLength))?.byteLength).to.equal(ANSWER.byteLength)
        expect(await client.reader.read()).to.equal(null)
        await client.writer.close().catch(ignore)
        await closing
        // What ended it is the half-close of its own side.
        expect(await sending).to.be.instanceOf(ConnectionClosedError)
      })

      it('resolves though the peer resets while it lingers: everything was handed over', async () => {
        const { client, server, link } = await open({ up: { at: 'ended', fault: (it) => it.reset() } })
        client.writer.write(REQUEST)
        await client.close()
        expect(client.signal.aborted).to.equal(true)
        expect(link.up.passed).to.equal(REQUEST.byteLength)
        // The reset is behind the end, which stays one.
        expect(sha256(await server.reader.readAll())).to.equal(sha256(REQUEST))
        await server.close()
      })

      it('rejects with ConnectionResetError if the peer resets while it flushes', async () => {
        const { client, link } = await open({ up: { at: 50_000, fault: (it) => it.reset() } })
        client.writer.write(TOO_MUCH)
        expect(await rejection(client.close())).to.be.instanceOf(ConnectionResetError)
        expect(link.up.passed).to.equal(50_000)
      })

      it('rejects with ConnectionClosedError if the way is blocked for longer than forceAfter', async () => {
        const { client, link } = await open()
        link.stall()
        client.writer.write(TOO_MUCH)
        expect(await rejection(client.close({ forceAfter: 20 }))).to.be.instanceOf(ConnectionClosedError)
        expect(client.signal.aborted).to.equal(true)
      })

      it('and then abort(), at any moment of it, closes the descriptor and tells the other side', async () => {
        const starts: readonly ((connection: Connection) => Promise<void>)[] = [
          (connection) => connection.close(),
          (connection) => connection.writer.close(),
          (connection) => connection.writer([REQUEST])
        ]
        for (const start of starts) {
          for (let later = 0; later < 6; later++) {
            const { client, server } = await open()
            const ended = server.reader.readAll().catch((error: unknown) => error)
            const started = start(client).catch((error: unknown) => error)
            if (later > 0) await turns(later - 1)
            client.abort()
            await client.closed
            expect(client.signal.reason).to.be.instanceOf(ConnectionClosedError)
            const outcome = await started
            expect(outcome === undefined || outcome instanceof ConnectionClosedError, String(outcome)).to.equal(true)
            // All and the end, or a part and a reset; over a unix socket a part may be followed by an end.
            const end = await ended
            expect(end instanceof ConnectionResetError || end instanceof Uint8Array, String(end)).to.equal(true)
            await server.close().catch(ignore)
          }
        }
      })

      it('of one side and abort() of the other at once settles both', async () => {
        const { client, server, link } = await open()
        link.stall()
        client.writer.write('x')
        const closing = client.close()
        server.abort()
        link.resume()
        await closing
        await server.closed
        expect(server.signal.reason).to.be.instanceOf(ConnectionClosedError)
      })
    })

    describe('abort()', () => {
      it('of both sides at once settles both, whatever waits', async () => {
        const { client, server } = await open()
        const waiting = [client, server].flatMap(({ reader, writer }) => [reader.discard(), writer(endlessly())].map(rejection))
        await turns()
        client.abort()
        server.abort()
        for (const error of await Promise.all(waiting)) expect(error).to.be.instanceOf(ConnectionClosedError)
        await Promise.all([client.closed, server.closed])
      })
    })

    describe('a peer that stops reading', () => {
      it('is cut off after bufferAgeLimit, however much it has taken before', async () => {
        const { client, server, link } = await open({ up: { at: 1_000_000, fault: (it) => it.stall() } }, { bufferAgeLimit: 50 })
        const sending = rejection(client.writer(endlessly()))
        await until(() => server.reader.bytesAvailable > 0)
        const reading = rejection(server.reader.discard())
        expect(await sending).to.be.instanceOf(BufferAgeLimitError)
        expect(link.up.passed).to.equal(1_000_000)
        link.drop()
        server.abort()
        await reading
      })

      it('is waited for if it goes on in time', async () => {
        const { client, server, link } = await open({}, { bufferAgeLimit: 5_000 })
        const sending = client.writer([TOO_MUCH.subarray(0, 20_000_000)])
        const counting = server.reader.discard()
        for (let stall = 0; stall < 5; stall++) {
          const passed = link.up.passed
          await until(() => link.up.passed > passed || link.up.passed === 20_000_000)
          link.stall()
          await turns(10)
          link.resume()
        }
        expect(await counting).to.equal(20_000_000)
        await sending
      })
    })
  })
}

describe('Through a proxy', () => {
  holdsWithPushToo([import.meta.filename], 45)
})

/** Reads a message of which both sides know the length, and the end behind it. */
async function got(reader: Reader, expected: Uint8Array): Promise<Got> {
  try {
    const data = await reader.readExactly(expected.byteLength)
    if (data === null) return 'nothing'
    expect(sha256(data)).to.equal(sha256(expected))
    return (await reader.read()) === null ? 'whole' : new Error('There is more')
  } catch (error) {
    return error as Error
  }
}

function isEnd(got: Got): boolean {
  return got === 'nothing' || got instanceof UnexpectedEndError
}

async function untilEnd(read: () => Promise<unknown>): Promise<void> {
  while ((await read()) !== null);
}

function* endlessly(): Generator<Uint8Array> {
  for (;;) yield REQUEST
}

function ignore(): void {}
