// Timers for any delay, however long.

// A longer delay makes setTimeout fire at once.
const LONGEST_DELAY = 2 ** 31 - 1

/**
 * Calls `then` after `delay` milliseconds; never, if that is `Infinity`. Returns the function that stops it. It keeps the process alive
 * unless `isRef` is false.
 */
export function startTimer(delay: number, then: () => void, isRef = true): () => void {
  if (delay === Number.POSITIVE_INFINITY) return nothing
  let timer: NodeJS.Timeout
  const wait = (rest: number): void => {
    timer = rest > LONGEST_DELAY ? setTimeout(() => wait(rest - LONGEST_DELAY), LONGEST_DELAY) : setTimeout(then, rest)
    if (!isRef) timer.unref()
  }
  wait(delay)
  return () => clearTimeout(timer)
}

function nothing(): void {}
