// Promises that are settled from outside, and such as nobody has to watch.

import { doNothing } from './do-nothing.ts'

/** A promise together with the functions that settle it. `Promise.withResolvers` is not there on Node.js 20. */
export class Deferred<T = void> {
  readonly promise: Promise<T>
  resolve!: (value: T | PromiseLike<T>) => void
  reject!: (reason: unknown) => void

  constructor() {
    this.promise = new Promise<T>((resolve, reject) => {
      this.resolve = resolve
      this.reject = reject
    })
  }
}

/** `promise` itself, whose rejection is not fatal where nobody watches it: what went wrong is told elsewhere too. */
export function muted<T>(promise: Promise<T>): Promise<T> {
  promise.catch(doNothing)
  return promise
}
