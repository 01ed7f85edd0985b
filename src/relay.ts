// Two streams joined: what one receives, the other sends.

import type { ByteStream } from './connection.ts'
import { checkStream } from './interop/checked-stream.ts'
import type { Reader } from './reader.ts'

/** What went through a {@link relay}. */
export interface Relayed {
  /** Bytes that `a` received and `b` sent. */
  readonly aToB: number
  /** Bytes that `b` received and `a` sent. */
  readonly bToA: number
}

/**
 * Sends what `a` receives to `b` and what `b` receives to `a`: a proxy in one line. tokio's `copy_bidirectional`.
 *
 * Each direction runs as fast as its receiver takes the bytes. The end of one is passed on as a half-close while the other continues; bytes
 * that had already arrived are included, and sent first. Resolves when both directions have ended and both streams are closed. When one
 * breaks, the other is reset, so that its peer does not mistake a part for the whole; the promise then rejects with the error, once both
 * are closed.
 *
 * Ownership: both belong to the relay until it settles, and are closed then; if an argument is rejected, nothing happens to either.
 * Cancellation: call `abort(reason)` on either, which rejects the promise. A peer that neither sends nor ends is waited for: give the
 * streams an `idleTimeout`.
 *
 * @throws {TypeError} If an argument is not a ByteStream, or both are the same.
 * @throws {BusyError} If a read or a sink is pending on one, or it belongs to a Duplex or to web streams.
 * @throws {ConnectionClosedError} If one is closed, or gets closed by something else.
 * @throws {ConnectionResetError} If one breaks.
 * @example
 * ```ts
 * await Server.create(onPort(8080), { onHandlerError: 'ignore' }, async (client) => {
 *   await relay(client, await connect(toHostAndPort('localhost', 80)))
 * })
 * ```
 */
export async function relay(a: ByteStream, b: ByteStream): Promise<Relayed> {
  const action = 'Cannot relay'
  checkStream(action, 'a', a)
  checkStream(action, 'b', b)
  if (a === b) throw new TypeError(`${action} as 'b' must be another stream than 'a': received the same`)
  const before = { a: consumed(a.reader), b: consumed(b.reader) }
  try {
    await Promise.all([b.writer(a.reader), a.writer(b.reader)])
    await Promise.all([a.close(), b.close()])
  } catch (error) {
    a.abort(error)
    b.abort(error)
    await Promise.all([a.closed, b.closed])
    throw error
  }
  return { aToB: consumed(a.reader) - before.a, bToA: consumed(b.reader) - before.b }
}

/** Bytes that have been read, not only received. */
function consumed(reader: Reader): number {
  return reader.bytesRead - reader.bytesAvailable
}
