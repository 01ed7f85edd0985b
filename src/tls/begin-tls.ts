// TLS over the handle of a carrier: how it begins, and what it tells whoever judges the peer.

import { Socket } from 'node:net'
import { lent } from '../stream/read-buffer.ts'
import { BareTls } from '../system/bare-tls.ts'
import { rememberName, type TlsSocketOwner } from '../system/native-tls.ts'
import type { StreamHandle } from '../system/node-internals.ts'
import { createTlsSocket, type TlsSocketInternals } from '../system/tls-socket.ts'
import type { Handshake, Judged } from './handshake.ts'

/** Over a connected socket, or the handle of a client without one. A client's first words are sent at once. */
export function beginTls(carrier: Socket | StreamHandle, handshake: Handshake, owner: TlsSocketOwner): TlsSocketInternals | BareTls {
  const { options, isServer, readsName } = handshake
  const isSocket = carrier instanceof Socket
  const tls = isSocket ? createTlsSocket(carrier, options, owner, lent.bytes) : new BareTls(carrier, options, owner, lent.bytes)
  if (readsName && tls._handle !== null) rememberName(tls._handle, options)
  if (!isServer) sayHello(tls as TlsSocketInternals, handshake)
  return tls
}

/** What is asked of it when the handshake is done. */
export function judged(socket: TlsSocketInternals | BareTls): Judged {
  const { _handle: handle } = socket
  return { socket, chainError: () => handle?.verifyError() ?? undefined, askedFor: () => handle?.getServername() || undefined }
}

// Which host it asks for, and which session it offers.
function sayHello(tls: TlsSocketInternals, handshake: Handshake): void {
  const handle = tls._handle
  if (handle === null) return
  handle.enableSessionCallbacks()
  handle.onnewsession = (_id, session) => handshake.keep(session)
  const session = handshake.takeSession()
  if (session !== undefined) handle.setSession(session)
  if (handshake.askFor !== undefined) tls.setServername(handshake.askFor)
  tls._start()
}
