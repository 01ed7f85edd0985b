// N consumers over one async iterable: an item is pulled only when a consumer is free to take it.

import { inspect } from 'node:util'
import { captureContext } from './async/context.ts'
import { Deferred } from './async/deferred.ts'
import { checkCount, checkFunction } from './options.ts'
import { isExcused } from './server/excuse.ts'

const ACTION = 'Cannot consume'

/**
 * Runs `handler` for every item of `source`, at most `concurrency` of them at once, and pulls the next item only when a
 * consumer is free. Over a server this is the gate: clients for which no consumer is free stay in the kernel's queue.
 *
 * - The next item is pulled only when a consumer is free: never more than `concurrency` handlers, never an item waiting in
 *   between. One pull is pending at a time, so handlers start in the order of the items.
 * - An item that is `AsyncDisposable`, such as a connection, is disposed when its handler ends, even if it throws; its consumer is free
 *   after that. A disposal that fails after the handler succeeded counts as the handler's failure; if the handler failed too, the handler's
 *   error is the one reported.
 * - A client can't stop a pool: if a handler fails with an error that a client of a server caused on its own (a reset, an end inside what
 *   was asked for, too much, too slow), or with the reason of that server's or connection's `signal`, it does not count as a failure. To
 *   see such errors, catch them in the handler. The same errors on a connection that the program dialled do count.
 * - Resolves when the source has ended and every handler is done. If a handler fails, nothing more is pulled, the source's
 *   `return()` is called, not awaited (a server closes), the running handlers are awaited, and the promise rejects with the
 *   first error. An item that a pull already pending still yields is disposed without a handler. If the source throws, the
 *   running handlers are awaited just the same.
 *
 * A generator between the pool and the server ends only at its next item: give `listen` a `signal`, or hold the server with `await using`.
 * The second form is the sink of a pipeline: `pipe(server, transform, consumerPool(100, handler))`.
 *
 * @param concurrency A whole number, 1 or more; `Infinity` where the source has a limit of its own, such as a server's `maxConnections`.
 * @throws {TypeError} If `source` is not async iterable, `concurrency` not a number or `handler` not a function.
 * @throws {RangeError} If `concurrency` is out of range.
 * @example
 * ```ts
 * async function* names() {
 *   yield* ['Ada', 'Grace', 'Barbara']
 * }
 *
 * await consumerPool(names(), 2, async (name) => {
 *   console.log(`Hello, ${name}`)
 * })
 * ```
 */
export function consumerPool<T>(source: AsyncIterable<T>, concurrency: number, handler: (item: T) => unknown): Promise<void>
export function consumerPool<T>(concurrency: number, handler: (item: T) => unknown): (source: AsyncIterable<T>) => Promise<void>
export function consumerPool<T>(
  first: AsyncIterable<T> | number,
  second: number | ((item: T) => unknown),
  third?: (item: T) => unknown
): Promise<void> | ((source: AsyncIterable<T>) => Promise<void>) {
  if (typeof first === 'number' || typeof second === 'function') {
    const [concurrency, handler] = [first, second] as [number, (item: T) => unknown]
    checkPool(concurrency, handler)
    return (source) => consume(source, concurrency, handler)
  }
  return consume(first, second, third as (item: T) => unknown)
}

// Async, so that a wrong argument rejects, as in every function that returns a promise.
async function consume<T>(source: AsyncIterable<T>, concurrency: number, handler: (item: T) => unknown): Promise<void> {
  if (typeof source?.[Symbol.asyncIterator] !== 'function') {
    throw new TypeError(`${ACTION} as 'source' must be an async iterable: received ${inspect(source)}`)
  }
  checkPool(concurrency, handler)
  await new Consumption(source[Symbol.asyncIterator](), concurrency, handler).finished
}

function checkPool(concurrency: number, handler: unknown): void {
  if (concurrency !== Number.POSITIVE_INFINITY) checkCount(ACTION, 'concurrency', concurrency)
  checkFunction(ACTION, 'handler', handler)
}

/** One run of a pool. It pulls until it is over, and has finished when no consumer is busy any more. */
class Consumption<T> {
  readonly #iterator: AsyncIterator<T>
  readonly #concurrency: number
  readonly #handler: (item: T) => unknown
  // Handlers and source are of whoever started the pool: what a handler does to its async context is its own affair.
  readonly #asStarter = captureContext()
  readonly #finished = new Deferred()
  #busy = 0
  #isPulling = false
  #isOver = false
  #failure: { readonly error: unknown } | undefined

  constructor(iterator: AsyncIterator<T>, concurrency: number, handler: (item: T) => unknown) {
    this.#iterator = iterator
    this.#concurrency = concurrency
    this.#handler = handler
    void this.#pull()
  }

  get finished(): Promise<void> {
    return this.#finished.promise
  }

  // One pull at a time: many iterators can't take a second next() while one is pending, and after a failure there is at
  // most one item that still comes.
  async #pull(): Promise<void> {
    if (this.#isPulling) return
    this.#isPulling = true
    try {
      while (!this.#isOver && this.#busy < this.#concurrency) {
        const { done, value } = await this.#asStarter(next, this.#iterator)
        if (done) this.#isOver = true
        else void this.#take(value)
      }
    } catch (error) {
      this.#isOver = true
      this.#failure ??= { error }
    }
    this.#isPulling = false
    this.#finishIfDone()
  }

  async #take(item: T): Promise<void> {
    this.#busy++
    try {
      if (this.#failure === undefined) await this.#asStarter(this.#handler, item)
    } catch (error) {
      if (!isExcused(error)) this.#fail(error)
    }
    try {
      await dispose(item)
    } catch (error) {
      this.#fail(error)
    }
    this.#busy--
    if (this.#isOver) this.#finishIfDone()
    else void this.#pull()
  }

  #fail(error: unknown): void {
    this.#failure ??= { error }
    if (this.#isOver) return
    this.#isOver = true
    void this.#leaveSource()
  }

  // Not awaited by anyone: the return() of an async generator waits for a pending next(), which may never come. What it
  // rejects with comes after the error that is reported.
  async #leaveSource(): Promise<void> {
    try {
      await this.#iterator.return?.()
    } catch {}
  }

  // A pull that is still pending does not hold up a failure: a quiet server would hide it forever.
  #finishIfDone(): void {
    if (!this.#isOver || this.#busy > 0) return
    if (this.#failure === undefined) this.#finished.resolve()
    else this.#finished.reject(this.#failure.error)
  }
}

function next<T>(iterator: AsyncIterator<T>): Promise<IteratorResult<T>> {
  return iterator.next()
}

async function dispose(item: unknown): Promise<void> {
  await (item as Partial<AsyncDisposable> | null | undefined)?.[Symbol.asyncDispose]?.()
}
