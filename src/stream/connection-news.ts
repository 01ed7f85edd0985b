// What the diagnostics channels are told of a connection.

import type { Socket } from 'node:net'
import type { SocketAddress } from '../address.ts'
import { type ConnectionCloseMessage, type ConnectionOpenMessage, connectionClose, connectionOpen } from '../diagnostics.ts'
import type { ConnectionInit } from './connection-init.ts'

interface Subject {
  readonly init: ConnectionInit<SocketAddress>
  readonly socket: Socket
  readonly incoming: { readonly bytesRead: number }
  readonly outgoing: { readonly bytesWritten: number }
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
    reason
  }
  connectionClose.publish(message)
}

function describe({ socket, init }: Subject): ConnectionOpenMessage {
  const { remoteAddress, localAddress, isAccepted, server = null } = init
  return { socket, remoteAddress, localAddress, isAccepted, server }
}
