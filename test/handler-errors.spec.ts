import type { Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { inspect } from 'node:util'
import { expect } from 'chai'
import type { SocketAddress } from '../src/address.ts'
import { Deferred } from '../src/async/deferred.ts'
import { connect } from '../src/connect.ts'
import type { Connection } from '../src/connection.ts'
import {
  BufferAgeLimitError,
  ConnectionClosedError,
  ConnectionResetError,
  DelimiterNotFoundError,
  IdleTimeoutError,
  LimitExceededError,
  UnexpectedEndError
} from '../src/errors.ts'
import type { ServerOptions } from '../src/options.ts'
import type { Server } from '../src/server.ts'
import { toFile, toHostAndPort } from '../src/where-to-connect.ts'
import { runNode, skipIf } from './helpers/programs.ts'
import { type RawServer, rawServer, readToEnd } from './helpers/raw.ts'
import { rejection } from './helpers/rejection.ts'
import { useScope } from './helpers/scope.ts'
import { type Handler, inEverySetting, type Setting } from './helpers/settings.ts'
import { transcript } from './helpers/transcript.ts'

const CHILD = fileURLToPath(new URL('helpers/children/handler-error.js', import.meta.url))
/** More than the buffers of both sides hold. */
const TOO_MUCH = Buffer.alloc(16 * 1024 * 1024)

class CustomError extends Error {
  readonly [inspect.custom] = (): string => 'an error'
}

/** What a handler may throw. */
const FAILURES: readonly unknown[] = [new CustomError('failed'), 'a string', 42, undefined, null, { an: 'object' }]

describe('Server: handler errors', () => {
  inEverySetting((setting) => {
    const { isTcp, isKernel, scope, client, clients, turns } = setting

    describe('raise: the server closes its listening socket at once and finished rejects then, with the handler’s error', () => {
      for (const failure of FAILURES) {
        for (const [way, handler] of waysToFail(failure)) {
          it(`${way} of ${inspect(failure)}`, async () => {
            const { server, outcome } = await watched(setting, {}, handler)
            await clients(server, 1)
            await setting.until(() => outcome.length === 1)
            expect(outcome[0]).to.deep.equal({ raised: failure })
            expect(server.isClosed).to.equal(true)
            await server.closeFinished
          })
        }
      }

      it('it is the default', async () => {
        const failure = new Error('failed')
        const server = await setting.create({}, () => {
          throw failure
        })
        const finished = rejection(server.finished)
        await client(server)
        expect(await finished).to.equal(failure)
      })

      it('the other handlers go on, and no new one is called', async () => {
        const mayEnd = new Deferred()
        const mayFail = new Deferred()
        const ended: (string | null)[] = []
        let started = 0
        const { server, outcome } = await watched(setting, { maxConnections: 3 }, async ({ reader, writer }) => {
          if (++started === 3) {
            await mayFail.promise
            throw new Error('failed')
          }
          await mayEnd.promise
          ended.push(await reader.readLine())
          writer.write('done')
        })
        const sockets = await clients(server, 5)
        await setting.until(() => started === 3)
        mayFail.resolve()
        await setting.until(() => outcome.length === 1)
        await server.closeFinished
        expect([started, ended.length]).to.deep.equal([3, 0])
        mayEnd.resolve()
        expect(String(await readToEnd(sockets[0] as Socket))).to.equal('done')
        expect(String(await readToEnd(sockets[1] as Socket))).to.equal('done')
        expect([started, ended]).to.deep.equal([3, ['1', '2']])
      })

      it('the errors of others after that go to process.emitWarning', async () => {
        let started = 0
        const mayFail = new Deferred()
        const { server, outcome } = await watched(setting, {}, async () => {
          const number = ++started
          await mayFail.promise
          throw new Error(`failure ${number}`)
        })
        const sockets = await clients(server, 5)
        await setting.until(() => started === 5)
        mayFail.resolve()
        await setting.until(() => handlerWarnings(setting).length === 4)
        await turns()
        expect(outcome).to.deep.equal([{ raised: (outcome[0] as { raised: Error }).raised }])
        expect(outcome[0]).to.have.nested.property('raised.message', 'failure 1')
        expect(handlerWarnings(setting).map((message) => /failure \d/.exec(message)?.[0])).to.deep.equal(
          [2, 3, 4, 5].map((number) => `failure ${number}`)
        )
        for (const socket of sockets) socket.resume().end()
        await setting.until(() => server.numConnections === 0)
      })

      it('an error while the server closes is raised too', async () => {
        const mayFail = new Deferred()
        const failure = new Error('while closing')
        let started = 0
        const { server, outcome } = await watched(setting, {}, async () => {
          started++
          await mayFail.promise
          throw failure
        })
        await clients(server, 1)
        await setting.until(() => started === 1)
        await server.close()
        await turns()
        expect(outcome).to.deep.equal([])
        mayFail.resolve()
        await setting.until(() => outcome.length === 1)
        expect(outcome).to.deep.equal([{ raised: failure }])
      })
    })

    describe('ignore: the server goes on', () => {
      for (const failure of FAILURES) {
        it(`after ${inspect(failure)}, thrown or rejected`, async () => {
          const ways = waysToFail(failure)
          let count = 0
          const { server, outcome } = await watched(setting, { onHandlerError: 'ignore', maxConnections: 1 }, async (connection) => {
            await ways[count++ % ways.length]?.[1](connection)
          })
          for (const socket of await clients(server, 4)) {
            await readToEnd(socket)
            socket.end()
          }
          await expectServing(setting, server, outcome, () => count === 5)
          await server.close()
          await setting.until(() => outcome.length === 1)
          expect(outcome).to.deep.equal(['finished'])
          expect(setting.warnings.filter(({ code }) => code !== 'IT_TCP_AT_LIMIT')).to.deep.equal([])
        })
      }
    })

    describe('a callback is called with the address and the error, once the connection is closed', () => {
      for (const failure of FAILURES) {
        for (const [way, handler] of waysToFail(failure)) {
          it(`${way} of ${inspect(failure)}`, async () => {
            const reports: unknown[][] = []
            let connection: Connection | undefined
            const onHandlerError = (...report: unknown[]): void => void reports.push([...report, connection?.signal.aborted])
            const { server, outcome } = await watched(setting, { onHandlerError }, (given) => {
              connection = given
              return handler(given)
            })
            const [socket] = await clients(server, 1)
            const port = socket?.localPort
            await readToEnd(socket as Socket)
            socket?.end()
            await setting.until(() => reports.length === 1)
            expect(reports).to.deep.equal([[connection?.remoteAddress, failure, true]])
            if (isTcp) expect(connection?.remoteAddress).to.have.property('port', port)
            await expectServing(setting, server, outcome)
          })
        }
      }

      it('many at once: each goes to the callback', async () => {
        const messages: string[] = []
        const mayFail = new Deferred()
        let started = 0
        const { server, outcome } = await watched(
          setting,
          { onHandlerError: (_, error) => messages.push((error as Error).message) },
          async () => {
            const number = ++started
            await mayFail.promise
            throw new Error(`failure ${number}`)
          }
        )
        const sockets = await clients(server, 5)
        await setting.until(() => started === 5)
        mayFail.resolve()
        for (const socket of sockets) socket.resume().end()
        await setting.until(() => messages.length === 5)
        expect(messages.sort()).to.deep.equal([1, 2, 3, 4, 5].map((number) => `failure ${number}`))
        await setting.until(() => server.numConnections === 0)
        expect([server.isClosed, outcome.length]).to.deep.equal([false, 0])
      })

      it('a handler that ends well is not reported', async () => {
        let reports = 0
        const { server } = await watched(setting, { onHandlerError: () => reports++ }, async ({ reader }) => await reader.readLine())
        const [socket] = await clients(server, 1)
        socket?.resume().end()
        await setting.until(() => server.numConnections === 0)
        expect(reports).to.equal(0)
      })

      it('a handler that fails while the server closes is reported before finished', async () => {
        const record = transcript()
        const mayFail = new Deferred()
        const { server } = await watched(setting, { onHandlerError: () => record('callback') }, async () => {
          record('handler')
          await mayFail.promise
          throw new Error('failed')
        })
        const [socket] = await clients(server, 1)
        void server.finished.then(() => record('finished'))
        await setting.until(() => record.lines.length === 1)
        await server.close()
        mayFail.resolve()
        socket?.resume().end()
        await setting.until(() => record.lines.length === 3)
        expect(record.lines).to.deep.equal(['handler', 'callback', 'finished'])
      })
    })

    describe('a callback that throws or returns a promise that rejects raises its own error', () => {
      for (const failure of FAILURES) {
        for (const [way, callback] of waysToFail(failure)) {
          it(`${way} of ${inspect(failure)}`, async () => {
            const { server, outcome } = await watched(setting, { onHandlerError: callback }, () => {
              throw new Error('of the handler')
            })
            const [socket] = await clients(server, 1)
            socket?.resume().end()
            await setting.until(() => outcome.length === 1)
            expect(outcome).to.deep.equal([{ raised: failure }])
            expect(server.isClosed).to.equal(true)
            await setting.until(() => server.numConnections === 0)
          })
        }
      }

      it('errors of other handlers after that still go to the callback, and its own to process.emitWarning', async () => {
        let started = 0
        let reports = 0
        const mayFail = new Deferred()
        const onHandlerError = async (): Promise<void> => {
          throw new Error(`callback ${++reports}`)
        }
        const { server, outcome } = await watched(setting, { onHandlerError }, async () => {
          started++
          await mayFail.promise
          throw new Error('of the handler')
        })
        const sockets = await clients(server, 3)
        await setting.until(() => started === 3)
        mayFail.resolve()
        for (const socket of sockets) socket.resume().end()
        await setting.until(() => server.numConnections === 0)
        await setting.until(() => handlerWarnings(setting).length === 2)
        expect([reports, outcome.length]).to.deep.equal([3, 1])
        expect(outcome[0]).to.have.nested.property('raised.message', 'callback 1')
      })
    })

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

    describe('of that very connection: the same errors of another are raised', () => {
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

      it('the error of another client of this server', async () => {
        const first = new Deferred<Connection>()
        let started = 0
        const { server, outcome } = await watched(setting, {}, async (connection) => {
          if (++started === 1) {
            first.resolve(connection)
            await connection.closed
          } else {
            await (await first.promise).reader.readExactly(1_000)
          }
        })
        const [socket] = await clients(server, 2)
        await setting.until(() => started === 2)
        await setting.leave(socket as Socket)
        await setting.until(() => outcome.length === 1)
        expect(outcome[0])
          .to.have.property('raised')
          .that.is.instanceOf(isTcp ? ConnectionResetError : UnexpectedEndError)
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
  })

  describe('if nobody watches finished, the process sees an unhandled rejection', () => {
    useScope()

    for (const [policy, outcome] of [
      ['raise', 'raised'],
      ['callback', 'of the callback']
    ] as const) {
      it(`policy ${policy}: it ends with the error`, async () => {
        const { code, stderr } = await runNode([CHILD, policy])
        expect(code).to.equal(1)
        expect(stderr).to.include(`Error: ${outcome}`)
      })

      it(`policy ${policy}, watched: it goes on`, async () => {
        const { code, stdout, stderr } = await runNode([CHILD, policy, 'watched'])
        expect([code, stdout], stderr).to.deep.equal([0, `${outcome}\n`])
      })
    }

    it('policy ignore: it goes on', async () => {
      const { code, stdout, stderr } = await runNode([CHILD, 'ignore'])
      expect([code, stdout], stderr).to.deep.equal([0, 'finished\n'])
    })
  })
})

// ---------------------------------------------------------------------------------------------------------------------

/** The ways in which a function can fail. */
function waysToFail(failure: unknown): [string, (...args: unknown[]) => unknown][] {
  return [
    [
      'a synchronous throw',
      () => {
        throw failure
      }
    ],
    ['a rejection', () => Promise.reject(failure)],
    [
      'a rejection after a while',
      async () => {
        await new Promise((resolve) => setImmediate(resolve))
        throw failure
      }
    ],
    [
      'a promise that throws when it is looked at',
      () =>
        Object.defineProperty(Promise.resolve(), 'constructor', {
          get: () => {
            throw failure
          }
        })
    ],
    [
      'a rejection with a then() of its own',
      () =>
        Object.assign(Promise.reject(failure), {
          // biome-ignore lint/suspicious/noThenProperty: this is what is tested.
          then: () => {
            throw new Error('called')
          }
        })
    ]
  ]
}

/** A server whose `finished` is watched: what becomes of it is added to `outcome`. */
async function watched(
  setting: Setting,
  options: ServerOptions<SocketAddress>,
  handler: Handler
): Promise<{ server: Server; outcome: unknown[] }> {
  const outcome: unknown[] = []
  const server = await setting.create(options, handler)
  server.finished.then(
    () => outcome.push('finished'),
    (raised: unknown) => outcome.push({ raised })
  )
  return { server, outcome }
}

/** Expects that the server is open, and that a new client gets to a handler. */
async function expectServing(setting: Setting, server: Server, outcome: unknown[], isServed?: () => boolean): Promise<void> {
  await setting.until(() => server.numConnections === 0)
  const socket = await setting.client(server)
  if (isServed === undefined) await setting.until(() => server.numConnections === 1)
  else await setting.until(isServed)
  await setting.leave(socket)
  await setting.turns()
  expect([server.isClosed, ...outcome]).to.deep.equal([false])
  expect(handlerWarnings(setting)).to.deep.equal([])
}

function handlerWarnings(setting: Setting): string[] {
  return setting.warnings.filter(({ code }) => code === 'IT_TCP_HANDLER_ERROR').map(({ message }) => message)
}

async function dial({ target }: RawServer): Promise<Connection> {
  return await connect(typeof target === 'string' ? toFile(target) : toHostAndPort('127.0.0.1', target))
}

async function* forever(): AsyncGenerator<Uint8Array> {
  for (;;) {
    yield new Uint8Array(65_536)
    await new Promise((resolve) => setImmediate(resolve))
  }
}
