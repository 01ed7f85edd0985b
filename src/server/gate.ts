// The gate of a listening socket: what it lets in, and when.

import type net from 'node:net'
import type { InetAddress } from '../address.ts'
import type { Transport } from '../stream/transport.ts'
import type { NodeHandle } from '../system/node-internals.ts'

/**
 * An accepted client, nothing of it read: Node.js's raw handle, from which the server makes its one `net.Socket`; where the handle is not to
 * be had, a paused `net.Socket` that allows half-open; or what carries its bytes without any socket.
 */
export type Accepted = { readonly handle: NodeHandle } | { readonly socket: net.Socket } | AcceptedTransport

/** A client without a socket. */
export interface AcceptedTransport {
  readonly transport: Transport
  /** Undefined if it is gone already, as with sockets. */
  readonly remoteAddress: InetAddress | undefined
  readonly localAddress: InetAddress
}

export interface GateOptions {
  /** Clients in the kernel's queue. */
  readonly backlog: number
  /** Called with each client, from the event loop, never inside `open()`; only while the gate is open. Must not throw. */
  readonly onAccept: (client: Accepted) => void
  /** Called when accept(2) fails. The gate stays as it is. */
  readonly onAcceptError?: (error: Error) => void
}

/** The ways to a gate have this in common. */
export interface Gate {
  readonly kind: 'kernel' | 'userland'
  /** The listening descriptor; -1 if this runtime does not tell. */
  readonly fd: number
  /** Clients accepted while the gate was shut. */
  readonly parked: number
  /** Clients in a queue that is not the kernel's. */
  readonly waiting?: number
  readonly isOpen: boolean
  /** Whether one more client can be accepted: there is a descriptor for it, where it takes one. */
  hasRoom(): boolean
  /** Returns false, with the gate still shut, if there are not enough descriptors. */
  open(): boolean
  shut(): void
  ref(): void
  unref(): void
  /** Resolves when the descriptor is closed. */
  close(): Promise<void>
}

/** Closes a client of whom nothing was read. */
export function discard(client: Accepted): void {
  if ('handle' in client) client.handle.close()
  else if ('transport' in client) client.transport.destroy()
  else client.socket.destroy()
}
