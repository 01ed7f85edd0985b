// Waiting for what a test means, instead of sleeping.

import { setImmediate } from 'node:timers/promises'

const GIVE_UP_AFTER = 8_000

/** Resolves once `condition` holds, asking once a turn of the event loop; rejects, naming `what`, where it never does. */
export async function until(condition: () => unknown, what = String(condition)): Promise<void> {
  const start = performance.now()
  while (!(await condition())) {
    // Below mocha's own limit, so that the test fails with words.
    if (performance.now() - start > GIVE_UP_AFTER) throw new Error(`Waited in vain until: ${what}`)
    await setImmediate()
  }
}

/** Lets the event loop turn `count` times: time enough for what must not happen. */
export async function turns(count = 20): Promise<void> {
  for (let turn = 0; turn < count; turn++) await setImmediate()
}
