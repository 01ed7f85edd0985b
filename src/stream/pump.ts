// Drives a source into a writer, only as fast as it takes the bytes.

import { inspect } from 'node:util'
import type { Uint8ArrayList } from 'uint8arraylist'

/** What is pumped into. */
export interface PumpTarget {
  /** Whether no more should be written until `resume()` is called on the pump. */
  readonly isFull: boolean
  write(chunk: Uint8Array | Uint8ArrayList): void
}

/** How a pump ended: with the source at its end, by an error of the source, or stopped from outside. */
export type PumpEnd = { readonly kind: 'done' } | { readonly kind: 'source-failed' | 'stopped'; readonly error: unknown }

type Chunk = Uint8Array | Uint8ArrayList
type Next = IteratorResult<Chunk, unknown>

/**
 * One source on its way into a target. An async function with `for await` would do, were it not for a source that hangs: when the
 * target breaks, the pump must end at once, and may not wait for the source's next chunk.
 */
export class Pump {
  readonly #target: PumpTarget
  readonly #iterate: () => AsyncIterator<Chunk> | Iterator<Chunk>
  #iterator: AsyncIterator<Chunk> | Iterator<Chunk> | undefined
  readonly #onEnd: (end: PumpEnd) => void
  #isEnded = false
  #isWaiting = false

  /** @throws {TypeError} If `source` is not iterable. */
  constructor(source: AsyncIterable<Chunk> | Iterable<Chunk>, target: PumpTarget, onEnd: (end: PumpEnd) => void) {
    this.#iterate = iteratorOf(source)
    this.#target = target
    this.#onEnd = onEnd
  }

  /** Whether it waits for the target. */
  get isWaiting(): boolean {
    return this.#isWaiting
  }

  /** Pulls and writes, until the target is full or the source has to be waited for. */
  run(): void {
    while (!this.#isEnded) {
      try {
        this.#iterator ??= this.#iterate()
      } catch (error) {
        this.#onError(error)
        return
      }
      if (this.#target.isFull) {
        this.#isWaiting = true
        return
      }
      let next: Next | Promise<Next>
      try {
        next = this.#iterator.next()
      } catch (error) {
        this.#onError(error)
        return
      }
      // The source itself may have ended the pump.
      if (this.#isEnded) return
      if (typeof (next as Promise<Next>)?.then === 'function') {
        ;(next as Promise<Next>).then(this.#onNext, this.#onError)
        return
      }
      this.#take(next as Next)
    }
  }

  /** Goes on, if it waits for the target. */
  resume(): void {
    if (!this.#isWaiting) return
    this.#isWaiting = false
    this.run()
  }

  /** Ends the pump with `error`; the source's `return()` is called and not awaited. */
  stop(error: unknown): void {
    if (this.#isEnded) return
    this.#end({ kind: 'stopped', error })
    this.#return()
  }

  readonly #onNext = (next: Next): void => {
    // A source that was let go may still yield.
    if (this.#isEnded) return
    this.#take(next)
    this.run()
  }

  readonly #onError = (error: unknown): void => {
    if (!this.#isEnded) this.#end({ kind: 'source-failed', error })
  }

  #take(next: Next): void {
    if (next === null || typeof next !== 'object') {
      this.#end({
        kind: 'source-failed',
        error: new TypeError(`Cannot write as the source's next() gave no result: received ${inspect(next)}`)
      })
      return
    }
    if (next.done === true) {
      this.#end({ kind: 'done' })
      return
    }
    try {
      if (typeof next.value === 'string') {
        throw new TypeError(`Cannot write as the source must yield Uint8Arrays or Uint8ArrayLists: received ${inspect(next.value)}`)
      }
      this.#target.write(next.value)
    } catch (error) {
      // A chunk that can't be written is the source's fault; everything else is the target's.
      if (error instanceof TypeError) {
        this.#end({ kind: 'source-failed', error })
        this.#return()
      } else {
        this.stop(error)
      }
    }
  }

  #end(end: PumpEnd): void {
    this.#isEnded = true
    this.#onEnd(end)
  }

  #return(): void {
    try {
      // A parked generator answers only at its next yield, so nobody waits for it; its failure has no one to go to.
      Promise.resolve(this.#iterator?.return?.()).catch(() => {})
    } catch {
      // As above.
    }
  }
}

function iteratorOf(source: AsyncIterable<Chunk> | Iterable<Chunk>): () => AsyncIterator<Chunk> | Iterator<Chunk> {
  const { [Symbol.asyncIterator]: asyncIterate } = (source ?? {}) as Partial<AsyncIterable<Chunk>>
  if (typeof asyncIterate === 'function') return () => asyncIterate.call(source as AsyncIterable<Chunk>)
  const { [Symbol.iterator]: iterate } = (source ?? {}) as Partial<Iterable<Chunk>>
  if (typeof iterate === 'function') return () => iterate.call(source as Iterable<Chunk>)
  throw new TypeError(`Cannot write as 'source' must be an iterable or an async iterable: received ${inspect(source)}`)
}
