// The contract of a connection: a reader and a writer that share a socket, and how they are closed.

import type { Socket } from 'node:net'
import type { Duplex } from 'it-stream-types'
import type { SocketAddress } from './address.ts'
import type { ProxyHeader } from './proxy-header.ts'
import type { Reader } from './reader.ts'
import type { ConnectionTls, StartTlsOptions, TlsClientOptions, TlsContext } from './tls.ts'
import type { Source, Writer } from './writer.ts'

/** A PROXY header that a server has read, and from whom. */
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
   * Milliseconds for handing over what was written, after which the connection is aborted; 0 aborts at once what is not with the
   * operating system yet.
   *
   * @default 30_000
   */
  forceAfter?: number
  /**
   * Milliseconds to wait for the peer's FIN once ours is sent. A peer that does not close is waited for that long; 0 closes right behind our FIN, and
   * the system then sends a RST if there is input that was not read.
   *
   * @default 2_000
   */
  linger?: number
}

/**
 * A two-way stream of bytes, whatever carries it: what a {@link Connection} has that needs no socket. A handler that is typed with it runs over TCP,
 * unix sockets, TLS, memory and any other stream.
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
   * Aborted when the descriptor closes, however it ended. `reason` is what broke the connection, the reason given to `abort()`, or
   * after an orderly close a `ConnectionClosedError`.
   */
  readonly signal: AbortSignal
  /** Resolves once the descriptor is closed. Never rejects. */
  readonly closed: Promise<void>
  /**
   * Flushes, sends FIN, reads and throws away until the peer's FIN, for 2 s at most, then closes the descriptor. Resolves
   * when it is closed. Idempotent: a second call gives the same promise, and may shorten `forceAfter`. A pending
   * read rejects with `ConnectionClosedError`.
   *
   * @throws {ConnectionResetError} If the peer or the network broke the connection before all was handed over.
   * @throws {ConnectionClosedError} If `forceAfter` passed, or `abort()` was called, before that.
   */
  close(options?: CloseOptions): Promise<void>
  /**
   * Closes the descriptor at once: with a RST on TCP, so that the peer sees an error, not an end; a unix socket is just closed.
   * Pending reads and flushes reject. Idempotent; has no effect on a connection that is closed.
   */
  abort(reason?: unknown): void
}

/**
 * A TCP or unix-domain connection: a reader and a writer that share a socket, and a duplex for it-pipe. Async: the
 * `(socket, reader, writer)` of `Tcp.connect`.
 *
 * - No socket error is ever unhandled and none is lost: it reaches the pending read, flush or sink, `signal.reason`, or, if nobody
 *   waits, the next call.
 * - `close()` flushes, sends FIN, then reads and throws away until the peer's FIN, for 2 s at most, then closes the descriptor.
 * - `signal` is aborted exactly when the descriptor closes. A reset is noticed at once while the reader has room, otherwise at the
 *   next read or write; a mere FIN settles `reader.ended`, and after it only a write notices a reset.
 * - When the peer's FIN has been noticed and the writer is closed, the descriptor is released by itself; buffered bytes stay readable.
 * - TCP_NODELAY is on.
 * - After `abort(reason)` reads, flushes, writes and sinks reject with `ConnectionClosedError` whose `cause` is the reason.
 *
 * Leaving an `await using` scope is `close()`. It throws if bytes written could not be handed over, unless a read, a write
 * or a sink has told so already; for a connection that a server accepted it never throws for what the client did.
 */
export interface Connection<out A extends SocketAddress = SocketAddress> extends ByteStream {
  /**
   * The socket itself, for what can be set on it and asked of it: `setNoDelay`, `setKeepAlive`, `setTimeout`, `ref`, `unref`, `address()`. Its bytes are the
   * connection's: reading from it, writing to it, piping it, listening for `'data'` or `'readable'`, or wrapping it in a `TLSSocket` or giving it to a server of
   * `node:http` throws a `BusyError`. For a socket of your own call {@link detach}; for a stream of Node.js, `toDuplex`. Closing it by hand is not supported.
   */
  readonly socket: Socket
  /** The peer's address; the path of an unnamed unix peer is `''`. */
  readonly remoteAddress: A
  /** The address on this side. */
  readonly localAddress: A
  /** What is known of TLS; null while the connection speaks none. */
  readonly tls: ConnectionTls | null
  /**
   * Goes on in TLS: with a {@link TlsContext} as its server, otherwise as its client. The reader, the writer and this connection stay the same objects.
   *
   * What arrived and was not read is part of the handshake, and is never read. What was written before leaves in clear, first; what is written
   * meanwhile is held, and leaves encrypted once the peer is verified, or never. Resolves when the peer is verified. Reads meanwhile reject
   * with `BusyError`.
   *
   * @throws {TlsError} If the handshake fails, or the peer is not who it should be. The connection is aborted then.
   * @throws {HandshakeTimeoutError} If `timeout` passes first. The connection is aborted then.
   * @throws `signal.reason` if `signal` aborts first. The connection is aborted then.
   * @throws {BusyError} If a read or a sink is pending, or the connection speaks TLS already; nothing happens then.
   * @throws {ConnectionClosedError} If the connection or the writer is closed, or the peer has ended; the error that broke it, if it is broken.
   * @throws {TypeError} If an argument has the wrong type.
   * @throws {RangeError} If an option is out of range.
   */
  startTls(options: TlsContext | TlsClientOptions | true, limits?: StartTlsOptions): Promise<void>
  /**
   * What a PROXY header told of this connection, and `via`, who sent it; null without one. `remoteAddress` is the client then, and `localAddress`
   * what it dialled.
   */
  readonly proxy: ReceivedProxyHeader | null
  /**
   * Who is at the other end of a unix socket, told by the kernel and not by the peer, as of when it connected: on an accepted connection the client, on a
   * dialled one whoever listened. Kept after the close. Null for TCP, without koffi, and elsewhere than on Linux and macOS. Behind a PROXY header it is who sent
   * that. `uid` is what to decide by: a `pid` may be another process's by now.
   */
  readonly peerCredentials: PeerCredentials | null
  /**
   * Gives the socket up, as an ordinary one, to something else that works with sockets, such as a server of `node:http`. What was written is flushed
   * first; what was received and not read comes first from the socket, and nothing has set it flowing. Its events, errors and closing are the
   * caller's from then on, and half-open stays allowed. Reader and writer reject with `ConnectionClosedError` after it; `idleTimeout` and
   * `bufferAgeLimit` end. On a server the slot is held until the socket closes, which is when `closed` resolves; the end of the handler does not close it.
   *
   * @throws {BusyError} If a read or a sink is pending; nothing happens then.
   * @throws {ConnectionClosedError} If the connection is closed or detached; the error that broke it, if it is broken.
   */
  detach(): Promise<Socket>
}
