// Limits on how long nothing may move, at no cost per byte.

import { now } from './clock.ts'
import { setImmediate } from './platform.ts'
import { LONGEST_DELAY, startInterval } from './timer.ts'

// Progress is looked at this often within a limit. What moved right behind a check is noticed at the next one, so a stall is reported after 1
// to 1.125 times the limit, plus what the timers are late: up to a millisecond for each of nine checks.
const CHECKS_PER_LIMIT = 8
// Milliseconds by which a check that is on time may be late.
const TOLERANCE = 2

// One interval for each limit in use, however many connections have it.
const sharedIntervals = new Map<number, SharedInterval>()

class SharedInterval {
  readonly delay: number
  readonly #limit: number
  // Whose clock it goes by.
  readonly #clock = globalThis.setInterval
  readonly #stop: () => void
  readonly #members = new Set<StallTimer>()
  #lastTime = now()

  /** The one for `limit`. An interval of a clock that has been replaced since serves those that it has, and nobody new. */
  static of(limit: number): SharedInterval {
    let shared = sharedIntervals.get(limit)
    if (shared === undefined || shared.#clock !== globalThis.setInterval) {
      shared = new SharedInterval(limit)
      sharedIntervals.set(limit, shared)
    }
    return shared
  }

  private constructor(limit: number) {
    this.#limit = limit
    this.delay = Math.min(Math.max(1, Math.ceil(limit / CHECKS_PER_LIMIT)), LONGEST_DELAY)
    // What is watched keeps the process alive, or was told not to.
    this.#stop = startInterval(this.delay, () => this.#check())
  }

  add(member: StallTimer): void {
    this.#members.add(member)
  }

  delete(member: StallTimer): void {
    this.#members.delete(member)
    if (this.#members.size > 0) return
    if (sharedIntervals.get(this.#limit) === this) sharedIntervals.delete(this.#limit)
    this.#stop()
  }

  #check(): void {
    const time = now()
    const isLate = time - this.#lastTime > this.delay + TOLERANCE
    this.#lastTime = time
    for (const member of this.#members) member.check(time, isLate)
  }
}

/**
 * Calls `onStall` once `progress()` has not changed for `limit` milliseconds, while it is started. It stops by itself when `progress()`
 * gives undefined, since nothing is waited for. Time in which the process itself stood still is not counted.
 */
export class StallTimer {
  readonly #progress: () => number | undefined
  readonly #onStall: () => void
  #limit: number
  #interval: SharedInterval | undefined
  #seen: number | undefined
  // Milliseconds without progress, up to the last check or the start.
  #quiet = 0
  #checkedAt = 0
  #isFirstCheck = true
  #isDeciding = false

  constructor(limit: number, progress: () => number | undefined, onStall: () => void) {
    this.#limit = limit
    this.#progress = progress
    this.#onStall = onStall
  }

  get limit(): number {
    return this.#limit
  }

  /** Changes the limit, also while it is started. The time in which nothing has moved already counts. */
  set limit(limit: number) {
    if (limit === this.#limit) return
    this.#limit = limit
    const interval = this.#interval
    if (interval === undefined) return
    interval.delete(this)
    this.#interval = undefined
    const time = now()
    this.#quiet += this.#elapsed(time, interval)
    if (limit === Number.POSITIVE_INFINITY) return
    this.#join(time)
    // Its first check is some time away, and assigning it again would put it off forever.
    if (this.#quiet >= limit) this.#decideSoon()
  }

  /** Starts to watch, unless it does already. */
  start(): void {
    if (this.#limit === Number.POSITIVE_INFINITY || this.#interval !== undefined) return
    this.#seen = this.#progress()
    this.#quiet = 0
    this.#join(now())
  }

  stop(): void {
    this.#interval?.delete(this)
    this.#interval = undefined
  }

  /** Called by the interval. */
  check(time: number, isLate: boolean): void {
    const interval = this.#interval
    if (interval === undefined || this.#isDeciding || !this.#isStalled()) return
    // Counted in checks and not by the clock, which goes on while the process stands still, and stands still where only timers are faked.
    this.#quiet += this.#isFirstCheck ? this.#elapsed(time, interval) : interval.delay
    this.#checkedAt = time
    this.#isFirstCheck = false
    if (this.#quiet < this.#limit) return
    if (!isLate) {
      this.#stall()
      return
    }
    // The process stood still: what came meanwhile has yet to be read.
    this.#decideSoon()
  }

  // Behind the next poll, as immediates are.
  #decideSoon(): void {
    if (this.#isDeciding) return
    this.#isDeciding = true
    setImmediate(() => {
      this.#isDeciding = false
      if (this.#interval !== undefined && this.#isStalled() && this.#quiet >= this.#limit) this.#stall()
    })
  }

  #join(time: number): void {
    this.#interval = SharedInterval.of(this.#limit)
    this.#interval.add(this)
    this.#checkedAt = time
    this.#isFirstCheck = true
  }

  // Milliseconds since the last check or the start, no more than are between two checks.
  #elapsed(time: number, { delay }: SharedInterval): number {
    return Math.min(Math.max(0, time - this.#checkedAt), delay)
  }

  // Whether nothing has moved since the last look. Stops if nothing is waited for.
  #isStalled(): boolean {
    const progress = this.#progress()
    if (progress === this.#seen && progress !== undefined) return true
    if (progress === undefined) this.stop()
    this.#seen = progress
    this.#quiet = 0
    this.#checkedAt = now()
    this.#isFirstCheck = false
    return false
  }

  #stall(): void {
    this.stop()
    this.#onStall()
  }
}
