// Two connections as one: what comes from each goes to the other, its end and its breaking too.

import type { Connection } from 'it-tcp'

/**
 * Relays until both sides have ended. An end is passed on as a half-close, behind all bytes; a reset, or whatever else breaks
 * a connection, as a reset, behind the bytes that arrived before it. A side that does not read stops the other from sending.
 *
 * @throws What broke it first. Both connections are aborted then.
 */
export async function relay(client: Connection, upstream: Connection): Promise<void> {
  let failure: { readonly error: unknown } | undefined
  const note = (error: unknown): void => {
    failure ??= { error }
  }
  // A sink whose source breaks aborts its own connection. When the sink breaks, the other direction goes on to its end all the same:
  // a server may refuse an upload with an answer and a reset behind it, and the answer is still to be delivered.
  await Promise.all([upstream.writer(client.reader).catch(note), client.writer(upstream.reader).catch(note)])
  if (failure === undefined) return
  client.abort(failure.error)
  upstream.abort(failure.error)
  throw failure.error
}
