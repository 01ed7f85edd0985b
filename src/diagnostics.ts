// The channels on which others can look inside, through node:diagnostics_channel.

import { channel } from 'node:diagnostics_channel'
import type { Socket } from 'node:net'
import type { SocketAddress } from './address.ts'

/** Published on `it-tcp.connection.open` for every connection, dialled or accepted. */
export interface ConnectionOpenMessage {
  /** What `connection.socket` is; the same object when it closes. */
  readonly socket: Socket
  /** The peer's address. */
  readonly remoteAddress: SocketAddress
  /** The address on this side. */
  readonly localAddress: SocketAddress
  /** Whether a server accepted it. */
  readonly isAccepted: boolean
}

/** Published on `it-tcp.connection.close` when the descriptor of a connection is closed. */
export interface ConnectionCloseMessage extends ConnectionOpenMessage {
  /** Bytes received, read or not. */
  readonly bytesRead: number
  /** Bytes handed to the operating system. */
  readonly bytesWritten: number
  /** Milliseconds for which it was open; undefined if nobody had subscribed by then. */
  readonly duration: number | undefined
  /** What `connection.signal.reason` is. */
  readonly reason: unknown
}

/** Published on `it-tcp.server.limit` each time a server has come to have as many connections as it may. */
export interface ServerLimitMessage {
  /** What the server listens on. */
  readonly address: SocketAddress
  /** The limit that is reached: connections. */
  readonly maxConnections: number
}

/** Published on `it-tcp.server.handler-error` when a handler of `Server.create` throws or rejects, whatever the policy for that is. */
export interface ServerHandlerErrorMessage {
  /** What the server listens on. */
  readonly address: SocketAddress
  /** The client whose handler it was. */
  readonly remoteAddress: SocketAddress
  /** What the handler threw. */
  readonly error: unknown
}

/** Published on `it-tcp.server.descriptors-exhausted` each time a server shuts its gate since the process has no descriptor left. */
export interface ServerDescriptorsExhaustedMessage {
  /** What the server listens on. */
  readonly address: SocketAddress
}

// Where nobody has subscribed, a channel costs one look at `hasSubscribers`.
export const connectionOpen = channel('it-tcp.connection.open')
export const connectionClose = channel('it-tcp.connection.close')
export const serverLimit = channel('it-tcp.server.limit')
export const serverHandlerError = channel('it-tcp.server.handler-error')
export const serverDescriptorsExhausted = channel('it-tcp.server.descriptors-exhausted')
