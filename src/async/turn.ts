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

/**
 * The one rule of fairness: a loop that could go on without waiting, through what is buffered or into what is not full, takes so many steps
 * in a turn of the event loop, and the next one in the next turn. Otherwise a peer that sends a million empty lines at once would stop all timers
 * and all other clients.
 */
export class TurnBudget {
  #turn = 0
  #steps = 0

  /** Whether one more step may be taken in this turn. */
  spend(): boolean {
    const now = currentTurn()
    if (now !== this.#turn) {
      this.#turn = now
      this.#steps = 0
    }
    return ++this.#steps <= STEPS_PER_TURN
  }
}
