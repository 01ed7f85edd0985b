import { AsyncLocalStorage } from 'node:async_hooks'
import type { Socket } from 'node:net'
import { expect } from 'chai'
import { pipe } from 'it-pipe'
import { pushable } from 'it-pushable'
import { Deferred } from '../src/async/deferred.ts'
import { connect } from '../src/connect.ts'
import type { Connection } from '../src/connection.ts'
import { consumerPool } from '../src/consumer-pool.ts'
import { ConnectionResetError } from '../src/errors.ts'
import { listen } from '../src/listen.ts'
import type { Server } from '../src/server.ts'
import { toHostAndPort } from '../src/where-to-connect.ts'
import { onPort } from '../src/where-to-listen.ts'
import { rejection } from './helpers/rejection.ts'
import { type Handler, inEverySetting } from './helpers/settings.ts'
import { transcript } from './helpers/transcript.ts'
import { turns } from './helpers/until.ts'

describe('consumerPool', () => {
  describe('law 1: the next item is pulled only when a consumer is free', () => {
    it('with two consumers pulls the third item when the first handler has ended', async () => {
      const { source, handler, end, lines } = rig(4)
      const pool = consumerPool(source, 2, handler)
      await turns()
      expect(lines).to.deep.equal(['pull 1', 'start 1', 'pull 2', 'start 2'])
      end(2)
      await turns()
      expect(lines.slice(4)).to.deep.equal(['end 2', 'pull 3', 'start 3'])
      end(1)
      await turns()
      expect(lines.slice(7)).to.deep.equal(['end 1', 'pull 4', 'start 4'])
      end(3)
      await turns()
      expect(lines.slice(10)).to.deep.equal(['end 3', 'pull 5'])
      end(4)
      await pool
      expect(lines.slice(12)).to.deep.equal(['end 4'])
    })

    it('with one consumer takes the items one by one', async () => {
      const { source, handler, end, lines } = rig(2)
      const pool = consumerPool(source, 1, handler)
      end(1)
      end(2)
      await pool
      expect(lines).to.deep.equal(['pull 1', 'start 1', 'end 1', 'pull 2', 'start 2', 'end 2', 'pull 3'])
    })

    it('never has more than one pull pending', async () => {
      const item = new Deferred<IteratorResult<string>>()
      let pulls = 0
      const source = iterable(() => {
        pulls++
        return item.promise
      })
      const pool = consumerPool(source, 5, () => {})
      await turns()
      expect(pulls).to.equal(1)
      item.resolve({ done: true, value: undefined })
      await pool
      expect(pulls).to.equal(1)
    })

    it('never runs more handlers than its concurrency over many items, and leaves out none', async () => {
      let running = 0
      let most = 0
      const seen: number[] = []
      await consumerPool(count(1_000), 7, async (item) => {
        most = Math.max(most, ++running)
        await turns(item % 3)
        seen.push(item)
        running--
      })
      expect(most).to.equal(7)
      expect(seen.sort((a, b) => a - b)).to.deep.equal(Array.from({ length: 1_000 }, (_, index) => index + 1))
    })

    it('with a concurrency of Infinity is limited by its source alone', async () => {
      const { source, handler, end, lines } = rig(100)
      const pool = consumerPool(source, Number.POSITIVE_INFINITY, handler)
      await turns()
      expect(lines.filter((line) => line.startsWith('start'))).to.have.lengthOf(100)
      for (let item = 1; item <= 100; item++) end(item)
      await pool
    })

    it('waits for a disposal before the consumer is free again', async () => {
      const record = transcript()
      const disposal = new Deferred()
      const first = { [Symbol.asyncDispose]: () => disposal.promise }
      const second = { [Symbol.asyncDispose]: async () => {} }
      const pool = consumerPool(from([first, second]), 1, (item) => record(item === first ? 'first' : 'second'))
      await turns()
      expect(record.lines).to.deep.equal(['first'])
      disposal.resolve()
      await pool
      expect(record.lines).to.deep.equal(['first', 'second'])
    })
  })

  describe('law 2: an item that is AsyncDisposable is disposed when its handler ends', () => {
    it('disposes each item after its handler', async () => {
      const record = transcript()
      await consumerPool(from([disposable('a', record), disposable('b', record)]), 1, async ({ name }) => {
        record(`start ${name}`)
        await turns(1)
        record(`end ${name}`)
      })
      expect(record.lines).to.deep.equal(['start a', 'end a', 'dispose a', 'start b', 'end b', 'dispose b'])
    })

    it('disposes an item whose handler rejects', async () => {
      const record = transcript()
      const error = await rejection(consumerPool(from([disposable('a', record)]), 1, () => Promise.reject(new Error('rejected'))))
      expect(error).to.have.property('message', 'rejected')
      expect(record.lines).to.deep.equal(['dispose a'])
    })

    it('disposes an item whose handler throws synchronously', async () => {
      const record = transcript()
      const pool = consumerPool(from([disposable('a', record)]), 1, () => {
        throw new Error('thrown')
      })
      expect(await rejection(pool)).to.have.property('message', 'thrown')
      expect(record.lines).to.deep.equal(['dispose a'])
    })

    it('takes items that are not disposable, null and undefined among them', async () => {
      const seen: unknown[] = []
      await consumerPool(from([1, 'two', null, undefined, {}]), 1, (item) => seen.push(item))
      expect(seen).to.deep.equal([1, 'two', null, undefined, {}])
    })

    it('counts a disposal that fails as the failure of its handler', async () => {
      const record = transcript()
      const broken = { [Symbol.asyncDispose]: () => Promise.reject(new Error('not disposed')) }
      const error = await rejection(consumerPool(from([broken, broken], record), 1, () => record('handle')))
      expect(error).to.have.property('message', 'not disposed')
      expect(record.lines).to.deep.equal(['handle', 'return'])
    })

    it('reports the error of the handler if the disposal fails too', async () => {
      const broken = {
        [Symbol.asyncDispose](): Promise<void> {
          throw new Error('not disposed')
        }
      }
      const error = await rejection(consumerPool(from([broken]), 1, () => Promise.reject(new Error('handler'))))
      expect(error).to.have.property('message', 'handler')
    })
  })

  describe('law 3: it resolves when the source has ended and every handler is done', () => {
    it('resolves after the last handler, not with the end of the source', async () => {
      const { source, handler, end, lines } = rig(2)
      const pool = consumerPool(source, 3, handler).then(() => lines.push('resolved'))
      end(1)
      await turns()
      expect(lines).to.include('pull 3')
      expect(lines).to.not.include('resolved')
      end(2)
      await pool
      expect(lines.slice(-2)).to.deep.equal(['end 2', 'resolved'])
    })

    it('resolves for a source without items', async () => {
      await consumerPool(from([]), 1, () => expect.fail('There is no item'))
    })

    it('after a handler failed pulls nothing more, awaits the running handlers and rejects with the first error', async () => {
      const { source, handler, end, fail, lines } = rig(10)
      const pool = rejection(consumerPool(source, 3, handler)).then((error) => lines.push(`rejected: ${error}`))
      await turns()
      fail(2, 'first')
      await turns()
      fail(1, 'second')
      await turns()
      expect(lines.slice(6)).to.deep.equal(['fail 2', 'return', 'fail 1'])
      end(3)
      await pool
      expect(lines.slice(9)).to.deep.equal(['end 3', 'rejected: first'])
    })

    it('does not await return(), and ignores what it throws', async () => {
      const hanging = { ...from([1]), return: () => new Promise<never>(() => {}) }
      const rejecting = { ...from([1]), return: () => Promise.reject(new Error('return')) }
      const throwing = {
        ...from([1]),
        return(): never {
          throw new Error('return')
        }
      }
      for (const source of [hanging, rejecting, throwing]) {
        const iterable = { [Symbol.asyncIterator]: () => source }
        expect(await rejection(consumerPool(iterable, 1, () => Promise.reject('handler')))).to.equal('handler')
      }
      // Mocha fails the run on an unhandled rejection, which would be reported by now.
      await turns()
    })

    it('takes a source whose iterator has no return()', async () => {
      const { next } = from([1])
      const iterable = { [Symbol.asyncIterator]: () => ({ next }) }
      expect(await rejection(consumerPool(iterable, 1, () => Promise.reject('handler')))).to.equal('handler')
    })

    it('disposes, without a handler, an item that a pending pull still yields after the failure', async () => {
      const record = transcript()
      const late = new Deferred<IteratorResult<Named>>()
      const results = [Promise.resolve({ done: false, value: disposable('first', record) }), late.promise]
      const source = iterable(() => {
        record('pull')
        return results.shift() as Promise<IteratorResult<Named>>
      })
      const failing = new Deferred()
      const pool = consumerPool(source, 2, ({ name }) => {
        record(`handle ${name}`)
        return failing.promise
      })
      await turns()
      failing.reject(new Error('failed'))
      expect(await rejection(pool)).to.have.property('message', 'failed')
      late.resolve({ done: false, value: disposable('late', record) })
      await turns()
      expect(record.lines).to.deep.equal(['pull', 'handle first', 'pull', 'dispose first', 'dispose late'])
    })

    it('awaits the disposal of a late item that comes while handlers still run', async () => {
      const record = transcript()
      const late = new Deferred<IteratorResult<Named>>()
      const disposal = new Deferred()
      const results = [1, 2].map((n) => Promise.resolve({ done: false, value: disposable(`${n}`, record) }))
      const source = iterable(() => (results.shift() ?? late.promise) as Promise<IteratorResult<Named>>)
      const handlers: Deferred[] = []
      const pool = consumerPool(source, 3, () => {
        const handler = new Deferred()
        handlers.push(handler)
        return handler.promise
      })
      const rejected = rejection(pool).then(() => record('rejected'))
      await turns()
      handlers[0]?.reject(new Error('failed'))
      await turns()
      late.resolve({ done: false, value: { name: 'late', [Symbol.asyncDispose]: () => disposal.promise } })
      handlers[1]?.resolve()
      await turns()
      expect(record.lines).to.deep.equal(['dispose 1', 'dispose 2'])
      disposal.resolve()
      await rejected
    })

    it('ignores a late pull that rejects, and a late disposal that fails', async () => {
      for (const late of [Promise.reject(new Error('late')), Promise.resolve({ done: false, value: brokenItem })]) {
        late.catch(() => {})
        const gate = new Deferred()
        const results = [Promise.resolve({ done: false, value: {} }), gate.promise.then(() => late)]
        const source = iterable(() => results.shift() as Promise<IteratorResult<object>>)
        expect(await rejection(consumerPool(source, 2, () => Promise.reject('handler')))).to.equal('handler')
        gate.resolve()
        await turns()
      }
    })

    it('if the source throws, awaits the running handlers and rejects with its error, without calling return()', async () => {
      const { handler, end, fail, lines } = rig(2)
      const results = [Promise.resolve({ done: false, value: 1 }), Promise.resolve({ done: false, value: 2 })]
      const source = iterable(
        () => (results.shift() ?? Promise.reject('source')) as Promise<IteratorResult<number>>,
        () => lines.push('return')
      )
      const pool = rejection(consumerPool(source, 3, handler)).then((error) => lines.push(`rejected: ${error}`))
      await turns()
      fail(1, 'handler')
      await turns()
      expect(lines).to.deep.equal(['start 1', 'start 2', 'fail 1'])
      end(2)
      await pool
      expect(lines.slice(3)).to.deep.equal(['end 2', 'rejected: source'])
    })

    it('takes a next() that throws synchronously like one that rejects', async () => {
      const source = iterable(() => {
        throw new Error('no next')
      })
      expect(await rejection(consumerPool(source, 1, () => {}))).to.have.property('message', 'no next')
    })

    it('does not call return() if a handler fails after the source has ended', async () => {
      const record = transcript()
      const failing = new Deferred()
      const pool = consumerPool(from([1], record), 2, () => failing.promise)
      await turns()
      failing.reject('late')
      expect(await rejection(pool)).to.equal('late')
      expect(record.lines).to.deep.equal([])
    })

    it('rejects also with an error that is undefined', async () => {
      expect(await rejection(consumerPool(from([1]), 1, () => Promise.reject(undefined)))).to.equal(undefined)
    })

    it('runs the finally block of a generator when a handler fails', async () => {
      const record = transcript()
      async function* source(): AsyncGenerator<number> {
        try {
          yield 1
          yield 2
        } finally {
          record('finally')
        }
      }
      expect(await rejection(consumerPool(source(), 1, () => Promise.reject('handler')))).to.equal('handler')
      expect(record.lines).to.deep.equal(['finally'])
    })
  })

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

interface Named extends AsyncDisposable {
  readonly name: string
}

function disposable(name: string, record: (line: string) => void): Named {
  return {
    name,
    async [Symbol.asyncDispose]() {
      record(`dispose ${name}`)
    }
  }
}

const brokenItem = { [Symbol.asyncDispose]: () => Promise.reject(new Error('not disposed')) }

/** A source whose pulls go to `next`. */
function iterable<T>(next: () => Promise<IteratorResult<T>>, onReturn: () => unknown = () => {}): AsyncIterable<T> {
  const iterator = {
    next,
    async return(): Promise<IteratorResult<T>> {
      onReturn()
      return { done: true, value: undefined }
    }
  }
  return { [Symbol.asyncIterator]: () => iterator }
}

/** The items one after the other; tells `record` when it is left. */
function from<T>(items: readonly T[], record: (line: string) => void = () => {}): AsyncIterableIterator<T> {
  const rest = items.values()
  return {
    next: async () => rest.next(),
    async return() {
      record('return')
      return { done: true, value: undefined }
    },
    [Symbol.asyncIterator]() {
      return this
    }
  }
}

async function* count(end: number): AsyncGenerator<number> {
  for (let item = 1; item <= end; item++) yield item
}

/** A source of 1 to `length` and a handler whose ends the test decides; everything is written down in `lines`. */
function rig(length: number): {
  source: AsyncIterable<number>
  handler: (item: number) => Promise<void>
  end: (item: number) => void
  fail: (item: number, error: unknown) => void
  lines: string[]
} {
  const lines: string[] = []
  const ends = new Map<number, Deferred>()
  const endOf = (item: number): Deferred => {
    const end = ends.get(item) ?? new Deferred()
    ends.set(item, end)
    return end
  }
  let pulled = 0
  return {
    lines,
    source: iterable(
      async () => {
        lines.push(`pull ${++pulled}`)
        return { done: pulled > length, value: pulled }
      },
      () => lines.push('return')
    ),
    async handler(item) {
      lines.push(`start ${item}`)
      try {
        await endOf(item).promise
        lines.push(`end ${item}`)
      } catch (error) {
        lines.push(`fail ${item}`)
        throw error
      }
    },
    end: (item) => endOf(item).resolve(),
    fail: (item, error) => endOf(item).reject(error)
  }
}

async function* through(connections: AsyncIterable<Connection>): AsyncGenerator<Connection> {
  for await (const connection of connections) yield connection
}

async function* once(): AsyncGenerator<number> {
  yield 1
}
