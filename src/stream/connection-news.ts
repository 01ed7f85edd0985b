// What the diagnostics channels are told of a connection.

import type { Socket } from 'node:net'
import type { SocketAddress } from '../address.ts'
import { type ConnectionCloseMessage, type ConnectionOpenMessage, connectionClose, connectionOpen } from '../diagnostics.ts'
import type { ConnectionTls } from '../tls.ts'
import type { ConnectionInit } from './connection-init.ts'
import type { Transport } from './transport.ts'

interface Subject {
  readonly init: ConnectionInit<SocketAddress>
  readonly socket: Socket
  readonly incoming: { readonly bytesRead: number }
  readonly outgoing: { readonly bytesWritten: number }
  readonly transport: Pick<Transport, 'tls'>
}

/** Returns when it was opened, if anybody will want to know. A stream without addresses is no connection, and nobody's news. */
export function publishOpen(connection: Subject): number | undefined {
  if (connection.init.peer !== undefined) return undefined
  if (connectionOpen.hasSubscribers) connectionOpen.publish(describe(connection))
  return connectionClose.hasSubscribers ? performance.now() : undefined
}

/** To be called where somebody has subscribed. */
export function publishClose(connection: Subject, openedAt: number | undefined, reason: unknown): void {
  if (connection.init.peer !== undefined) return
  const message: ConnectionCloseMessage = {
    ...describe(connection),
    bytesRead: connection.incoming.bytesRead,
    bytesWritten: connection.outgoing.bytesWritten,
    duration: openedAt === undefined ? undefined : performance.now() - openedAt,
    tls: withoutKeys(connection.transport.tls),
    reason
  }
  connectionClose.publish(message)
}

// Whoever watches has no use for what only both ends may know.
function withoutKeys(tls: ConnectionTls | undefined): ConnectionCloseMessage['tls'] {
  if (tls === undefined) return null
  const { version, cipher, alpn, serverName, peerCertificate, isAuthorized, isResumed } = tls
  return { version, cipher, alpn, serverName, peerCertificate, isAuthorized, isResumed }
}

function describe({ socket, init }: Subject): ConnectionOpenMessage {
  const { remoteAddress, localAddress, isAccepted, server = null } = init
  return { socket, remoteAddress, localAddress, isAccepted, server }
}
