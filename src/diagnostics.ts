// The channels on which others can look inside, through node:diagnostics_channel.

import { channel } from 'node:diagnostics_channel'
import type { Socket } from 'node:net'
import type { SocketAddress } from './address.ts'

/** Published on `it-tcp.connection.open` for every connection, dialled or accepted. */
export interface ConnectionOpenMessage {
  readonly socket: Socket
  readonly remoteAddress: SocketAddress
  readonly localAddress: SocketAddress
  /** Whether a server accepted it. */
  readonly isAccepted: boolean
}

/** Published on `it-tcp.connection.close` when the descriptor of a connection is closed. */
export interface ConnectionCloseMessage extends ConnectionOpenMessage {
  readonly bytesRead: number
  readonly bytesWritten: number
  /** Milliseconds for which it was open; undefined if nobody had subscribed by then. */
  readonly duration: number | undefined
  /** What `connection.signal.reason` is. */
  readonly reason: unknown
}

/** Published on `it-tcp.server.limit` each time a server has come to have as many connections as it may. */
export interface ServerLimitMessage {
  readonly address: SocketAddress
  readonly maxConnections: number
}

/** Published on `it-tcp.server.handler-error` when a handler of `Server.create` throws or rejects, whatever the policy for that is. */
export interface ServerHandlerErrorMessage {
  readonly address: SocketAddress
  readonly remoteAddress: SocketAddress
  readonly error: unknown
}

/** Published on `it-tcp.server.descriptors-exhausted` each time a server shuts its gate since the process has no descriptor left. */
export interface ServerDescriptorsExhaustedMessage {
  readonly address: SocketAddress
}

// Where nobody has subscribed, a channel costs one look at `hasSubscribers`.
export const connectionOpen = channel('it-tcp.connection.open')
export const connectionClose = channel('it-tcp.connection.close')
export const serverLimit = channel('it-tcp.server.limit')
export const serverHandlerError = channel('it-tcp.server.handler-error')
export const serverDescriptorsExhausted = channel('it-tcp.server.descriptors-exhausted')
