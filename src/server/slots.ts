// Slots: who is being served, what the server keeps of each client, and cutting them off.

import type { SocketAddress } from '../address.ts'
import type { PeerCredentials } from '../connection.ts'
import type { ObservedServer } from '../diagnostics.ts'
import type { ProxyHeader } from '../proxy-header.ts'
import type { ByteConnection } from '../stream/byte-connection.ts'
import type { ConnectionInit, Upgrade } from '../stream/connection-init.ts'
import { cutOff } from '../stream/detach.ts'
import { type PackedAddress, unpack } from '../system/socket-names.ts'

/** The index of a connection that is not open. */
const CLOSED = -1

/** The server, as its slots know it. */
export interface SlotOwner {
  /** What users hold. */
  readonly shell: ObservedServer
  /** How a connection goes on in TLS. */
  readonly upgrade: Upgrade<ByteConnection<SocketAddress>>
  /** The descriptor of a connection is closed. */
  connectionClosed(connection: ByteConnection<SocketAddress>): void
}

// arriving → ready → served: the steps of the server, then the wait for a consumer, then the consumer. From the first two also
// turned away (by a step) and dropped (the server closes, or the client is gone).
export type SlotState = 'arriving' | 'ready' | 'served' | 'turned-away' | 'dropped'

/** What an accepted connection starts with, and what its server keeps of it. */
export class Slot implements ConnectionInit<SocketAddress, ByteConnection<SocketAddress>> {
  readonly isAccepted = true
  readonly owner: SlotOwner
  state: SlotState = 'arriving'
  /** Where it is among the open connections. */
  index = CLOSED
  /** Whether a handler is at work on it. */
  isHandled = false
  /** Whether the server aborted it. */
  isCutOff = false
  /** Under which key its client is counted; undefined without a limit per address. */
  addressKey: string | undefined
  failure: { readonly error: unknown } | undefined
  proxy: (ProxyHeader & { readonly via: SocketAddress }) | null = null
  peerCredentials: PeerCredentials | null = null
  #remote: SocketAddress | PackedAddress
  #local: SocketAddress | PackedAddress

  constructor(remote: SocketAddress | PackedAddress, local: SocketAddress | PackedAddress, owner: SlotOwner) {
    this.#remote = remote
    this.#local = local
    this.owner = owner
  }

  /** The client's, once a PROXY header has told it. */
  get remoteAddress(): SocketAddress {
    if (typeof this.#remote === 'number') this.#remote = unpack(this.#remote)
    return this.#remote
  }

  set remoteAddress(address: SocketAddress) {
    this.#remote = address
  }

  get localAddress(): SocketAddress {
    if (typeof this.#local === 'number') this.#local = unpack(this.#local)
    return this.#local
  }

  set localAddress(address: SocketAddress) {
    this.#local = address
  }

  get isUnix(): boolean {
    return typeof this.#remote !== 'number' && this.#remote.family === 'unix'
  }

  get server(): ObservedServer {
    return this.owner.shell
  }

  get upgrade(): Upgrade<ByteConnection<SocketAddress>> {
    return this.owner.upgrade
  }

  get isOpen(): boolean {
    return this.index !== CLOSED
  }

  onClosed(connection: ByteConnection<SocketAddress>): void {
    this.owner.connectionClosed(connection)
  }
}

/** The slot of an accepted connection. */
export function slotOf(connection: ByteConnection<SocketAddress>): Slot {
  return connection.init as Slot
}

/** The slots of one server. A slot is taken from accept until its connection is closed and its handler, if any, is done. */
export class Slots {
  // In no order, each slot with its index: the tables of a Set that has grown keep closed connections alive until the next major collection.
  readonly #open: ByteConnection<SocketAddress>[] = []
  #inUse = 0

  /** How many are taken. */
  get inUse(): number {
    return this.#inUse
  }

  /** The connections whose descriptor is open, as they are now. */
  get open(): readonly ByteConnection<SocketAddress>[] {
    return [...this.#open]
  }

  take(connection: ByteConnection<SocketAddress>): void {
    this.#inUse++
    slotOf(connection).index = this.#open.push(connection) - 1
  }

  /** Notes that the descriptor is closed; the slot is still taken. */
  closed(connection: ByteConnection<SocketAddress>): void {
    const slot = slotOf(connection)
    const last = this.#open.pop() as ByteConnection<SocketAddress>
    if (last !== connection) {
      this.#open[slot.index] = last
      slotOf(last).index = slot.index
    }
    slot.index = CLOSED
  }

  free(): void {
    this.#inUse--
  }

  /** Aborts all that are open, by the server's own decision, and gives them. */
  cutAll(): readonly ByteConnection<SocketAddress>[] {
    const connections = this.open
    for (const connection of connections) {
      // One that has broken, or that its handler has aborted, is not the server's doing.
      if (connection.state !== 'ended') slotOf(connection).isCutOff = true
      cutOff(connection)
    }
    return connections
  }

  invariant(check: (holds: boolean, what: string) => void): void {
    check(this.#inUse >= this.#open.length, `${this.#inUse} slots for ${this.#open.length} open connections`)
    const isInPlace = (connection: ByteConnection<SocketAddress>, index: number): boolean => slotOf(connection).index === index
    check(this.#open.every(isInPlace), 'an open connection is not where its slot says')
  }
}
