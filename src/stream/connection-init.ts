// What a connection begins with: its ends, and who is told of its own end.

import type { SocketAddress } from '../address.ts'

/** What made the connection, and so who is told of its end. `C` is the machine, which this file does not know. */
export interface ConnectionInit<A extends SocketAddress, C = never> {
  remoteAddress: A
  localAddress: A
  /** How messages name the other end, where it has no address. */
  readonly peer?: string
  /** Whether a server accepted it: disposing then does not throw for what the client did. */
  readonly isAccepted: boolean
  /** Called when the carrier is released. */
  onClosed?(connection: C): void
}
