// Whose connection it is, by its PROXY header.

import type { SocketAddress } from '../address.ts'
import type { ProxyHeader } from './header.ts'

/** The two ends of a connection. */
export interface Endpoints<A extends SocketAddress> {
  readonly remoteAddress: A
  readonly localAddress: A
}

/**
 * The client and what it dialled; `real`, the ends of the socket itself, where the header names nobody (LOCAL, UNKNOWN, UNSPEC), and where it has
 * a unix path for an internet socket or the other way round, since a server promises one kind of address.
 */
export function endpointsOf<A extends SocketAddress>({ source, destination }: ProxyHeader, real: Endpoints<A>): Endpoints<A> {
  if (source === null || destination === null) return real
  const isUnix = real.remoteAddress.family === 'unix'
  if ((source.family === 'unix') !== isUnix || (destination.family === 'unix') !== isUnix) return real
  return { remoteAddress: source as A, localAddress: destination as A }
}
