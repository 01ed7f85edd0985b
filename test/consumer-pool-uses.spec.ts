import { AsyncLocalStorage } from 'node:async_hooks'
import type { Socket } from 'node:net'
import { expect } from 'chai'
import { pipe } from 'it-pipe'
import { pushable } from 'it-pushable'
import { Deferred } from '../src/async/deferred.ts'
import { connect } from '../src/connect.ts'
import { consumerPool } from '../src/consumer-pool.ts'
import { ConnectionResetError } from '../src/errors.ts'
import { listen } from '../src/listen.ts'
import type { Server } from '../src/server.ts'
import { toHostAndPort } from '../src/where-to-connect.ts'
import { onPort } from '../src/where-to-listen.ts'
import { from, iterable, once, rig, through } from './helpers/pool-cases.ts'
import { rejection } from './helpers/rejection.ts'
import { type Handler, inEverySetting } from './helpers/settings.ts'
import { transcript } from './helpers/transcript.ts'
import { turns } from './helpers/until.ts'

describe('consumerPool', () => {
  describe('a client can’t stop a pool over a server', () => {
    inEverySetting((setting) => {
      const failing: Handler = async ({ reader }) => {
        if ((await reader.readExactly(3)) === null) throw new Error('nothing came')
      }
      for (const [form, run] of Object.entries<(server: Server, handler: Handler) => Promise<void>>({
        'by hand': (server, handler) => consumerPool(server, 2, handler),
        'as the sink of a pipeline': (server, handler) => pipe(server, through, consumerPool(2, handler))
      })) {
        it(`${form}: what it brings about by itself is no failure of the handler`, async () => {
          const server = await setting.listen()
          let outcome: unknown
          const pool = run(server, failing)
          pool.then(
            () => {
              outcome = 'resolved'
            },
            (error) => {
              outcome = error
            }
          )
          for (let i = 1; i <= 3; i++) {
            const [socket] = await setting.clients(server, 1)
            await setting.until(() => server.statistics().served === i)
            await setting.turns(3)
            await setting.leave(socket as Socket)
            await setting.until(() => server.numConnections === 0)
          }
          expect([outcome, server.isClosed]).to.deep.equal([undefined, false])
          await server.close()
          await pool.catch(() => {})
        })
      }

      it('what server.signal tells a handler is none either', async () => {
        const server = await setting.listen()
        const pool = consumerPool(server, 2, async ({ reader }) => await reader.read({ signal: server.signal }))
        const socket = await setting.client(server)
        await setting.until(() => server.numConnections === 1)
        await server.close()
        socket.resume().end()
        await pool
      })

      it('what the program brings about is one', async () => {
        const server = await setting.listen()
        const failure = new Error('mine')
        const pool = rejection(
          consumerPool(server, 2, () => {
            throw failure
          })
        )
        await setting.client(server)
        expect(await pool).to.equal(failure)
        expect(server.isClosed).to.equal(true)
      })
    })

    it('the reset of a connection that the handler has dialled is one', async () => {
      await using server = await listen(onPort(0, { host: '127.0.0.1' }))
      const connected = new Deferred()
      const pool = rejection(
        consumerPool(once(), 1, async () => {
          await using connection = await connect(toHostAndPort('127.0.0.1', server.listeningOn))
          connected.resolve()
          await connection.reader.readExactly(10)
        })
      )
      const connection = await server.accept()
      await connected.promise
      connection.abort()
      expect(await pool).to.be.instanceOf(ConnectionResetError)
    })
  })

  describe('async contexts', () => {
    it('handlers and source run in that of whoever started the pool, whatever a handler does to its own', async () => {
      const storage = new AsyncLocalStorage<string>()
      const seen: (string | undefined)[] = []
      const { source } = rig(4)
      const iterator = source[Symbol.asyncIterator]()
      const watched = iterable(async () => {
        seen.push(storage.getStore())
        return await iterator.next()
      })
      await storage.run('the starter', () =>
        consumerPool(watched, 2, async (item) => {
          seen.push(storage.getStore())
          storage.enterWith(`handler ${item}`)
          await turns(2)
        })
      )
      expect(new Set(seen)).to.deep.equal(new Set(['the starter']))
      expect(seen).to.have.lengthOf(9)
    })
  })

  describe('as the sink of a pipeline', () => {
    it('consumes what the pipeline yields', async () => {
      const queue = pushable<number>({ objectMode: true })
      const seen: number[] = []
      const done = pipe(
        queue,
        async function* double(source: AsyncIterable<number>) {
          for await (const item of source) yield item * 2
        },
        consumerPool(2, (item: number) => seen.push(item))
      )
      queue.push(1).push(2).push(3).end()
      await done
      expect(seen).to.deep.equal([2, 4, 6])
    })

    it('can be used for several sources, each with its own consumers', async () => {
      const record = transcript()
      const gate = new Deferred()
      const sink = consumerPool(1, (item: string) => {
        record(item)
        return gate.promise
      })
      const both = [sink(from(['a', 'b'])), sink(from(['c', 'd']))]
      await turns()
      expect(record.lines).to.deep.equal(['a', 'c'])
      gate.resolve()
      await Promise.all(both)
      expect(record.lines).to.have.members(['a', 'b', 'c', 'd'])
    })
  })

  describe('bad input', () => {
    const nothing = (): void => {}
    const bad = (value: unknown): never => value as never

    for (const [value, quoted, type] of [
      [0, '0', RangeError],
      [-1, '-1', RangeError],
      [1.5, '1.5', RangeError],
      [Number.NaN, 'NaN', RangeError],
      [Number.NEGATIVE_INFINITY, '-Infinity', RangeError],
      ['2', "'2'", TypeError],
      [undefined, 'undefined', TypeError],
      [null, 'null', TypeError]
    ] as const) {
      it(`refuses a concurrency of ${quoted} and pulls nothing`, async () => {
        const source = iterable(() => expect.fail('pulled'))
        const error = await rejection(consumerPool(source, bad(value), nothing))
        expect(error)
          .to.be.instanceOf(type)
          .with.property('message')
          .that.matches(/^Cannot consume as 'concurrency' must be /)
        expect(error)
          .to.have.property('message')
          .that.satisfies((message: string) => message.endsWith(`: received ${quoted}`))
        expect(() => consumerPool(bad(value), nothing)).to.throw(type, `received ${quoted}`)
      })
    }

    for (const value of [undefined, null, 42, 'text', {}, [1, 2]]) {
      it(`refuses ${JSON.stringify(value)} as a source`, async () => {
        const message = /^Cannot consume as 'source' must be an async iterable: received /
        expect(await rejection(consumerPool(1, nothing)(bad(value))))
          .to.be.instanceOf(TypeError)
          .with.property('message')
          .that.matches(message)
        if (typeof value === 'number') return
        expect(await rejection(consumerPool(bad(value), 1, nothing)))
          .to.be.instanceOf(TypeError)
          .with.property('message')
          .that.matches(message)
      })
    }

    it('refuses a handler that is no function', async () => {
      const message = "Cannot consume as 'handler' must be a function: received 'handler'"
      const error = await rejection(consumerPool(from([1]), 1, bad('handler')))
      expect(error).to.be.instanceOf(TypeError).with.property('message', message)
      expect(() => consumerPool(1, bad('handler'))).to.throw(TypeError, message)
    })

    it('names the argument that was forgotten', async () => {
      const source = from([1])
      const call = consumerPool as (...args: unknown[]) => Promise<void>
      expect(await rejection(call(source, 1)))
        .to.have.property('message')
        .that.includes("'handler' must be a function: received undefined")
      expect(() => call(source, nothing)).to.throw(TypeError, "'concurrency' must be a number")
      expect(() => call(1)).to.throw(TypeError, "'handler' must be a function: received undefined")
    })
  })
})
