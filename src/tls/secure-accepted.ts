// The handshake of a client that a server has just accepted.

import type { SocketAddress } from '../address.ts'
import type { ByteConnection } from '../stream/byte-connection.ts'
import type { TlsContext } from '../tls.ts'
import { greet, handshakeAtOnce } from './server-hello.ts'
import { shakeHands } from './shake-hands.ts'
import { type HandshakeLimits, startTls } from './start-tls.ts'

/**
 * Goes on in TLS on a connection from which nobody has read. Resolves when the client is through; rejects with why it is turned away, the connection
 * being aborted then. It has no deadline of its own: whoever has one aborts the connection, and it rejects.
 */
export function secureAccepted(machine: ByteConnection<SocketAddress>, context: TlsContext): Promise<void> {
  const handshake = handshakeAtOnce(machine, context)
  // Nobody else can read or write meanwhile.
  return handshake === undefined ? startTls(machine, greet(context), NO_LIMITS) : shakeHands(machine, handshake)
}

const NO_LIMITS: HandshakeLimits = { timeout: Number.POSITIVE_INFINITY, signal: undefined, late: () => new Error('it has no deadline') }
