// The channels that let others look inside, through node:diagnostics_channel.

import { channel } from 'node:diagnostics_channel'
import type { Socket } from 'node:net'
import type { SocketAddress } from './address.ts'
import type { ConnectionTls } from './tls.ts'

/** A server, as messages name it: the very object that `listen` or `Server.create` returned, so that servers can be told apart. */
export interface ObservedServer {
  /** What it listens on. */
  readonly address: SocketAddress
  /** Slots in use. */
  readonly numConnections: number
  /** Slots that may be in use at once. */
  readonly maxConnections: number
  /** Whether it has started to close. */
  readonly isClosed: boolean
}

/** What all messages about a server contain. */
export interface ServerMessage {
  /** Which server it is. */
  readonly server: ObservedServer
  /** What it listens on. */
  readonly address: SocketAddress
}

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
  /** The server that accepted it; null if it was dialled. */
  readonly server: ObservedServer | null
}

/** Published on `it-tcp.connection.close` when the descriptor of a connection is closed. */
export interface ConnectionCloseMessage extends ConnectionOpenMessage {
  /** Bytes received, read or not. */
  readonly bytesRead: number
  /** Bytes handed to the operating system. */
  readonly bytesWritten: number
  /** Milliseconds for which it was open; undefined if nobody had subscribed when it opened. */
  readonly duration: number | undefined
  /** What was agreed on for TLS, as `connection.tls` tells it; null if the connection was plain, or its handshake failed. */
  readonly tls: Omit<ConnectionTls, 'exportKeyingMaterial'> | null
  /** What `connection.signal.reason` is. */
  readonly reason: unknown
}

/** Published on `it-tcp.server.limit` each time a server reaches `maxConnections`. */
export interface ServerLimitMessage extends ServerMessage {
  /** The limit that is reached: connections. */
  readonly maxConnections: number
}

/** Published on `it-tcp.server.handler-error` when a handler of `Server.create` throws or rejects, whatever `onHandlerError` is. */
export interface ServerHandlerErrorMessage extends ServerMessage {
  /** The client whose handler it was. */
  readonly remoteAddress: SocketAddress
  /** What the handler threw. */
  readonly error: unknown
}

/** Published on `it-tcp.server.descriptors-exhausted` each time a server shuts its gate because the process has no descriptor left. */
export interface ServerDescriptorsExhaustedMessage extends ServerMessage {}

/** Published on `it-tcp.server.turned-away` for every client that is refused, or fails, between accept and handler. */
export interface ServerTurnedAwayMessage extends ServerMessage {
  /** The client; before a PROXY header has been read, whoever is connected. */
  readonly remoteAddress: SocketAddress
  /** What turned it away; the counter of that name in `server.statistics().turnedAway`. */
  readonly step: TurningStep
  /** Why; undefined where it was refused by its address. */
  readonly error: unknown
}

/** What can turn a client away: the program's `admit`, `maxConnectionsPerAddress`, a PROXY header or a TLS handshake. */
export type TurningStep = 'admit' | 'perAddress' | 'proxyHeader' | 'handshake'

/** Published on `it-tcp.server.gate` each time a server starts or stops accepting clients. */
export interface ServerGateMessage extends ServerMessage {
  /** Whether clients are accepted from now on; otherwise they wait. */
  readonly isOpen: boolean
}

/**
 * Published on `it-tcp.server.handler-end` when a handler of `Server.create` has ended, successfully or not; its connection may still be
 * open.
 */
export interface ServerHandlerEndMessage extends ServerMessage {
  /** The client whose handler it was. */
  readonly remoteAddress: SocketAddress
  /** Whether it threw or rejected. */
  readonly hasFailed: boolean
}

// Where nobody has subscribed, a channel costs one look at `hasSubscribers`.
export const connectionOpen = channel('it-tcp.connection.open')
export const connectionClose = channel('it-tcp.connection.close')
export const serverLimit = channel('it-tcp.server.limit')
export const serverHandlerError = channel('it-tcp.server.handler-error')
export const serverDescriptorsExhausted = channel('it-tcp.server.descriptors-exhausted')
export const serverTurnedAway = channel('it-tcp.server.turned-away')
export const serverGate = channel('it-tcp.server.gate')
export const serverHandlerEnd = channel('it-tcp.server.handler-end')
