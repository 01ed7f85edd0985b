// The contract of a connection: a reader and a writer that share a socket, and how they are closed.

import type { Socket } from 'node:net'
import type { Duplex } from 'it-stream-types'
import type { SocketAddress } from './address.ts'
import type { ProxyHeader } from './proxy-header.ts'
import type { Reader } from './reader.ts'
import type { ConnectionTls, StartTlsOptions, TlsClientOptions, TlsContext } from './tls.ts'
import type { Source, Writer } from './writer.ts'

/** A PROXY header that a server has read, and who sent it. */
export type ReceivedProxyHeader = ProxyHeader & { readonly via: SocketAddress }

/** Who was at the other end of a unix socket when it connected, or when it listened. */
export interface PeerCredentials {
  /** The user, as the kernel knows it: effective at that moment. */
  readonly uid: number
  /** The group, likewise. */
  readonly gid: number
  /** The process; it may have ended since, and its number be another's by now. */
  readonly pid: number
}

/** The options of `connection.close()`. */
export interface CloseOptions {
  /**
   * Milliseconds to hand over what was written, after which the connection is aborted; 0 aborts at once unless the operating system has
   * everything already.
   *
   * @default 30_000
   */
  forceAfter?: number
  /**
   * Milliseconds to wait for the peer's FIN after sending ours. A peer that does not close is waited for that long; 0 closes right after
   * our FIN, and the system then sends a RST if input was left unread.
   *
   * @default 2_000
   */
  linger?: number
}

/**
 * A two-way stream of bytes, whatever carries it: the part of a {@link Connection} that needs no socket. A handler typed with it runs over
 * TCP, Unix sockets, TLS, memory and any other stream.
 */
export interface ByteStream extends Duplex<Reader, Source, Promise<void>>, AsyncDisposable {
  /** What the peer sends. */
  readonly reader: Reader
  /** What the peer is sent. */
  readonly writer: Writer
  /** The reader, as the source of a duplex. */
  readonly source: Reader
  /** The writer, as the sink of a duplex. */
  readonly sink: Writer
  /**
   * Aborted when the descriptor closes, for whatever reason. `reason` is what broke the connection, the reason given to `abort()`, or a
   * `ConnectionClosedError` after an orderly close.
   */
  readonly signal: AbortSignal
  /** Resolves once the descriptor is closed. Never rejects. */
  readonly closed: Promise<void>
  /**
   * Flushes, sends FIN, reads and discards until the peer's FIN (for `linger` at most, 2 s by default), then closes the descriptor.
   * Resolves when it is closed. Idempotent: a second call returns the same promise, and may shorten `forceAfter`. A pending read rejects
   * with `ConnectionClosedError`.
   *
   * @throws {ConnectionResetError} If the peer or the network broke the connection before everything was handed over.
   * @throws {ConnectionClosedError} If `forceAfter` passed, or `abort()` was called, before that.
   */
  close(options?: CloseOptions): Promise<void>
  /**
   * Closes the descriptor at once: with a RST on TCP, so that the peer sees an error, not an end; a Unix socket is just closed. Pending
   * reads and flushes reject. Idempotent; has no effect on a closed connection.
   */
  abort(reason?: unknown): void
}

/**
 * A TCP or unix-domain connection: a reader and a writer that share a socket, and a duplex for it-pipe. Async: the
 * `(socket, reader, writer)` of `Tcp.connect`.
 *
 * - No socket error is ever unhandled and none is lost: it reaches the pending read, flush or sink, `signal.reason`, or, if nothing is
 *   pending, the next call.
 * - `close()` flushes, sends FIN, reads and discards until the peer's FIN, for `linger` at most, then closes the descriptor.
 * - `signal` is aborted exactly when the descriptor closes. A reset is noticed at once while the reader has room, otherwise at the
 *   next read or write; a mere FIN settles `reader.ended`, and after it only a write notices a reset.
 * - When the peer's FIN has been noticed and the writer is closed, the descriptor is released automatically; buffered bytes stay readable.
 * - TCP_NODELAY is on.
 * - After `abort(reason)`, reads, flushes, writes and sinks fail with a `ConnectionClosedError` whose `cause` is the reason.
 *
 * Leaving an `await using` scope calls `close()`. It throws if written bytes were not delivered to the system and no read, write or sink
 * has reported that yet. On accepted connections it never throws because of the client.
 */
