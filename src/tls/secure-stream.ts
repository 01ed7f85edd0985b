// Node's TLS over a stream of ours, by documented members, and what it says of the peer's certificate.

import type { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import { nodeTls } from '../system/node-tls.ts'
import { canWrapHandles, type TlsSocketInternals } from '../system/tls-socket.ts'
import type { Handshake } from './handshake.ts'

/** Begins a handshake over `under`. */
export function secureStream(under: Duplex, handshake: Handshake): TLSSocket {
  const { options, askFor, isServer } = handshake
  if (isServer) return new (nodeTls().TLSSocket)(under, options)
  // Only where it is known that a session taken up is the one that was offered.
  const session = canWrapHandles() ? handshake.takeSession() : undefined
  const offered = session === undefined ? {} : { session }
  const checks = { rejectUnauthorized: false, checkServerIdentity: accept }
  const tls = nodeTls().connect({ ...options, ...checks, ...offered, socket: under, servername: askFor ?? '' })
  return tls.on('session', (session) => handshake.keep(session))
}

/** What is wrong with a server's chain: documented, but for being a mere code. */
export function clientChainError({ authorizationError }: TLSSocket): Error | undefined {
  if (!authorizationError) return undefined
  return Object.assign(new Error(String(authorizationError)), { code: String(authorizationError) })
}

/** What is wrong with a client's chain. */
export function serverChainError({ _handle }: TlsSocketInternals): Error | undefined {
  if (typeof _handle?.verifyError !== 'function') return new Error('this runtime does not say whether a client certificate holds')
  return _handle.verifyError() ?? undefined
}

// The name is checked by whoever knows it, when the handshake is done.
function accept(): undefined {}
