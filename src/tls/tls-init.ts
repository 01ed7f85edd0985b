// What whoever wants TLS tells the transport that speaks it.

import type { Handshake } from './handshake.ts'

/** What is asked of a transport that speaks TLS. */
export interface TlsInit {
  readonly handshake: Handshake
  /** The peer's address, for messages. */
  readonly peer: string
  /** Called when the handshake is done and the peer verified. */
  readonly secured: () => void
  /** Called in its place, and instead of `broken`, when that fails, or the connection is closed before. */
  failed(error: Error): void
}
