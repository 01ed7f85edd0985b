import { expect } from 'chai'
import { Deferred } from '../src/async/deferred.ts'
import { consumerPool } from '../src/consumer-pool.ts'
import { brokenItem, count, disposable, from, iterable, type Named, rig } from './helpers/pool-cases.ts'
import { rejection } from './helpers/rejection.ts'
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
})
