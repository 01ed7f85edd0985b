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

/** Lets the event loop turn now and then, and gives up where the cost grows with what is there, which would take for ever. */
export function pace(): (count: number) => Promise<void> {
  const start = performance.now()
  return async (count) => {
    if (count % 1000 !== 0) return
    await turns(1)
    if (performance.now() - start > 8_000) throw new Error(`Only ${count} rounds were done`)
  }
}
