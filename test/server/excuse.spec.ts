import { once } from 'node:events'
import type { Socket } from 'node:net'
import { setImmediate, setTimeout as wait } from 'node:timers/promises'
import { inspect } from 'node:util'
import { runInNewContext } from 'node:vm'
import { expect } from 'chai'
import type { SocketAddress } from '../../src/address.ts'
import { Deferred } from '../../src/async/deferred.ts'
import { connect } from '../../src/connect.ts'
import type { Connection } from '../../src/connection.ts'
import {
  BufferAgeLimitError,
  ConnectionClosedError,
  ConnectionResetError,
  DelimiterNotFoundError,
  IdleTimeoutError,
  LimitExceededError,
  ServerClosedError,
  UnexpectedEndError
} from '../../src/errors.ts'
import type { ServerOptions } from '../../src/options.ts'
import { toFile, toHostAndPort } from '../../src/where-to-connect.ts'
import { skipIf } from '../helpers/programs.ts'
import { type RawServer, rawServer } from '../helpers/raw.ts'
import { type Handler, inEverySetting } from '../helpers/settings.ts'
import { expectServing, handlerWarnings, watched } from '../helpers/watched-server.ts'

/** More than the buffers of both sides hold. */
const TOO_MUCH = Buffer.alloc(16 * 1024 * 1024)

