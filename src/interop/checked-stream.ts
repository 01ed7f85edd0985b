// What may be turned into another kind of stream: a ByteStream that nobody uses at the moment.

import { inspect } from 'node:util'
import type { ByteStream } from '../connection.ts'
import { BusyError, ConnectionClosedError, withOrigin } from '../errors.ts'
import { machineOf } from '../stream/byte-stream-facade.ts'

// What has become another kind of stream is that one's for good.
const taken = new WeakSet<ByteStream>()

/** Notes that `stream`, which has passed {@link checkStream}, is something else's from now on. */
export function take(stream: ByteStream): void {
  taken.add(stream)
}

/**
 * @throws {TypeError} If `stream` is no ByteStream.
 * @throws {BusyError} If a read or a sink is pending on it, or it was taken before.
 * @throws {ConnectionClosedError} If it was closed, aborted or detached. What broke it is told to whoever reads what had arrived.
 */
export function checkStream(action: string, name: string, stream: ByteStream): void {
  if (!isByteStream(stream)) {
    throw new TypeError(`${action} as '${name}' must be a Connection or another ByteStream: received ${inspect(stream, { depth: 0 })}`)
  }
  const machine = machineOf(stream)
  if (machine?.incoming.isClosed === true) throw withOrigin(new ConnectionClosedError(`${action} as '${name}' is closed`), machine)
  if (taken.has(stream)) throw withOrigin(new BusyError(`${action} as '${name}' belongs to another stream already`), machine ?? stream)
  if (machine === undefined) return
  if (machine.incoming.isBusy) throw withOrigin(new BusyError(`${action} as a read of '${name}' is pending`), machine)
  if (machine.outgoing.pump !== undefined) throw withOrigin(new BusyError(`${action} as a source is being written to '${name}'`), machine)
}

function isByteStream(stream: Partial<ByteStream> | null | undefined): boolean {
  return (
    typeof stream === 'object' &&
    typeof stream?.reader?.read === 'function' &&
    typeof stream.writer === 'function' &&
    typeof stream.close === 'function' &&
    typeof stream.abort === 'function' &&
    typeof stream.signal?.aborted === 'boolean'
  )
}
