// The contract of a connection's writing side.

import type { Uint8ArrayList } from 'uint8arraylist'

/** Bytes that a writer and its sink take; both also take strings, as UTF-8. */
export type Chunk = Uint8Array | Uint8ArrayList

/** What a sink reads from. */
export type Source = AsyncIterable<Chunk | string> | Iterable<Chunk | string>

/**
 * The bytes that the peer is sent. Callable: `writer(source)` is the sink of it-pipe. Async: `Writer.t`.
 *
 * - Bytes leave in the order of the calls. `write` never blocks and does not copy: data must not be changed until `flushed()` resolves.
 * - The first write in a turn of the event loop goes out at once, the others of that turn together.
 * - `flushed()` covers exactly the bytes written before it was called.
 * - After `close()` a write throws `ConnectionClosedError` (`flushed()` may still be called); after the connection broke, `write` throws
 *   and `flushed` rejects with what broke it. Differs from Async, where `flushed` waits forever.
 * - As a sink it pulls from its source only as fast as the peer takes the bytes, flushes, then half-closes. If the source throws,
 *   the connection is aborted, so that the peer can't mistake a truncated stream for a whole one (TCP; a Unix peer can only see an end), and
 *   the sink rejects with the source's error. If the connection breaks, the source's `return()` is called but not awaited. A second sink at
 *   the same time rejects with `BusyError`, one after the half-close with `ConnectionClosedError`.
 * - If bytes are waiting and the peer has taken none for `bufferAgeLimit`, the connection is aborted with `BufferAgeLimitError`.
 */
export interface Writer {
  /**
   * Writes all chunks of `source`, flushes, then half-closes. Resolves when FIN is sent. At most 512 KiB wait in the
   * process at a time, plus one chunk. If the writer is closed, the source is released without being read.
   *
   * @throws {BusyError} If another sink is active.
   * @throws {ConnectionClosedError} If the writer is closed.
   */
  (source: Source): Promise<void>
  /** Bytes handed to the operating system. */
  readonly bytesWritten: number
  /** Bytes accepted by `write()` and not yet handed to the operating system. */
  readonly bytesPending: number
  /** Whether `close()` was called, or the connection is closed or broken. */
  readonly isClosed: boolean
  /** Milliseconds that pending bytes may wait without the peer taking any of them; `Infinity` for no limit. May be changed at any time. */
  bufferAgeLimit: number
  /**
   * Writes bytes, or a string as UTF-8. Never blocks and never waits: what the system does not take is kept in memory, so a loop should
   * await `flushed()` or use the sink.
   *
   * @throws {TypeError} If `data` can't be written.
   * @throws {ConnectionClosedError} If the writer is closed.
   * @throws {ConnectionResetError} If the connection broke.
   */
  write(data: Chunk | string): void
  /**
   * The sink without its half-close, for several sources in a row. Resolves when everything is flushed.
   *
   * @throws Whatever `source` throws; the connection is then aborted.
   * @throws {BusyError} If another sink is active.
   * @throws {ConnectionClosedError} If the writer is closed.
   * @throws {ConnectionResetError} If the connection broke.
   */
  writeAll(source: Source): Promise<void>
  /**
   * Resolves when all bytes written so far are with the operating system.
   *
   * @throws {ConnectionResetError} If the connection broke before that.
   * @throws {BufferAgeLimitError} If the peer took none of them for `bufferAgeLimit`.
   * @throws {ConnectionClosedError} If `abort()` was called before that.
   */
  flushed(): Promise<void>
  /**
   * Flushes, then sends FIN. The reader stays open. Resolves when FIN is sent; idempotent.
   *
   * @throws {ConnectionResetError} If the connection broke before everything was handed over.
   * @throws {BufferAgeLimitError} If the peer took none of the bytes for `bufferAgeLimit`.
   * @throws {ConnectionClosedError} If `abort()` was called before that.
   */
  close(): Promise<void>
}
