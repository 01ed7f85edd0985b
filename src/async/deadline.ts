// One deadline for several steps: a timeout and a signal that are started once, and end whatever is under way.

import { onceAborted, throwIfAborted } from './abort.ts'
import { doNothing } from './do-nothing.ts'
import { startTimer } from './timer.ts'

/** What a {@link Deadline} ends things with when its timeout passes; when its signal aborts it is the signal's reason. */
export const TIMED_OUT: unique symbol = Symbol('timed out')

/** Runs from its making until `stop()`. Costs a timer, where there is a timeout, and a listener, where there is a signal. */
export class Deadline {
  readonly #stopTimer: () => void
  readonly #unhook: () => void
  #onPassed: ((reason: unknown) => void) | undefined
  #hasPassed = false
  #reason: unknown

  /** Throws `signal.reason` if `signal` is aborted already. */
  constructor(timeout: number, signal: AbortSignal | undefined) {
    throwIfAborted(signal)
    this.#stopTimer = startTimer(timeout, () => this.#pass(TIMED_OUT))
    this.#unhook = onceAborted(signal, (reason) => this.#pass(reason))
  }

  /** Runs `task`, which settles by either of its functions and gives the one that stops it; rejects with what ended it if the deadline passes first. */
  run<T>(task: (resolve: (value: T) => void, reject: (error: unknown) => void) => () => void): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#hasPassed) {
        reject(this.#reason)
        return
      }
      // A task may settle before it has returned.
      let isSettled = false
      const settle = <V>(how: (value: V) => void, value: V): void => {
        isSettled = true
        this.#onPassed = undefined
        how(value)
      }
      const stop = task(
        (value) => settle(resolve, value),
        (error) => settle(reject, error)
      )
      if (isSettled) return
      this.#onPassed = (reason) => {
        stop()
        reject(reason)
      }
    })
  }

  get hasPassed(): boolean {
    return this.#hasPassed
  }

  /** Throws what ended it, if it has passed. */
  throwIfPassed(): void {
    if (this.#hasPassed) throw this.#reason
  }

  /** Waits for `promise`, but no longer: what comes of it later is ignored. */
  wait<T>(promise: Promise<T>): Promise<T> {
    promise.catch(doNothing)
    return this.run<T>((resolve, reject) => {
      promise.then(resolve, reject)
      return doNothing
    })
  }

  /** Ends it: nothing is ended by it any more, no timer and no listener stays. */
  stop(): void {
    this.#stopTimer()
    this.#unhook()
  }

  #pass(reason: unknown): void {
    this.#hasPassed = true
    this.#reason = reason
    this.stop()
    const onPassed = this.#onPassed
    this.#onPassed = undefined
    onPassed?.(reason)
  }
}
