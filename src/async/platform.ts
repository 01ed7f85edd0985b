// What schedules and cancels, taken from Node.js once: fake clocks and test environments replace the globals of these names.

import { setImmediate as nodeSetImmediate } from 'node:timers'
import * as util from 'node:util'
import { runInThisContext } from 'node:vm'

// Under jest every test has a realm of its own, with a `process` of its own; node:vm leads out of it. Elsewhere it is the same realm.
const main = mainRealm()

/** `process.nextTick`, whatever has been put in its place since. */
export const nextTick: typeof process.nextTick = main.process.nextTick
/** `setImmediate` of node:timers, whatever the global one is. */
export const setImmediate: typeof globalThis.setImmediate = nodeSetImmediate
/** `queueMicrotask`, whatever has been put in its place since. */
export const queueMicrotask: typeof globalThis.queueMicrotask = main.queueMicrotask
/**
 * Node.js's own class. jsdom, happy-dom and Electron's renderer have others under its name, whose signals Node.js refuses. Where it
 * can't be had, it is the global one.
 */
export const AbortController: typeof globalThis.AbortController = ownAbortController()

function mainRealm(): typeof globalThis {
  try {
    const realm = runInThisContext('globalThis') as typeof globalThis
    return typeof realm.process?.nextTick === 'function' && typeof realm.queueMicrotask === 'function' ? realm : globalThis
  } catch {
    return globalThis
  }
}

function ownAbortController(): typeof globalThis.AbortController {
  try {
    return util.transferableAbortController().constructor as typeof globalThis.AbortController
  } catch {
    return globalThis.AbortController
  }
}
