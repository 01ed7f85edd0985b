// The limit on how long a connection may be silent.

import { StallTimer } from '../async/stall-timer.ts'
import { IdleTimeoutError, withOrigin } from '../errors.ts'

interface Subject {
  readonly peer: string
  readonly incoming: { readonly bytesRead: number }
  readonly outgoing: { readonly bytesWritten: number }
  breakOff(error: Error): void
}

/** Breaks a connection off once no byte has gone either way for `limit` milliseconds. Undefined where there is no limit. */
export function limitIdleness(limit: number, connection: Subject): StallTimer | undefined {
  if (limit === Number.POSITIVE_INFINITY) return undefined
  const progress = (): number => connection.incoming.bytesRead + connection.outgoing.bytesWritten
  const idle = new StallTimer(limit, progress, () => {
    const message = `No byte was sent to or received from ${connection.peer} for ${limit} ms`
    connection.breakOff(withOrigin(new IdleTimeoutError(message), connection))
  })
  idle.start()
  return idle
}