describe('Server: whose fault it is', () => {
  inEverySetting((setting) => {
    const { isTcp, isKernel, scope, client, clients, turns } = setting

    describe('what the peer alone can cause is not raised: it ends that connection only', () => {
      it('a client that leaves before it is accepted', async () => {
        const { server, outcome } = await watched(setting, { maxConnections: 1 }, async ({ reader }) => {
          for await (const _ of reader) {
          }
        })
        const [first, ...others] = await clients(server, 4)
        await turns()
        for (const other of others) await setting.leave(other)
        first?.resume().end()
        await expectServing(setting, server, outcome)
      })

      it('a client that leaves while nobody reads, and then is read', async () => {
        const errors: unknown[] = []
        const mayRead = new Deferred()
        let started = 0
        const { server, outcome } = await watched(setting, {}, async ({ reader }) => {
          started++
          await mayRead.promise
          await reader.readExactly(1_000).catch((error: unknown) => {
            errors.push(error)
            throw error
          })
        })
        const [socket] = await clients(server, 1)
        await setting.until(() => started === 1)
        await setting.leave(socket as Socket)
        mayRead.resolve()
        await setting.until(() => errors.length === 1)
        expect(errors[0]).to.be.instanceOf(isTcp ? ConnectionResetError : UnexpectedEndError)
        await expectServing(setting, server, outcome)
      })

      it('a client that leaves while it is read', async () => {
        const errors: unknown[] = []
        const reading = new Deferred()
        const { server, outcome } = await watched(setting, {}, async ({ reader }) => {
          await reader.readLine()
          reading.resolve()
          await reader.readExactly(1_000).catch((error: unknown) => {
            errors.push(error)
            throw error
          })
        })
        const [socket] = await clients(server, 1)
        await reading.promise
        await new Promise((resolve) => socket?.write('few', resolve))
        await setting.leave(socket as Socket)
        await setting.until(() => errors.length === 1)
        await expectServing(setting, server, outcome)
      })

      for (const way of ['flushed()', 'a sink', 'a write() to what is broken']) {
        it(`a client that leaves while it is written to: ${way}`, async () => {
          const errors: unknown[] = []
          const writing = new Deferred()
          const { server, outcome } = await watched(setting, {}, async ({ writer, signal }) => {
            try {
              writing.resolve()
              if (way === 'flushed()') {
                writer.write(TOO_MUCH)
                await writer.flushed()
              } else if (way === 'a sink') {
                await writer(forever())
              } else {
                writer.write(TOO_MUCH)
                await new Promise((resolve) => signal.addEventListener('abort', resolve))
                writer.write('more')
              }
            } catch (error) {
              errors.push(error)
              throw error
            }
          })
          const [socket] = await clients(server, 1)
          await writing.promise
          await turns()
          await setting.leave(socket as Socket)
          await setting.until(() => errors.length === 1)
          expect(errors[0]).to.be.instanceOf(ConnectionResetError)
          await expectServing(setting, server, outcome)
        })
      }

      it('a client that leaves while its connection is closed after the handler ended well', async () => {
        for (const onHandlerError of ['raise', 'callback'] as const) {
          let reports = 0
          let ended = 0
          const options = onHandlerError === 'raise' ? {} : { onHandlerError: () => reports++ }
          const { server, outcome } = await watched(setting, options, ({ writer }) => {
            writer.write(TOO_MUCH)
            ended++
          })
          const [socket] = await clients(server, 1)
          await setting.until(() => ended === 1)
          await turns()
          expect(server.numConnections).to.equal(1)
          await setting.leave(socket as Socket)
          await setting.until(() => server.numConnections === 0)
          await turns()
          expect([server.isClosed, outcome.length, reports]).to.deep.equal([false, 0, 0])
        }
      })

      it('a client that leaves while the server closes', async () => {
        let started = 0
        const { server, outcome } = await watched(setting, {}, async ({ reader }) => {
          started++
          await reader.readExactly(1_000)
        })
        const sockets = await clients(server, 3)
        await setting.until(() => started === 3)
        const closing = server.close()
        for (const socket of sockets) await setting.leave(socket)
        await closing
        await setting.until(() => outcome.length === 1)
        expect(outcome).to.deep.equal(['finished'])
      })

      for (const depth of [1, 2, 5]) {
        it(`inside a cause chain, ${depth} deep`, async () => {
          const { server, outcome } = await watched(setting, {}, async ({ reader }) => {
            try {
              await reader.readExactly(1_000)
            } catch (error) {
              let failure = error
              for (let level = 0; level < depth; level++) failure = new Error(`level ${level}`, { cause: failure })
              throw failure
            }
          })
          const [socket] = await clients(server, 1)
          await turns()
          await setting.leave(socket as Socket)
          await setting.until(() => server.numConnections === 0)
          await expectServing(setting, server, outcome)
        })
      }

      const CAUSED: readonly [new (...args: never[]) => Error, ServerOptions<SocketAddress>, Handler, (client: Socket) => unknown][] = [
        [UnexpectedEndError, {}, ({ reader }) => reader.readExactly(1_000), (socket) => socket.end('few')],
        [DelimiterNotFoundError, {}, ({ reader }) => reader.readLine({ maxLength: 10 }), (socket) => socket.write('x'.repeat(100))],
        [LimitExceededError, {}, ({ reader }) => reader.readAll({ maxLength: 10 }), (socket) => socket.write('x'.repeat(100))],
        [IdleTimeoutError, { idleTimeout: 20 }, ({ reader }) => reader.read(), () => {}],
        [
          BufferAgeLimitError,
          { bufferAgeLimit: 20 },
          ({ writer }) => {
            writer.write(TOO_MUCH)
            return writer.flushed()
          },
          () => {}
        ]
      ]
      for (const [Class, options, handler, misbehave] of CAUSED) {
        for (const policy of ['raise', 'callback']) {
          it(`${Class.name} ${policy === 'raise' ? 'is not raised' : 'goes to a callback all the same'}`, async () => {
            const errors: unknown[] = []
            const reports: unknown[] = []
            const withPolicy =
              policy === 'raise' ? options : { ...options, onHandlerError: (_: unknown, error: unknown) => reports.push(error) }
            const { server, outcome } = await watched(setting, withPolicy, async (connection) => {
              try {
                return await handler(connection)
              } catch (error) {
                errors.push(error)
                throw error
              }
            })
            const socket = await client(server)
            await misbehave(socket)
            await setting.until(() => errors.length === 1)
            expect(errors[0]).to.be.instanceOf(Class)
            socket.resume().end()
            await setting.until(() => server.numConnections === 0)
            await turns()
            expect(reports).to.deep.equal(policy === 'raise' ? [] : errors)
            expect([server.isClosed, outcome.length]).to.deep.equal([false, 0])
          })
        }
      }
    })

    describe('of a client of this server: the same errors of others are raised', () => {
      it('the reset of an upstream that the handler has dialled', async function () {
        skipIf(this, !isTcp, 'a unix socket knows no reset')
        const upstream = await rawServer(scope)
        const dialled = new Deferred()
        const { server, outcome } = await watched(setting, {}, async () => {
          await using other = await dial(upstream)
          dialled.resolve()
          await other.reader.read()
        })
        await clients(server, 1)
        await dialled.promise
        ;(await upstream.accept()).resetAndDestroy()
        await setting.until(() => outcome.length === 1)
        expect(outcome[0]).to.have.property('raised').that.is.instanceOf(ConnectionResetError)
      })

      it('the end of an upstream amid what was asked for', async () => {
        const upstream = await rawServer(scope, isTcp ? undefined : `${scope.tempDir()}/u`)
        const { server, outcome } = await watched(setting, {}, async () => {
          await using other = await dial(upstream)
          await other.reader.readExactly(10)
        })
        await clients(server, 1)
        ;(await upstream.accept()).end('few')
        await setting.until(() => outcome.length === 1)
        expect(outcome[0]).to.have.property('raised').that.is.instanceOf(UnexpectedEndError)
      })

      it('an error of such a class that the handler made itself', async () => {
        const failure = new ConnectionResetError('made up')
        const { server, outcome } = await watched(setting, {}, () => {
          throw failure
        })
        await clients(server, 1)
        await setting.until(() => outcome.length === 1)
        expect(outcome).to.deep.equal([{ raised: failure }])
      })

      it('what the handler did to its connection itself', async () => {
        const { server, outcome } = await watched(setting, {}, async (connection) => {
          connection.abort()
          await connection.reader.read()
        })
        await client(server).catch(() => {})
        await setting.until(() => outcome.length === 1)
        expect(outcome[0]).to.have.property('raised').that.is.instanceOf(ConnectionClosedError)
      })
    })

    describe('a client can’t stop a server', () => {
      it('nor can a thousand that leave at any moment', async function () {
        this.timeout(60_000)
        const total = isTcp && isKernel ? 1_000 : 300
        const { server, outcome } = await watched(setting, { maxConnections: 5 }, async ({ reader, writer }) => {
          const line = await reader.readLine()
          writer.write(Buffer.alloc(Number(line) * 100))
          await writer.flushed()
          for await (const chunk of reader) writer.write(chunk)
        })
        let next = 0
        const worker = async (): Promise<void> => {
          while (next < total) {
            const number = next++
            const socket = await client(server)
            if (number % 2 === 0) socket.write(`${number}\n`)
            await turns(number % 7)
            await setting.leave(socket)
          }
        }
        await Promise.all(Array.from({ length: 20 }, worker))
        await setting.until(() => server.numConnections === 0)
        await expectServing(setting, server, outcome)
      })
    })

    describe('what a client of this server brought about, and what the library told, is excused wherever it stands', () => {
      // Each handler fails when its client, which `client` is, has gone away in order; the server has to go on.
      const BROUGHT_ABOUT: Record<string, (connection: Connection) => Promise<unknown>> = {
        'connection.signal handed on': async ({ writer, signal }) => {
          await writer.close()
          await wait(60_000, undefined, { signal })
        },
        'the reason of connection.signal itself': async ({ writer, signal, closed }) => {
          await writer.close()
          await closed
          signal.throwIfAborted()
        },
        'a read after the handler closed its connection': async (connection) => {
          await connection.close()
          await connection.reader.read()
        }
      }
      for (const [what, fail] of Object.entries(BROUGHT_ABOUT)) {
        it(`${what}, when the client ends in order`, async () => {
          const errors: unknown[] = []
          const { server, outcome } = await watched(setting, {}, async (connection) => {
            try {
              return await fail(connection)
            } catch (error) {
              errors.push(error)
              throw error
            }
          })
          const socket = await client(server)
          // Node's own client ends in no order in the middle of its handshake.
          if (setting.isTls) await once(socket, 'secureConnect')
          socket.resume().end()
          await setting.until(() => errors.length === 1)
          await expectServing(setting, server, outcome)
        })
      }

      it('server.signal handed on to a read, when the server closes', async () => {
        const { server, outcome } = await watched(setting, {}, async ({ reader }) => {
          await reader.readLine({ signal: server.signal })
        })
        const socket = await client(server)
        await setting.until(() => server.numConnections === 1)
        await server.close()
        socket.resume().end()
        await setting.until(() => outcome.length === 1)
        expect(outcome).to.deep.equal(['finished'])
      })

      it('server.signal handed on to something that wraps its reason, when the server closes', async () => {
        const { server, outcome } = await watched(setting, {}, async () => {
          await wait(60_000, undefined, { signal: server.signal })
        })
        const socket = await client(server)
        await setting.until(() => server.numConnections === 1)
        await server.close()
        socket.resume().end()
        await setting.until(() => outcome.length === 1)
        expect(outcome).to.deep.equal(['finished'])
      })

      it('a close() of the handler that its client does not take', async () => {
        const { server, outcome } = await watched(setting, {}, async (connection) => {
          connection.writer.write(TOO_MUCH)
          await connection.close({ forceAfter: 20 })
        })
        await client(server)
        await setting.until(() => server.numConnections === 1)
        await expectServing(setting, server, outcome)
      })

      for (const when of ['pending', 'begun']) {
        it(`an AbortSignal.timeout of a read that is ${when}`, async () => {
          const { server, outcome } = await watched(setting, {}, async ({ reader }) => {
            const signal = AbortSignal.timeout(10)
            if (when === 'begun') while (!signal.aborted) await setImmediate()
            await reader.readLine({ signal })
          })
          const socket = await client(server)
          await setting.until(() => server.numConnections === 1)
          socket.resume().end()
          await expectServing(setting, server, outcome)
        })
      }

      it('the error of another client of this server, as in a broadcast', async () => {
        const first = new Deferred<Connection>()
        let started = 0
        const { server, outcome } = await watched(setting, {}, async (connection) => {
          if (++started === 1) {
            first.resolve(connection)
            await connection.reader.ended
          } else if (started === 2) {
            await (await first.promise).reader.readExactly(1_000)
          }
        })
        const [one, other] = await clients(server, 2)
        await setting.until(() => started === 2)
        await setting.leave(one as Socket)
        ;(other as Socket).resume().end()
        await expectServing(setting, server, outcome, () => started === 3)
      })

      /** Makes the handler's failure of what its client brought about. */
      const WRAPPINGS: Record<string, (error: unknown) => unknown> = {
        'an AggregateError': (error) => new AggregateError([error, error]),
        'an AggregateError of as many errors as a broadcast has clients': (error) =>
          new AggregateError(Array.from({ length: 10_000 }, () => new Error('inner', { cause: error }))),
        'an AggregateError in a cause': (error) =>
          new Error('outer', { cause: new AggregateError([new Error('inner', { cause: error })]) }),
        'the cause of an AggregateError of other errors': (error) => new AggregateError([new Error('other')], '', { cause: error }),
        'both parts of a SuppressedError': (error) => suppressed(error, error),
        'an AbortError of another realm': (error) =>
          runInNewContext("Object.assign(new Error('aborted', { cause }), { name: 'AbortError' })", { cause: error }),
        'an object that is no Error': (error) => ({ cause: error }),
        'a circle of causes': (error) => {
          const outer = new AggregateError([], 'outer')
          outer.errors.push(error)
          outer.cause = outer
          return outer
        },
        'an error whose other getters throw': (error) =>
          Object.defineProperties(new Error('outer', { cause: error }), {
            name: { get: throwing },
            errors: { get: throwing },
            message: { get: throwing }
          })
      }
      for (const [what, wrap] of Object.entries(WRAPPINGS)) {
        it(`in ${what}`, async () => {
          const { server, outcome } = await watched(setting, {}, async ({ reader }) => {
            try {
              await reader.readExactly(1_000)
            } catch (error) {
              throw wrap(error)
            }
          })
          const [socket] = await clients(server, 1)
          await turns()
          await setting.leave(socket as Socket)
          await expectServing(setting, server, outcome)
        })
      }
    })

    describe('what the program itself brought about is raised, whatever the client did besides', () => {
      const RAISED: Record<string, (error: unknown) => unknown> = {
        'an AggregateError that has an error of the program too': (error) => new AggregateError([error, new Error('mine')]),
        'a SuppressedError whose other part is of the program': (error) => suppressed(new Error('mine'), error),
        'an error whose cause throws when it is looked at': () => Object.defineProperty(new Error('mine'), 'cause', { get: throwing }),
        'an error that has a new cause each time': () => endless(),
        'an error that throws whatever is done with it': () =>
          new Proxy(new Error('mine'), { get: throwing, getPrototypeOf: throwing, has: throwing, getOwnPropertyDescriptor: throwing }),
        'an AbortSignal.timeout of something else': () => new DOMException('late', 'TimeoutError')
      }
      for (const [what, failureOf] of Object.entries(RAISED)) {
        it(what, async () => {
          let failure: unknown
          const { server, outcome } = await watched(setting, {}, async ({ reader }) => {
            try {
              await reader.readExactly(1_000)
            } catch (error) {
              failure = failureOf(error)
              throw failure
            }
          })
          const [socket] = await clients(server, 1)
          await turns()
          await setting.leave(socket as Socket)
          await setting.until(() => outcome.length === 1)
          expect((outcome[0] as { raised: unknown }).raised === failure).to.equal(true)
          expect(server.isClosed).to.equal(true)
        })
      }

      it('a reason of its own with which it aborted a read', async () => {
        const failure = new Error('mine')
        const { server, outcome } = await watched(setting, {}, async ({ reader }) => {
          const controller = new AbortController()
          const line = reader.readLine({ signal: controller.signal })
          controller.abort(failure)
          await line
        })
        await client(server)
        await setting.until(() => outcome.length === 1)
        expect(outcome).to.deep.equal([{ raised: failure }])
      })

      it('connection.signal, if the handler aborted the connection', async () => {
        const { server, outcome } = await watched(setting, {}, async (connection) => {
          connection.abort()
          await wait(60_000, undefined, { signal: connection.signal })
        })
        await client(server).catch(() => {})
        await setting.until(() => outcome.length === 1)
        expect(outcome[0]).to.have.nested.property('raised.cause').that.is.instanceOf(ConnectionClosedError)
      })

      it('server.signal of another server', async () => {
        const other = await setting.listen()
        const { server, outcome } = await watched(setting, {}, async () => {
          other.signal.throwIfAborted()
        })
        await other.close()
        await client(server)
        await setting.until(() => outcome.length === 1)
        expect(outcome[0]).to.have.property('raised').that.is.instanceOf(ServerClosedError)
      })

      it('the error of a client of another server', async () => {
        const first = new Deferred<Connection>()
        const other = await setting.create({}, async (connection) => {
          first.resolve(connection)
          await connection.reader.ended
        })
        const { server, outcome } = await watched(setting, {}, async () => {
          await (await first.promise).reader.readExactly(1_000)
        })
        const [socket] = await clients(other, 1)
        await client(server)
        await first.promise
        await turns()
        await setting.leave(socket as Socket)
        await setting.until(() => outcome.length === 1)
        expect(outcome[0]).to.have.property('raised')
      })

      it('an error that cannot be shown, after another, goes to process.emitWarning', async () => {
        const failures = [new Error('first'), Object.defineProperty(new Error('second'), inspect.custom, { value: throwing })]
        let started = 0
        const { server, outcome } = await watched(setting, {}, async ({ reader }) => {
          const failure = failures[started++]
          await reader.read()
          throw failure
        })
        const sockets = await Promise.all([client(server), client(server)])
        await setting.until(() => started === 2)
        for (const socket of sockets) {
          socket.resume().end()
          // One after the other: nothing says which of two ends is seen first.
          await turns()
        }
        await setting.until(() => outcome.length === 1 && handlerWarnings(setting).length === 1)
        expect(handlerWarnings(setting)[0]).to.match(/failed after another: an error that cannot be shown$/)
      })
    })
  })
})

async function dial({ target }: RawServer): Promise<Connection> {
  return await connect(typeof target === 'string' ? toFile(target) : toHostAndPort('127.0.0.1', target))
}

async function* forever(): AsyncGenerator<Uint8Array> {
  for (;;) {
    yield new Uint8Array(65_536)
    await new Promise((resolve) => setImmediate(resolve))
  }
}

/** What `using` throws where there is such a class, made without it. */
function suppressed(error: unknown, suppressedError: unknown): Error {
  return Object.assign(new Error('suppressed'), { name: 'SuppressedError', error, suppressed: suppressedError })
}

function endless(): Error {
  return Object.defineProperty(new Error('mine'), 'cause', { get: endless })
}

function throwing(): never {
  throw new Error('looked at')
}
