// A foreign peer that speaks TLS: Node's own TLSSocket, in the shape that the specs know from plain sockets: paused, and may be half-open.

import { once } from 'node:events'
import type { Socket } from 'node:net'
import { connect, createSecureContext, type SecureContext, TLSSocket } from 'node:tls'
import type { TlsClientOptions } from '../../src/index.ts'
import { TlsContext } from '../../src/index.ts'
import { type CarrierHandle, carrierHandle, closeByReset } from '../../src/system/tls-socket.ts'
import { certificates } from './certificates.ts'
import type { Version } from './tls-ends.ts'
import { turns } from './until.ts'

/** How a connection of the library speaks TLS in a test. */
export interface TlsKind {
  readonly version: Version
  /** `'optional'` goes over a stream of the library's own in place of the handle. */
  readonly closeNotify: 'required' | 'optional'
}

/** The option `tls` of a client of `tlsPeer`. */
export function clientOf({ version, closeNotify }: TlsKind): TlsClientOptions {
  const { ca } = certificates()
  return { ca: ca.cert, serverName: 'a.test', closeNotify, minVersion: version, secureContext: { maxVersion: version } }
}

const contexts = new Map<string, TlsContext>()

/** The option `tls` of a server of `tlsPeer`: the same for each. */
export function contextOf({ version, closeNotify }: TlsKind): TlsContext {
  const key = `${version} ${closeNotify}`
  const context =
    contexts.get(key) ??
    TlsContext.create({ ...certificates().a, closeNotify, minVersion: version, secureContext: { maxVersion: version } })
  contexts.set(key, context)
  return context
}

const contextsOfPeers = new Map<Version, SecureContext>()

function peersContext(maxVersion: Version = 'TLSv1.3'): SecureContext {
  const { a, ca } = certificates()
  const context = contextsOfPeers.get(maxVersion) ?? createSecureContext({ ...a, ca: ca.cert, maxVersion })
  contextsOfPeers.set(maxVersion, context)
  return context
}

/** Shakes hands over `socket` as the server. Resolves when it is done. */
export async function tlsServerPeer(socket: Socket): Promise<Socket> {
  return await secured(peerOf(new TLSSocket(socket, { isServer: true, secureContext: peersContext() }), socket), 'secure')
}

/** The same as the client. */
export async function tlsClientPeer(socket: Socket): Promise<Socket> {
  return await secured(startTlsClient(socket), 'secureConnect')
}

/** Starts to shake hands over `socket` as the client. What is written before that is done is sent then. */
export function startTlsClient(socket: Socket, maxVersion: Version = 'TLSv1.3'): Socket {
  return peerOf(connect({ socket, servername: 'a.test', secureContext: peersContext(maxVersion) }), socket)
}

function peerOf(tls: TLSSocket, socket: Socket): Socket {
  // Without a write of their own to go with, short records would wait for the other's delayed ACK, 40 ms.
  socket.setNoDelay(true)
  tls.on('error', () => {}).pause()
  const carrier = carrierHandle(socket) as CarrierHandle
  tls.resetAndDestroy = () => {
    closeByReset(carrier)
    return tls.destroy()
  }
  return tls
}

async function secured(peer: Socket, event: 'secure' | 'secureConnect'): Promise<Socket> {
  await once(peer, event)
  // Node's own stream loses what it is to end with inside of the read that completes the handshake. And session tickets are on their way, whose
  // writing would meet a reset, and keep it to itself.
  await turns(5)
  return peer
}
