// Limits on how long nothing may move, at no cost per byte.

// Progress is looked at this often within a limit, so something that stalls is told after 1 to 1.125 times the limit.
const LOOKS = 8
// A longer delay makes setTimeout fire at once.
const LONGEST_DELAY = 2 ** 31 - 1

// One timer for each limit in use, however many connections have it.
const wheels = new Map<number, Wheel>()

class Wheel {
  readonly members = new Set<StallLimit>()
  readonly #timer: NodeJS.Timeout

  constructor(limit: number) {
    const delay = Math.min(Math.max(1, limit / LOOKS), LONGEST_DELAY)
    this.#timer = setInterval(() => {
      const now = performance.now()
      for (const member of this.members) member.look(now)
    }, delay)
    // What is watched keeps the process alive, or was told not to.
    this.#timer.unref()
  }

  stop(): void {
    clearInterval(this.#timer)
  }
}

/**
 * Calls `onStall` once `progress()` has not changed for `limit` milliseconds, while it is started. It stops by itself when `progress()`
 * gives undefined, since nothing is waited for.
 */
export class StallLimit {
  readonly #limit: number
  readonly #progress: () => number | undefined
  readonly #onStall: () => void
  #seen: number | undefined
  #since = 0

  constructor(limit: number, progress: () => number | undefined, onStall: () => void) {
    this.#limit = limit
    this.#progress = progress
    this.#onStall = onStall
  }

  /** Starts to watch, unless it does already. */
  start(): void {
    if (this.#limit === Number.POSITIVE_INFINITY) return
    let wheel = wheels.get(this.#limit)
    if (wheel === undefined) {
      wheel = new Wheel(this.#limit)
      wheels.set(this.#limit, wheel)
    }
    if (wheel.members.has(this)) return
    wheel.members.add(this)
    this.#seen = this.#progress()
    this.#since = performance.now()
  }

  stop(): void {
    const wheel = wheels.get(this.#limit)
    if (wheel === undefined || !wheel.members.delete(this) || wheel.members.size > 0) return
    wheels.delete(this.#limit)
    wheel.stop()
  }

  /** Called by the timer. */
  look(now: number): void {
    const progress = this.#progress()
    if (progress === undefined) {
      this.stop()
    } else if (progress !== this.#seen) {
      this.#seen = progress
      this.#since = now
    } else if (now - this.#since >= this.#limit) {
      this.stop()
      this.#onStall()
    }
  }
}
