import type { Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { inspect } from 'node:util'
import { expect } from 'chai'
import { Deferred } from '../../src/async/deferred.ts'
import type { Connection } from '../../src/connection.ts'
import { runNode } from '../helpers/programs.ts'
import { readToEnd } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { inEverySetting } from '../helpers/settings.ts'
import { transcript } from '../helpers/transcript.ts'
import { expectServing, handlerWarnings, watched } from '../helpers/watched-server.ts'

const CHILD = fileURLToPath(new URL('../helpers/children/handler-error.js', import.meta.url))

class CustomError extends Error {
  readonly [inspect.custom] = (): string => 'an error'
}

/** What a handler may throw. */
const FAILURES: readonly unknown[] = [new CustomError('failed'), 'a string', 42, undefined, null, { an: 'object' }]

describe('Server: handler errors', () => {
  inEverySetting((setting) => {
    const { isTcp, client, clients, turns } = setting

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
