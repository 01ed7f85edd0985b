// The handshake of a client that a server has just accepted.

import type { SocketAddress } from '../address.ts'
import type { ByteConnection } from '../stream/byte-connection.ts'
import type { TlsContext } from '../tls.ts'
import { serverTerms } from './context.ts'
import { ServerHandshake } from './handshake.ts'
import { canGreetAtOnce, greet } from './server-hello.ts'
import { shakeHands } from './shake-hands.ts'
import { type HandshakeLimits, startTls } from './start-tls.ts'

/**
 * Goes on in TLS on a connection from which nobody has read. Resolves when the client is through; rejects with why it is turned away, the connection
 * being aborted then. It has no deadline of its own: whoever has one aborts the connection, and it rejects.
 */
export function secureAccepted(machine: ByteConnection<SocketAddress>, context: TlsContext): Promise<void> {
  if (!canGreetAtOnce(machine, context)) return startTls(machine, greet(context), NO_LIMITS)
  // Nobody else can read or write meanwhile.
  return shakeHands(machine, new ServerHandshake(serverTerms(context)), NOTHING)
}

const NO_LIMITS: HandshakeLimits = { timeout: Number.POSITIVE_INFINITY, signal: undefined, late: () => new Error('it has no deadline') }

const NOTHING: readonly Uint8Array[] = []
