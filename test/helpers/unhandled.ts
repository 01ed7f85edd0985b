// Rejections that nobody handles: mocha passes them on to other listeners, and without any of them it lets them go.

import { setImmediate } from 'node:timers/promises'

/** Fails every test of the enclosing block in which a rejection stays unhandled. */
export function refuseUnhandled(): void {
  let unhandled: unknown[] = []
  const note = (reason: unknown): void => void unhandled.push(reason)

  beforeEach(() => {
    unhandled = []
    process.on('unhandledRejection', note)
  })

  afterEach(async () => {
    // A rejection is found to be unhandled when the microtasks have run.
    await setImmediate()
    process.off('unhandledRejection', note)
    if (unhandled.length > 0) throw new AggregateError(unhandled, `Unhandled rejections: ${unhandled.join(', ')}`)
  })
}
