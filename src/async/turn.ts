// Turns of the event loop, counted only while somebody asks.

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

function endTurn(): void {
  isEndAwaited = false
  turn++
}
