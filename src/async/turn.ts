// Turns of the event loop, counted only while somebody asks, and how much may be done in one.

import { setImmediate } from './platform.ts'

let turn = 1
let isEndAwaited = false

/**
 * The number of the event loop's turn: the same for everything that happens before its immediates run. One immediate serves
 * all connections: a callback for each would cost more than what it is for.
 */
export function currentTurn(): number {
  if (!isEndAwaited) {
    isEndAwaited = true
    setImmediate(endTurn)
  }
  return turn
}

/** Resolves in the event loop's next turn. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

function endTurn(): void {
  isEndAwaited = false
  turn++
}

/** Steps that one loop may take in one turn: some milliseconds of what such loops usually do, and few enough turns for it not to matter. */
const STEPS_PER_TURN = 512
/** As many a loop may take at least. */
const FEWEST_STEPS = 8

/** What all loops of one kind may do in a turn, in equal shares. */
export class TurnShares {
  readonly #most: number
  readonly #fewest: number
  #turn = 0
  // Loops that have taken a step in this turn, and in the one before.
  #loops = 0
  #loopsBefore = 0
  #share: number

  /** A loop may take `most` steps in a turn, as many as sixteen of them all together, and `fewest` at least. */
  constructor(most: number, fewest: number) {
    this.#most = most
    this.#fewest = fewest
    this.#share = most
  }

  /** Steps that each of them may take now. */
  get share(): number {
    return this.#share
  }

  /** One more loop takes a step in the turn `now`. */
  join(now: number): void {
    if (now !== this.#turn) {
      this.#loopsBefore = now === this.#turn + 1 ? this.#loops : 0
      this.#loops = 0
      this.#turn = now
    }
    this.#loops++
    const fair = Math.floor((16 * this.#most) / Math.max(this.#loops, this.#loopsBefore))
    this.#share = Math.max(this.#fewest, Math.min(this.#most, fair))
  }
}

const steps = new TurnShares(STEPS_PER_TURN, FEWEST_STEPS)

/**
 * The one rule of fairness: a loop that could go on without waiting, through what is buffered or into what is not full, takes so many steps
 * in a turn of the event loop, and the next one in the next turn; where many do, fewer each. Otherwise a peer that sends a million empty lines
 * at once, or hundreds that do, would stop all timers and all other clients: hundreds hold up the others no longer than sixteen do.
 */
export class TurnBudget {
  readonly #shares: TurnShares
  #turn = 0
  #steps = 0

  constructor(shares: TurnShares = steps) {
    this.#shares = shares
  }

  /** Whether one more step may be taken in this turn. */
  spend(): boolean {
    const now = currentTurn()
    if (now !== this.#turn) {
      this.#turn = now
      this.#steps = 0
      this.#shares.join(now)
    }
    return ++this.#steps <= this.#shares.share
  }
}
