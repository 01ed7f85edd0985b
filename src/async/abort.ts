// Waiting that an AbortSignal can end, with the listener always taken off again.

import { defaultMaxListeners, getMaxListeners, setMaxListeners } from 'node:events'
import { doNothing } from './do-nothing.ts'
import { AbortController } from './platform.ts'

/** Whether `value` is an AbortSignal of whatever realm: jsdom, happy-dom and Electron's renderer have classes of their own. */
export function isAbortSignal(value: unknown): value is AbortSignal {
  if (value === null || typeof value !== 'object') return false
  const { aborted, addEventListener, removeEventListener } = value as Partial<AbortSignal>
  return typeof aborted === 'boolean' && typeof addEventListener === 'function' && typeof removeEventListener === 'function'
}

/** Throws `signal.reason` if `signal` is aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw signal.reason
}

/**
 * Calls `onAbort` when `signal` aborts, and returns the function that takes the listener off. With a signal that is
 * aborted already, call {@link throwIfAborted} first: this does not look.
 */
export function onceAborted(signal: AbortSignal | undefined, onAbort: (reason: unknown) => void): () => void {
  if (signal === undefined) return doNothing
  allowManyListeners(signal)
  const listener = (): void => onAbort(signal.reason)
  signal.addEventListener('abort', listener, { once: true })
  return () => {
    try {
      signal.removeEventListener('abort', listener)
    } catch {
      // One of the program's own. Whoever waits has to be told all the same.
    }
  }
}

/** Settles as `promise` does, or rejects with `signal.reason` as soon as `signal` aborts. */
export function raceSignal<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise
  if (signal.aborted) {
    promise.catch(doNothing)
    return Promise.reject(signal.reason)
  }
  return new Promise((resolve, reject) => {
    const unhook = onceAborted(signal, reject)
    promise.then(resolve, reject).finally(unhook)
  })
}

// One signal may stop any number of reads and connects. Node.js 20 takes the eleventh for a leak and prints a warning; from 22 on it does
// not (https://github.com/nodejs/node/pull/55816). A limit that the caller has set is the caller's.
const warnsOfMany = listenerLimit(new AbortController().signal) !== 0
const seen = new WeakSet<AbortSignal>()

function allowManyListeners(signal: AbortSignal): void {
  if (!warnsOfMany || seen.has(signal)) return
  seen.add(signal)
  if (listenerLimit(signal) === defaultMaxListeners) setMaxListeners(0, signal)
}

function listenerLimit(signal: AbortSignal): number {
  try {
    return getMaxListeners(signal)
  } catch {
    // Node.js 20 does not tell of a limit of 0; a signal of another realm has none.
    return 0
  }
}
