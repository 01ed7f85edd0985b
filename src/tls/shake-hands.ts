// The moment at which a connection goes over to TLS, and the wait until the peer is verified.

import { formatAddress, type SocketAddress } from '../address.ts'
import { ConnectionResetError, TlsError, withOrigin } from '../errors.ts'
import type { ByteConnection } from '../stream/byte-connection.ts'
import { HandleTransport } from '../stream/handle-transport.ts'
import { NetTransport } from '../stream/net-transport.ts'
import type { Transport } from '../stream/transport.ts'
import { canBeBare } from '../system/bare-tls.ts'
import { canWrapHandles, carrierHandle } from '../system/tls-socket.ts'
import type { Handshake } from './handshake.ts'
import type { Reservation } from './reservation.ts'
import { StreamTlsTransport } from './stream-tls-transport.ts'
import { handshakeError } from './tls-error.ts'
import type { TlsInit } from './tls-init.ts'
import { TlsTransport } from './tls-transport.ts'

type Machine = ByteConnection<SocketAddress>

/** Finds out how to shake hands; it may read for that what arrives, and then puts it to `early`. */
export type Prepare = (connection: Machine, reservation: Reservation, early: Uint8Array[]) => Handshake | Promise<Handshake>

/**
 * Puts TLS in the place of the carrier. Nothing may be in flight; `early` was read before, and in the same turn whatever else has arrived is
 * taken from the reader, so that nothing is read in clear any more. Rejects with why the handshake failed, the connection being aborted then.
 */
export function shakeHands(machine: Machine, handshake: Handshake, early: readonly Uint8Array[] = []): Promise<void> {
  return new Promise<void>((resolve, reject) => {
    const { incoming, transport } = machine
    machine.switchTo(transportOver(transport, new Undertaking(machine, handshake, resolve, reject), [...early, ...incoming.takeUnread()]))
  })
}

// With members of a class: those of a literal, among them a getter, would be most of what is made for a handshake.
class Undertaking implements TlsInit {
  readonly handshake: Handshake
  readonly secured: () => void
  readonly #machine: Machine
  readonly #reject: (error: unknown) => void

  constructor(machine: Machine, handshake: Handshake, resolve: () => void, reject: (error: unknown) => void) {
    this.handshake = handshake
    this.secured = resolve
    this.#machine = machine
    this.#reject = reject
  }

  // Only failures tell it.
  get peer(): string {
    return formatAddress(this.#machine.init.remoteAddress)
  }

  failed(error: Error): void {
    const reason = failureOf(this.#machine, error)
    this.#machine.abort(reason)
    this.#reject(reason)
  }
}

/** Why a handshake failed: what a peer or the network did in it is a failure of the handshake. */
export function failureOf(machine: Machine, error: unknown): unknown {
  if (error instanceof TlsError) return withOrigin(error, machine)
  if (!(error instanceof ConnectionResetError) || !machine.isOrigin(error)) return error
  return withOrigin(handshakeError(formatAddress(machine.init.remoteAddress), (error.cause as Error | undefined) ?? error), machine)
}

/** Whether TLS is spoken over the very handle that `carrier` has. */
export function isOnHandle(carrier: Transport, closeNotify: Handshake['closeNotify']): boolean {
  // Whether a FIN without close_notify came inside a record is only seen by whoever sees the records.
  if (closeNotify === 'optional' || !canWrapHandles()) return false
  return carrier instanceof HandleTransport || (carrier instanceof NetTransport && carrierHandle(carrier.socket) !== undefined)
}

function transportOver(carrier: Transport, init: TlsInit, early: readonly Uint8Array[]): Transport {
  const { options, closeNotify } = init.handshake
  const isOver = isOnHandle(carrier, closeNotify)
  const handle = isOver && carrier instanceof HandleTransport && canBeBare(options) ? carrier.surrender() : undefined
  if (handle !== undefined) return new TlsTransport(handle, init, early)
  const net = carrier instanceof HandleTransport ? carrier.net : carrier
  if (isOver && isOnHandle(net, closeNotify)) return new TlsTransport((net as NetTransport).carry(), init, early)
  return new StreamTlsTransport(net, init, early)
}
