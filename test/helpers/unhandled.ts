// Rejections that nobody handles: mocha passes them on to other listeners, and without any of them it lets them go.

import { setImmediate } from 'node:timers/promises'

const unhandled = new Map<Promise<unknown>, unknown>()
let expectations = 0

function note(reason: unknown, promise: Promise<unknown>): void {
  // Mocha passes on what was told here already.
  if (expectations === 0) unhandled.set(promise, reason)
}

/** From now on rejections are noted. */
export function watchUnhandled(): void {
  process.on('unhandledRejection', note)
}

/** Throws if a rejection has stayed unhandled since the last call. */
export async function refuseUnhandled(): Promise<void> {
  // A rejection is found to be unhandled when the microtasks have run.
  await setImmediate()
  if (unhandled.size === 0) return
  const reasons = [...unhandled.values()]
  unhandled.clear()
  throw new AggregateError(reasons, `Unhandled rejections: ${reasons.map(String).join(', ')}`)
}

/** For the tests of the enclosing block a rejection that nobody handles is no failure: they bring it about on purpose. */
export function expectUnhandled(): void {
  before(() => {
    expectations++
  })

  after(async () => {
    await setImmediate()
    expectations--
  })
}
