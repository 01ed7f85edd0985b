// A promise that is settled from outside.

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
