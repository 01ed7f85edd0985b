// Timers for any delay, however long, of the clock that is installed when they start.

import { doNothing } from './do-nothing.ts'

/** A longer delay makes `setTimeout` and `setInterval` fire at once. */
export const LONGEST_DELAY = 2 ** 31 - 1

// A clock that has been taken away again is left alone, since its timers never fire: to clear one of node:test's mock timers after their
// reset() breaks those of the next test (Node.js 20 to 26). What was there first is the real one.
const firstSetTimeout = globalThis.setTimeout
const firstSetInterval = globalThis.setInterval

/** Whether timers are of the clock that was there first. Any other may be moved in the very call that a timer is for, and must have it by then. */
export function isFirstClock(): boolean {
  return globalThis.setTimeout === firstSetTimeout
}

/**
 * Calls `then` after `delay` milliseconds; never, if that is `Infinity`, and at once if it is below 0, as what is left of a time may be. Returns the
 * function that stops it. It keeps the process alive unless `isRef` is false.
 */
export function startTimer(delay: number, then: () => void, isRef = true): () => void {
  if (delay === Number.POSITIVE_INFINITY) return doNothing
  // Both of one clock: a fake one does not know the timers of the real one, nor the real one those of a fake.
  const { setTimeout, clearTimeout } = globalThis
  let timer: NodeJS.Timeout
  const wait = (rest: number): void => {
    timer = rest > LONGEST_DELAY ? setTimeout(() => wait(rest - LONGEST_DELAY), LONGEST_DELAY) : setTimeout(then, rest)
    if (!isRef) unref(timer)
  }
  // Node.js warns of one below.
  wait(Math.max(0, delay))
  return () => {
    if (setTimeout === globalThis.setTimeout || setTimeout === firstSetTimeout) clearTimeout(timer)
  }
}

/** Calls `then` every `delay` milliseconds, at most {@link LONGEST_DELAY}, without keeping the process alive. Returns the function that stops it. */
export function startInterval(delay: number, then: () => void): () => void {
  const { setInterval, clearInterval } = globalThis
  const timer = setInterval(then, delay)
  unref(timer)
  return () => {
    if (setInterval === globalThis.setInterval || setInterval === firstSetInterval) clearInterval(timer)
  }
}

// Where timers are numbers, as in jsdom, nothing keeps the process alive.
function unref(timer: NodeJS.Timeout): void {
  timer.unref?.()
}
