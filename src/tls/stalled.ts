// A TLSWrap that sends nothing any more, and says nothing of it.
//
// If the system refuses what it has to send on its own account, such as session tickets for a client that is gone, it keeps that to itself, and lets every later
// write wait for ever. What the refusal was of has been taken off the socket by then, so that reading tells of a mere end.

import { setImmediate } from '../async/platform.ts'

/** Of bytes: those that wait, and, of the handle below, those that were written to it. */
interface Counters {
  readonly writeQueueSize: number
}

type Raw = (Counters & { readonly bytesWritten: number }) | undefined

// What was sent at once is told a turn later.
const TURNS = 3

/** Calls `then` if `tls` has something to send and `raw` nothing to do, for longer than it takes to go from one to the other. */
export function ifStalled(tls: Counters | null | undefined, raw: Raw, then: () => void, turns = TURNS): void {
  if (!tls || raw === undefined || tls.writeQueueSize === 0) return
  const before = raw.bytesWritten
  setImmediate(() => {
    if (tls.writeQueueSize === 0 || raw.writeQueueSize > 0 || raw.bytesWritten !== before) return
    if (turns > 1) ifStalled(tls, raw, then, turns - 1)
    else then()
  })
}
