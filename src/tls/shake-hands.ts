// The moment at which a connection goes over to TLS, and the wait until the peer is verified.

import { formatAddress, type SocketAddress } from '../address.ts'
import type { ByteConnection } from '../stream/byte-connection.ts'
import { HandleTransport } from '../stream/handle-transport.ts'
import { NetTransport } from '../stream/net-transport.ts'
import type { Transport } from '../stream/transport.ts'
import { canBeBare } from '../system/bare-tls.ts'
import { canWrapHandles, carrierHandle } from '../system/tls-socket.ts'
import type { Handshake } from './handshake.ts'
import type { Reservation } from './reservation.ts'
import { StreamTlsTransport } from './stream-tls-transport.ts'
import type { TlsInit } from './tls-init.ts'
import { TlsTransport } from './tls-transport.ts'

/** Finds out how to shake hands; it may read for that what arrives, and then puts it to `early`. */
export type Prepare = (
  connection: ByteConnection<SocketAddress>,
  reservation: Reservation,
  early: Uint8Array[]
) => Handshake | Promise<Handshake>

/**
 * Puts TLS in the place of the carrier. Nothing may be in flight; `early` was read before, and in the same turn whatever else has arrived is
 * taken from the reader, so that nothing is read in clear any more.
 */
export function shakeHands(machine: ByteConnection<SocketAddress>, handshake: Handshake, early: readonly Uint8Array[]): Promise<void> {
  const { incoming, init, transport: carrier } = machine
  const unread = incoming.takeUnread()
  return new Promise<void>((secured, failed) => {
    const tlsInit: TlsInit = {
      handshake,
      // Only failures tell it.
      get peer() {
        return formatAddress(init.remoteAddress)
      },
      secured,
      failed
    }
    machine.switchTo(transportOver(carrier, tlsInit, [...early, ...unread]))
  })
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
