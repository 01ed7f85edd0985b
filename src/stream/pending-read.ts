// A read that waits, and what ends its waiting.

import { onceAborted } from '../async/abort.ts'
import { doNothing } from '../async/do-nothing.ts'
import { startTimer } from '../async/timer.ts'
import { ReadTimeoutError, withOrigin, withTimeoutOrigin } from '../errors.ts'
import type { ReadOptions } from '../reader.ts'
import type { Take } from './reads.ts'

/** What a pending read does with bytes that arrive: those that need no queue have ways of their own. */
export type ReadMode = 'next' | 'read' | 'into' | 'discard' | 'take'

/** See {@link PendingRead.pass}. */
export type Pass = (bytes: Uint8Array) => boolean

/** A read that waits for what it takes. */
export class PendingRead {
  readonly mode: ReadMode
  readonly take: Take<unknown>
  /** The caller's buffer, in the mode `'into'`. */
  readonly target: Uint8Array | undefined
  /** In the mode `'next'`: takes bytes that are gone after the call, and the wait goes on; false if it can't just now. */
  readonly pass: Pass | undefined
  resolve: (value: never) => void = doNothing
  /** What its caller has, while it waits. */
  promise: Promise<unknown> | undefined
  #unhook: (() => void) | undefined
  #stopTimer: (() => void) | undefined

  constructor(mode: ReadMode, take: Take<unknown>, target?: Uint8Array, pass?: Pass) {
    this.mode = mode
    this.take = take
    this.target = target
    this.pass = pass
  }

  /** Calls `fail` when the signal aborts, or when the time is over. */
  limit({ signal, timeout }: ReadOptions, origin: object, fail: (reason: unknown) => void): void {
    if (signal !== undefined) this.#unhook = onceAborted(signal, (reason) => fail(withTimeoutOrigin(reason, origin)))
    if (timeout === undefined) return
    this.#stopTimer = startTimer(timeout, () => {
      fail(withOrigin(new ReadTimeoutError(`Cannot read as not enough arrived within ${timeout} ms`), origin))
    })
  }

  /** Takes off what would end the wait, which is over; an iterator waits with the same object again. */
  release(): void {
    this.#unhook?.()
    this.#stopTimer?.()
    this.#unhook = undefined
    this.#stopTimer = undefined
    this.resolve = doNothing
    this.promise = undefined
  }
}
