// The first words of a client: which host it asks for, and which session it offers.

import type { TlsSocketInternals } from '../system/tls-socket.ts'
import type { Handshake } from './handshake.ts'

/** Sends the ClientHello. */
export function sayHello(tls: TlsSocketInternals, handshake: Handshake): void {
  const handle = tls._handle
  if (handle === null) return
  handle.enableSessionCallbacks()
  handle.onnewsession = (_id, session) => handshake.keep(session)
  const session = handshake.takeSession()
  if (session !== undefined) handle.setSession(session)
  if (handshake.askFor !== undefined) tls.setServername(handshake.askFor)
  tls._start()
}
