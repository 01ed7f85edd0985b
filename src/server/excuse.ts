// Whose fault it is that a handler failed: what clients of ours bring about, and what the library itself told, is excused.

import { ConnectionClosedError, isDeliberate, originOf, ServerClosedError } from '../errors.ts'
import { holds, PEER_ERRORS, property } from '../peer-error.ts'
import type { ByteConnection } from '../stream/byte-connection.ts'
import { ByteReader } from '../stream/byte-reader.ts'
import type { Slot } from './slots.ts'

/**
 * Whether a handler failed of what a client of `server` brought about, or of what the library told it: the reason of such a connection's
 * `signal` or of the server's, an error about a connection that neither `abort()` nor the program's own mistake has closed. That may stand
 * anywhere in the chain of causes; of several errors at once (`AggregateError`, `SuppressedError`) every one has to be excused, since the others
 * are the program's. Without `server`, any server's clients count.
 */
export function isExcused(error: unknown, server?: object): boolean {
  return holds(error, (part) => isExcusedItself(part, server))
}

function isExcusedItself(error: object, server: object | undefined): boolean {
  const noted = originOf(error)
  if (noted === undefined) return false
  const origin = ByteReader.originOf(noted)
  if (error instanceof ServerClosedError) return server === undefined || origin === server
  const slot = slotUnder(origin)
  if (slot === undefined) return false
  if (server !== undefined && slot.owner !== server) return false
  if (error instanceof ConnectionClosedError) return slot.isCutOff || !isDeliberate(error)
  // What is left is a read that an AbortSignal.timeout ended: the client was too slow.
  return PEER_ERRORS.some((Class) => error instanceof Class) || property(error, 'name') === 'TimeoutError'
}

// By what it has, not by its class: a pool, which excuses too, would bring all of connections and sockets along. Only our own objects are origins.
function slotUnder(origin: object): Slot | undefined {
  const { init } = origin as Partial<ByteConnection<never>>
  return init !== undefined && 'owner' in init ? (init as unknown as Slot) : undefined
}
