// Dialling without a socket: somebody else's way to connect, within the same limits and with the same errors.

import type { SocketAddress } from '../address.ts'
import { Deadline, TIMED_OUT } from '../async/deadline.ts'
import { ConnectError, ConnectTimeoutError } from '../errors.ts'
import type { Carried, CustomDial, WhereToConnect } from '../where-to-connect.ts'
import type { DialLimits } from './dial.ts'

/** Connects by `start`. Whatever fails, or takes longer than the limits allow, is given up. */
export async function dialCustom(
  start: CustomDial,
  { target }: WhereToConnect<SocketAddress>,
  { timeout, signal }: DialLimits
): Promise<Carried> {
  const deadline = new Deadline(timeout, signal)
  try {
    return await deadline.run(start)
  } catch (error) {
    if (error === TIMED_OUT) throw new ConnectTimeoutError(target, timeout)
    deadline.throwIfPassed()
    throw new ConnectError(target, error)
  } finally {
    deadline.stop()
  }
}
