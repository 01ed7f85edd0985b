// What a connection begins with: its ends, what it can become, and who is told of its own end.

import type { SocketAddress } from '../address.ts'
import type { PeerCredentials } from '../connection.ts'
import type { ObservedServer } from '../diagnostics.ts'
import type { ProxyHeader } from '../proxy-header.ts'
import type { StartTlsOptions, TlsClientOptions, TlsContext } from '../tls.ts'

/** What made the connection, and so who is told of its end. `C` is the machine, which this file does not know. */
export interface ConnectionInit<A extends SocketAddress, C = never> {
  remoteAddress: A
  localAddress: A
  /** Whether the ends are paths, where to look at an address would make it. */
  readonly isUnix?: boolean
  /** How messages name the other end, where it has no address. */
  readonly peer?: string
  /** Whether a server accepted it: disposing then does not throw for what the client did. */
  readonly isAccepted: boolean
  /** How it goes on in TLS, which whoever makes it knows, and the stream does not. */
  readonly upgrade?: Upgrade<C>
  /** The server that accepted it. */
  readonly server?: ObservedServer
  /** The PROXY header that told its ends, and who sent that. */
  proxy?: (ProxyHeader & { readonly via: SocketAddress }) | null
  /** Who is at the other end of a unix socket; missing where it is not known. */
  peerCredentials?: PeerCredentials | null
  /** Called when the carrier is released. */
  onClosed?(connection: C): void
}

/** Goes on in TLS on a connection that did not until now. */
export interface Upgrade<C> {
  startTls(connection: C, options: TlsContext | TlsClientOptions | true, limits: StartTlsOptions | undefined): Promise<void>
}