export interface Connection<out A extends SocketAddress = SocketAddress> extends ByteStream {
  /**
   * The socket itself, for its settings and properties: `setNoDelay`, `setKeepAlive`, `setTimeout`, `ref`, `unref`, `address()`. Its bytes
   * belong to the connection: reading from it, writing to it, piping it, listening for `'data'` or `'readable'`, wrapping it in a
   * `TLSSocket` or giving it to a `node:http` server throws a `BusyError`. For a socket of your own, call {@link detach}; for a stream of
   * Node.js, `toDuplex`. Closing it by hand is not supported.
   */
  readonly socket: Socket
  /** The peer's address; the path of an unnamed unix peer is `''`. */
  readonly remoteAddress: A
  /** The address on this side. */
  readonly localAddress: A
  /** What is known about TLS; null while the connection does not use it. */
  readonly tls: ConnectionTls | null
  /**
   * Switches to TLS: with a {@link TlsContext} as its server, otherwise as its client. The reader, the writer and this connection remain
   * the same objects.
   *
   * Whatever has arrived unread is part of the handshake, and is never delivered. What was written before is sent first, in the clear; what
   * is written during the handshake is held back, and is sent encrypted once the peer is verified, or never. Resolves when the peer is
   * verified. Until then reads reject with `BusyError`.
   *
   * @throws {TlsError} If the handshake fails, or the peer is not who it should be. The connection is aborted then.
   * @throws {HandshakeTimeoutError} If `timeout` passes first. The connection is aborted then.
   * @throws `signal.reason` if `signal` aborts first. The connection is aborted then.
   * @throws {BusyError} If a read or a sink is pending, or the connection already uses TLS; nothing happens then.
   * @throws {ConnectionClosedError} If the connection or the writer is closed, or the peer has ended; the error that broke it, if it is broken.
   * @throws {TypeError} If an argument has the wrong type.
   * @throws {RangeError} If an option is out of range.
   */
  startTls(options: TlsContext | TlsClientOptions | true, limits?: StartTlsOptions): Promise<void>
  /**
   * What a PROXY header said about this connection, and `via`, who sent it; null without one. `remoteAddress` is then the client, and
   * `localAddress` what the client dialled.
   */
  readonly proxy: ReceivedProxyHeader | null
  /**
   * Who is at the other end of a unix socket, told by the kernel and not by the peer, as of when it connected: on an accepted connection the client, on a
   * dialled one whoever listened. Kept after the close. Null for TCP, without koffi, and elsewhere than on Linux and macOS. Behind a PROXY header it is who sent
   * that. `uid` is what to decide by: a `pid` may be another process's by now.
   */
  readonly peerCredentials: PeerCredentials | null
  /**
   * Gives the socket away, as an ordinary one, to something else that works with sockets, such as a `node:http` server. What was written is
   * flushed first; bytes that were received but not read come out of the socket first, and nothing has set it flowing. From then on its
   * events, errors and closing belong to the caller, and half-open stays allowed. Reader and writer then fail with `ConnectionClosedError`;
   * `idleTimeout` and `bufferAgeLimit` no longer apply. On a server the slot is held until the socket closes, which is when `closed`
   * resolves; it is not closed when the handler ends.
   *
   * @throws {BusyError} If a read or a sink is pending; nothing happens then.
   * @throws {ConnectionClosedError} If the connection is closed or detached; the error that broke it, if it is broken.
   */
  detach(): Promise<Socket>
}
