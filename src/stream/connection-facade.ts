// The connection that users get: public members only, over the machine.

import type { Socket } from 'node:net'
import { inspect } from 'node:util'
import { formatAddress, type SocketAddress } from '../address.ts'
import type { Connection, PeerCredentials, ReceivedProxyHeader } from '../connection.ts'
import type { ConnectionSettings } from '../options.ts'
import { peerCredentials } from '../system/socket-facts.ts'
import type { ConnectionTls, StartTlsOptions, TlsClientOptions, TlsContext } from '../tls.ts'
import { ByteConnection } from './byte-connection.ts'
import { ByteStreamFacade, machineOf } from './byte-stream-facade.ts'
import type { ConnectionInit } from './connection-init.ts'
import { detach } from './detach.ts'
import { guard } from './guarded-socket.ts'
import { descriptorOf } from './net-socket.ts'
import type { Transport } from './transport.ts'

/** The implementation of {@link Connection}. */
export class ConnectionFacade<A extends SocketAddress> extends ByteStreamFacade implements Connection<A> {
  get socket(): Socket {
    const { socket, transport } = under(this)
    // One that was given up is somebody else's, and in memory there is none.
    return transport.isDestroyed || socket === undefined ? socket : guard(socket)
  }

  get remoteAddress(): A {
    return under(this).init.remoteAddress
  }

  get localAddress(): A {
    return under(this).init.localAddress
  }

  get proxy(): ReceivedProxyHeader | null {
    return under(this).init.proxy ?? null
  }

  get peerCredentials(): PeerCredentials | null {
    return under(this).init.peerCredentials ?? null
  }

  get tls(): ConnectionTls | null {
    return under(this).transport.tls ?? null
  }

  async startTls(options: TlsContext | TlsClientOptions | true, limits?: StartTlsOptions): Promise<void> {
    const { upgrade } = under(this).init
    if (upgrade === undefined) throw new TypeError('Cannot start TLS as this kind of connection has none')
    await upgrade.startTls(under(this), options, limits)
  }

  detach(): Promise<Socket> {
    return detach(under(this))
  }

  get #overTls(): string {
    const { tls } = this
    if (tls === null) return ''
    const asked = tls.serverName === null ? '' : ` to ${tls.serverName}`
    return `, ${tls.version}${asked} with ${tls.cipher}${tls.alpn === null ? '' : ` for ${tls.alpn}`}`
  }

  override [inspect.custom](): string {
    const { init, incoming, outgoing, state } = under(this)
    const ends = `${formatAddress(init.localAddress)} ${init.isAccepted ? '<-' : '->'} ${formatAddress(init.remoteAddress)}`
    return `Connection { ${ends}, ${state}${this.#overTls}, read: ${incoming.bytesRead}, written: ${outgoing.bytesWritten}, pending: ${outgoing.bytesPending} }`
  }
}

/** Makes a connection, and what users hold of it. It starts to read at once. */
export function openConnection<A extends SocketAddress>(
  transport: Transport,
  settings: ConnectionSettings,
  init: ConnectionInit<A, ByteConnection<A>>
): ByteConnection<A> {
  // Now, since nobody can be asked once it is closed. A TCP socket would be asked in vain.
  if (init.isUnix ?? init.remoteAddress.family === 'unix') {
    const descriptor = transport.descriptor ?? (transport.socket && descriptorOf(transport.socket))
    if (descriptor !== undefined) init.peerCredentials = peerCredentials(descriptor)
  }
  const machine = new ByteConnection(transport, settings, init)
  machine.facade = new ConnectionFacade<A>(machine as unknown as ByteConnection<SocketAddress>)
  return machine
}

function under<A extends SocketAddress>(connection: ConnectionFacade<A>): ByteConnection<A> {
  return machineOf(connection) as unknown as ByteConnection<A>
}
