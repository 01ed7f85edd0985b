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
  loopsBefore = loops
  loops = 0
}

/** Steps that one loop may take in one turn: some milliseconds of what such loops usually do, and few enough turns for it not to matter. */
const STEPS_PER_TURN = 512
/** Steps of all loops together, of which each has its share: hundreds of connections hold up the others no longer than sixteen do. */
const STEPS_OF_ALL = 16 * STEPS_PER_TURN
/** As many a loop may take at least. */
const FEWEST_STEPS = 8

// Loops that have taken a step in this turn, and in the one before.
let loops = 0
let loopsBefore = 0
let share = STEPS_PER_TURN

function joinTurn(): void {
  loops++
  share = Math.max(FEWEST_STEPS, Math.min(STEPS_PER_TURN, Math.floor(STEPS_OF_ALL / Math.max(loops, loopsBefore))))
}

/**
 * The one rule of fairness: a loop that could go on without waiting, through what is buffered or into what is not full, takes so many steps
 * in a turn of the event loop, and the next one in the next turn; where many do, fewer each. Otherwise a peer that sends a million empty lines
 * at once, or hundreds that do, would stop all timers and all other clients.
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
      joinTurn()
    }
    return ++this.#steps <= share
  }
}
