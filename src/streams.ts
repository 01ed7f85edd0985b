// Connections as streams of Node.js and of the web, and streams of Node.js as connections.

import type { Duplex } from 'node:stream'
import { type SocketAddress, UNNAMED } from './address.ts'
import type { ByteStream } from './connection.ts'
import type { ConnectionDuplex } from './duplex.ts'
import { checkStream, take } from './interop/checked-stream.ts'
import { SocketLikeDuplex } from './interop/connection-duplex.ts'
import { webStreamsOver } from './interop/web-streams.ts'
import { type ConnectionOptions, checkOptions, connectionSettings } from './options.ts'
import { ByteConnection } from './stream/byte-connection.ts'
import { ByteStreamFacade } from './stream/byte-stream-facade.ts'
import { checkDuplex, DuplexTransport } from './stream/duplex-transport.ts'
import type { WebStreams } from './web-streams.ts'

/**
 * Makes a {@link ByteStream} from any Node.js Duplex: our reader and writer over an ssh channel, a serial port or a pipe.
 *
 * The laws of reader and writer hold as far as the stream supports them: half-close, and backpressure in both directions. Chunks are
 * copied, since their memory may belong to a pool. Bytes count as handed over once the stream has called back for them. A stream destroyed
 * before its end is a `ConnectionResetError`, even if it was destroyed without an error. `abort()` destroys it with an error, or resets it
 * where it is a TCP socket. `keepAlive` has no effect. If only one direction of the stream is left, the reader is at its end, or the writer
 * is closed.
 *
 * Ownership: from then on the stream, its errors and its closing belong to the ByteStream. Cancellation: by `close()` and `abort()`. Can be
 * called once for each stream.
 *
 * @throws {TypeError} If `duplex` is not a Duplex, is in object mode or has an encoding, or an option has the wrong type.
 * @throws {RangeError} If an option is out of range.
 * @throws {BusyError} If something else reads the stream: another ByteStream, or a `'readable'` listener.
 * @example
 * ```ts
 * import { PassThrough } from 'node:stream'
 * import { fromDuplex } from 'it-tcp'
 *
 * await using echo = fromDuplex(new PassThrough())
 * echo.writer.write('hello\n')
 * console.log(await echo.reader.readLine()) // hello
 * ```
 */
export function fromDuplex(duplex: Duplex, options: ConnectionOptions = {}): ByteStream {
  const action = 'Cannot make a ByteStream'
  checkDuplex(duplex)
  checkOptions(action, options)
  const settings = connectionSettings(action, options)
  const transport = new DuplexTransport(duplex)
  const init = { remoteAddress: UNNAMED, localAddress: UNNAMED, isAccepted: false, peer: 'a stream of Node.js' }
  const machine = new ByteConnection<SocketAddress>(transport, settings, init)
  // Where it has no such side, or somebody has ended it.
  if (transport.isWritableEnded) machine.outgoing.finish()
  return new ByteStreamFacade(machine)
}

/**
 * Makes a Node.js Duplex from a connection, for whatever needs one: `pipeline()`, parsers, database clients. It reads only while its
 * consumer does, may be half-open, and ends, fails and closes as the connection does.
 *
 * `destroy()` is `connection.close({ forceAfter: 0, linger: 0 })`; `destroy(error)` is `connection.abort(error)`. `'close'` comes when the
 * descriptor is closed. An error of the connection becomes the Duplex's `'error'`, for which somebody must listen, as on every stream; a
 * `close()` or `abort()` from elsewhere is reported only if somebody listens. For something that needs the socket itself, such as a
 * `node:http` server, use `connection.detach()`.
 *
 * Ownership: reader and writer belong to the Duplex from then on. Cancellation: by `destroy()`. Can be called once for each connection.
 *
 * @throws {TypeError} If `connection` is no connection.
 * @throws {BusyError} If a read or a sink is pending, or it belongs to another stream already.
 * @throws {ConnectionClosedError} If the connection is closed, aborted or detached.
 * @example
 * ```ts
 * import { pipeline } from 'node:stream/promises'
 * import { createGzip } from 'node:zlib'
 * import { connect, toDuplex, toHostAndPort } from 'it-tcp'
 *
 * const duplex = toDuplex(await connect(toHostAndPort('localhost', 7)))
 * await pipeline(duplex, createGzip(), duplex)
 * ```
 */
export function toDuplex(connection: ByteStream): ConnectionDuplex {
  checkStream('Cannot make a Duplex', 'connection', connection)
  take(connection)
  return new SocketLikeDuplex(connection)
}

/**
 * Makes web streams from a connection, for `pipeThrough()`, `CompressionStream`, `new Response(readable)`.
 *
 * Half-close, backpressure and errors are passed on. Nothing is read ahead beyond what the connection itself reads. Closing the writable is
 * `writer.close()`; aborting it is `connection.abort(reason)`. After cancelling the readable no further byte is taken, the writable
 * continues to work, and the peer is held back if it sends more. Once both are done, cancelled or not, the connection closes. An error of
 * the connection reaches both.
 *
 * Ownership: reader and writer belong to the streams from then on. Cancellation: by `cancel()` and `abort()`. Can be called once for each
 * connection.
 *
 * @throws {TypeError} If `connection` is no connection.
 * @throws {BusyError} If a read or a sink is pending, or it belongs to another stream already.
 * @throws {ConnectionClosedError} If the connection is closed, aborted or detached.
 * @example
 * ```ts
 * const { readable, writable } = toWebStreams(await connect(toHostAndPort('localhost', 7)))
 * const sent = new Response('hello').body?.pipeTo(writable)
 * console.log(await new Response(readable).text())
 * await sent
 * ```
 */
export function toWebStreams(connection: ByteStream): WebStreams {
  checkStream('Cannot make web streams', 'connection', connection)
  take(connection)
  return webStreamsOver(connection)
}
