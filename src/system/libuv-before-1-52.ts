// What only Node.js 20 and 22 need, to be deleted with them: a reset that libuv before 1.52 reports as an end.

import { currentTurn } from '../async/turn.ts'
import { isPlainNode, type NodeHandle } from './node-internals.ts'

// Data and a RST that arrive before one poll are reported as data and an end (libuv/libuv#4997).
const [major = 0, minor = 0] = (process.versions.uv ?? '').split('.').map(Number)

/** Whether an end may be a reset. */
export const mayMistakeReset: boolean = isPlainNode && major === 1 && minor < 52

/**
 * Reads once more if an end may be a reset, as one in the turn of the last data, `lastReceived`, may: the second answer shows which it was. Returns whether
 * there will be one.
 */
export function readsOnceMore(handle: NodeHandle | undefined, lastReceived: number): boolean {
  if (lastReceived !== currentTurn()) return false
  // libuv stops reading at an end, and Node.js does not know that: only the handle itself can be started again.
  return handle?.readStart?.() === 0
}
