// A client that is accepted and no connection yet: its addresses, its socket, and how it is sent away.

import type { Socket } from 'node:net'
import { inetAddress, type SocketAddress, UNNAMED } from '../address.ts'
import type { ConnectionSettings } from '../options.ts'
import type { ByteConnection } from '../stream/byte-connection.ts'
import { openConnection } from '../stream/connection-facade.ts'
import { HandleTransport } from '../stream/handle-transport.ts'
import { createAcceptedSocket, setSilenceLimits, socketAddresses } from '../stream/net-socket.ts'
import { NetTransport } from '../stream/net-transport.ts'
import type { Transport } from '../stream/transport.ts'
import { isStreamHandle, streamBinding } from '../system/node-internals.ts'
import { type PackedAddress, packedLocal, packedPeer } from '../system/socket-names.ts'
import type { AcceptedTransport } from './gate.ts'
import type { Accepted, GatedListener } from './listening-socket.ts'
import { Slot, type SlotOwner } from './slots.ts'

// Filled in for each client. It has all that is set from the start: to add that to a new object costs more than the system call.
const scratch = { address: '', family: '', port: 0 }

/** Turns the clients of one server into connections. */
export class Arrivals {
  readonly #socket: GatedListener
  readonly #settings: ConnectionSettings
  readonly #owner: SlotOwner

  constructor(socket: GatedListener, settings: ConnectionSettings, owner: SlotOwner) {
    this.#socket = socket
    this.#settings = settings
    this.#owner = owner
  }

  /** The address of a client; undefined if it is gone already. */
  addressOf(client: Accepted): SocketAddress | undefined {
    if (this.#isUnix) return UNNAMED
    if ('transport' in client) return client.remoteAddress
    const host = this.hostOf(client)
    if (host === undefined) return undefined
    return inetAddress(host, 'handle' in client ? scratch.port : (client.socket.remotePort ?? 0))
  }

  /** The bare IP address of a client, before any object is made for it: undefined if it is gone already, `''` for a unix client. */
  hostOf(client: Accepted): string | undefined {
    if (this.#isUnix) return ''
    if ('transport' in client) return client.remoteAddress?.address
    if ('socket' in client) return client.socket.remoteAddress
    return client.handle.getpeername?.(scratch) === 0 ? scratch.address : undefined
  }

  /** The same in the form that costs least to make. */
  peerOf(client: Accepted): SocketAddress | PackedAddress | undefined {
    if ('handle' in client && !this.#isUnix) return packedPeer(client.handle.fd) ?? this.addressOf(client)
    return this.addressOf(client)
  }

  /** Makes the connection of a client, whom {@link peerOf} has told, in a slot that is not taken yet. */
  open(client: Accepted, remote: SocketAddress | PackedAddress): ByteConnection<SocketAddress> {
    const slot = new Slot(remote, this.#localOf(client), this.#owner)
    return openConnection(this.#transportOf(client), this.#settings, slot)
  }

  get #isUnix(): boolean {
    return this.#socket.address.family === 'unix'
  }

  #transportOf(client: Accepted): Transport {
    if ('transport' in client) return client.transport
    // Otherwise they are set on the socket.
    const hasOptions = this.#socket.inheritsSocketOptions || this.#isUnix
    if ('handle' in client && hasOptions && streamBinding !== undefined && isStreamHandle(client.handle)) {
      return new HandleTransport(client.handle, this.#settings.keepAlive)
    }
    return new NetTransport(this.#socketOf(client))
  }

  #socketOf(client: Exclude<Accepted, AcceptedTransport>): Socket {
    const { keepAlive } = this.#settings
    const socket = 'handle' in client ? createAcceptedSocket(client.handle, keepAlive) : client.socket
    if (!this.#socket.inheritsSocketOptions && !this.#isUnix) {
      socket.setNoDelay(true)
      setSilenceLimits(socket, this.#settings)
    }
    return socket
  }

  // Only a server that listens on all addresses has to ask which of them the client has dialled.
  #localOf(client: Accepted): SocketAddress | PackedAddress {
    const { address } = this.#socket
    if (address.family === 'unix') return address
    if ('transport' in client) return client.localAddress
    if ('socket' in client) return socketAddresses(client.socket).localAddress
    if (address.address !== '::' && address.address !== '0.0.0.0') return address
    const local = packedLocal(client.handle.fd)
    if (local !== undefined) return local
    return client.handle.getsockname?.(scratch) === 0 ? inetAddress(scratch.address, scratch.port) : address
  }
}

/** Closes a client of whom nothing was read such that it sees an error, where there is one to be seen: with a RST on TCP. */
export function refuse(client: Accepted): void {
  try {
    if ('transport' in client) client.transport.reset()
    else if ('socket' in client) client.socket.resetAndDestroy()
    else resetHandle(client.handle)
  } catch {
    // A unix socket on a runtime that has no handles.
    if ('socket' in client) client.socket.destroy()
  }
}

// `reset` is not documented; net.Socket#resetAndDestroy is made of it. A pipe has none, and is closed.
function resetHandle(handle: { reset?(): number; close(): void }): void {
  if (handle.reset === undefined || handle.reset() !== 0) handle.close()
}
