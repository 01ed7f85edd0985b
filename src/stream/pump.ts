// Drives a source into a writer, only as fast as it takes the bytes.

import { AsyncResource } from 'node:async_hooks'
import { inspect, types } from 'node:util'
import { doNothing } from '../async/do-nothing.ts'
import { setImmediate } from '../async/platform.ts'
import { TurnBudget, TurnShares } from '../async/turn.ts'
import type { Chunk, Source } from '../writer.ts'

/** What is pumped into. */
export interface PumpTarget {
  /** Whether no more should be written until `resume()` is called on the pump. */
  readonly isFull: boolean
  /** @throws {TypeError} If `chunk` is nothing that can be written. */
  write(chunk: Chunk | string): void
}

/** How a pump ended: with the source at its end, by an error of the source, or stopped from outside. */
export type PumpEnd = { readonly kind: 'done' } | { readonly kind: 'source-failed' | 'stopped'; readonly error: unknown }

type Next = IteratorResult<Chunk | string, unknown>
type SourceIterator = AsyncIterator<Chunk | string> | Iterator<Chunk | string>

// How often each goes on in a turn, with what a target takes until it is full: half a megabyte.
const resumptions = new TurnShares(4, 1)

/**
 * One source on its way into a target. An async function with `for await` would do, were it not for a source that hangs: when the
 * target breaks, the pump must end at once, and may not wait for the source's next chunk.
 */
export class Pump {
  readonly #source: Source
  readonly #target: PumpTarget
  readonly #onEnd: (end: PumpEnd) => void
  // The source is the caller's code, and runs in the caller's async context, whoever lets it go on.
  readonly #context = new AsyncResource('IT_TCP_SINK', { requireManualDestroy: true })
  readonly #budget = new TurnBudget()
  readonly #resumptions = new TurnBudget(resumptions)
  #iterator: SourceIterator | undefined
  #isEnded = false
  #isWaiting = false

  /** @throws {TypeError} If `source` is not iterable. */
  constructor(source: Source, target: PumpTarget, onEnd: (end: PumpEnd) => void) {
    checkSource(source)
    this.#source = source
    this.#target = target
    this.#onEnd = onEnd
  }

  /** Pulls and writes, until the target is full, the source has to be waited for, or others have their turn. */
  run(): void {
    try {
      this.#iterator ??= iteratorOf(this.#source)
      while (!this.#isEnded) {
        if (this.#target.isFull) {
          this.#isWaiting = true
          return
        }
        if (!this.#budget.spend()) {
          setImmediate(goOn, this)
          return
        }
        const next = this.#iterator.next()
        // The source itself may have ended the pump.
        if (this.#isEnded) return
        if (isThenable(next)) {
          void Promise.resolve(next).then(this.#onNext, this.#onError)
          return
        }
        this.#take(next)
      }
    } catch (error) {
      this.#onError(error)
    }
  }

  /**
   * Goes on, if it waits for the target: the system may take bytes as fast as a source gives them, so only a few times in a turn of the event loop, and then
   * behind whatever else there is to do.
   */
  resume(): void {
    if (!this.#isWaiting) return
    this.#isWaiting = false
    if (this.#resumptions.spend()) this.goOn()
    else setImmediate(goOn, this)
  }

  /** Goes on, in the context of whoever made it. */
  goOn(): void {
    if (!this.#isEnded) this.#context.runInAsyncScope(this.run, this)
  }

  /** Ends the pump with `error`; the source's `return()` is called and not awaited. */
  stop(error: unknown): void {
    if (this.#isEnded) return
    this.#end({ kind: 'stopped', error })
    this.#context.runInAsyncScope(letGo, undefined, this.#source, this.#iterator)
  }

  readonly #onNext = (next: Next): void => {
    // A source that was let go may still yield.
    if (this.#isEnded) return
    try {
      this.#take(next)
    } catch (error) {
      this.#onError(error)
      return
    }
    this.run()
  }

  readonly #onError = (error: unknown): void => {
    if (!this.#isEnded) this.#end({ kind: 'source-failed', error })
  }

  // Throws what the members of `next` throw.
  #take(next: Next): void {
    if (next === null || typeof next !== 'object') {
      throw new TypeError(`Cannot write as the source's next() gave no result: received ${inspect(next)}`)
    }
    if (next.done) {
      this.#end({ kind: 'done' })
      return
    }
    const { value } = next
    try {
      this.#target.write(value)
    } catch (error) {
      // A chunk that can't be written is the source's fault; everything else is the target's.
      if (!(error instanceof TypeError)) {
        this.stop(error)
        return
      }
      this.#end({ kind: 'source-failed', error })
      letGo(this.#source, this.#iterator)
    }
  }

  #end(end: PumpEnd): void {
    this.#isEnded = true
    this.#onEnd(end)
  }
}

function goOn(pump: Pump): void {
  pump.goOn()
}

/**
 * Lets a source go that will not be read on, or not at all: by `return()`, and a Node.js stream by `destroy()` too, since the iterator of one that
 * has not begun lets nothing go. A parked generator answers only at its next yield, so nobody waits for it; its failure has no one to go to.
 */
export function letGo(source: Source, iterator?: SourceIterator): void {
  try {
    Promise.resolve((iterator ?? iteratorOf(source)).return?.()).catch(doNothing)
  } catch {
    // As above.
  }
  if (iterator === undefined && isNodeStream(source)) source.on('error', doNothing).destroy()
}

/** @throws {TypeError} If `source` is no iterable of chunks. */
export function checkSource(source: Source): void {
  const isIterable =
    source != null && typeof source === 'object' && (isFunctionOf(source, Symbol.asyncIterator) || isFunctionOf(source, Symbol.iterator))
  // Bytes and strings iterate over numbers and characters, which nobody means.
  if (isIterable && !types.isUint8Array(source)) return
  throw new TypeError(`Cannot write as 'source' must be an iterable or async iterable of chunks: received ${inspect(source)}`)
}

function iteratorOf(source: Source): SourceIterator {
  const { [Symbol.asyncIterator]: asyncIterate } = source as Partial<AsyncIterable<Chunk | string>>
  if (typeof asyncIterate === 'function') return asyncIterate.call(source as AsyncIterable<Chunk | string>)
  return (source as Iterable<Chunk | string>)[Symbol.iterator]()
}

function isFunctionOf(source: object, key: symbol): boolean {
  return typeof (source as Record<symbol, unknown>)[key] === 'function'
}

function isThenable(value: unknown): value is PromiseLike<Next> {
  return typeof (value as PromiseLike<Next> | undefined)?.then === 'function'
}

function isNodeStream(source: unknown): source is NodeJS.ReadableStream & { destroy(): void } {
  const { destroy, on } = source as { destroy?: unknown; on?: unknown }
  return typeof destroy === 'function' && typeof on === 'function'
}
