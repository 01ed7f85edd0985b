// Waiting that an AbortSignal can end, with the listener always taken off again.

/**
 * Calls `onAbort` when `signal` aborts, and returns the function that takes the listener off. With a signal that is
 * aborted already, call `signal.throwIfAborted()` first: this does not look.
 */
export function onceAborted(signal: AbortSignal | undefined, onAbort: (reason: unknown) => void): () => void {
  if (signal === undefined) return nothing
  const listener = (): void => onAbort(signal.reason)
  signal.addEventListener('abort', listener, { once: true })
  return () => signal.removeEventListener('abort', listener)
}

/** Settles as `promise` does, or rejects with `signal.reason` as soon as `signal` aborts. */
export function raceSignal<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise
  if (signal.aborted) {
    promise.catch(nothing)
    return Promise.reject(signal.reason)
  }
  return new Promise((resolve, reject) => {
    const unhook = onceAborted(signal, reject)
    promise.then(resolve, reject).finally(unhook)
  })
}

function nothing(): void {}
