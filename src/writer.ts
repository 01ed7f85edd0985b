// The contract of a connection's writing side.

import type { Uint8ArrayList } from 'uint8arraylist'

/** Bytes that a writer and its sink take; both take strings too, which mean their UTF-8. */
export type Chunk = Uint8Array | Uint8ArrayList

/** What a sink reads from. */
export type Source = AsyncIterable<Chunk | string> | Iterable<Chunk | string>

/**
 * The bytes that the peer is sent. Callable: `writer(source)` is the sink of it-pipe. Async: `Writer.t`.
 *
 * - Bytes leave in the order of the calls. `write` never blocks and does not copy: data must not be changed until `flushed()`.
 * - The first write of a turn of the event loop goes out at once, the others of that turn together.
 * - `flushed()` covers exactly the bytes written before it was called.
 * - After `close()` a write throws `ConnectionClosedError` (`flushed()` may still be called); after the connection broke,
 *   `write` throws and `flushed` rejects with what broke it. Differs from Async, where `flushed` waits for ever.
 * - As a sink it pulls from its source only as fast as the peer takes the bytes, flushes, then half-closes. If the source throws,
 *   the connection is aborted, so that the peer can't mistake a truncated stream for a whole one (TCP; a unix peer can only
 *   see an end), and the sink rejects with the source's error. If the connection breaks, the source's `return()` is
 *   called, not awaited. A second sink at once: `BusyError`; one after the half-close: `ConnectionClosedError`.
 * - If bytes wait to be handed over and none has been for `bufferAgeLimit`, the connection is aborted with `BufferAgeLimitError`.
 */
export interface Writer {
  /**
   * Writes all chunks of `source`, flushes, then half-closes. Resolves when FIN is sent. At most 512 KiB wait in the
   * process at a time, plus one chunk. A source that is refused since the writer is closed is let go.
   *
   * @throws {BusyError} If another sink is at work.
   * @throws {ConnectionClosedError} If the writer is closed.
   */
  (source: Source): Promise<void>
  /** Bytes handed to the operating system. */
  readonly bytesWritten: number
  /** Bytes accepted by `write()` and not yet handed to the operating system. */
  readonly bytesPending: number
  /** Whether `close()` was called, or the connection is closed or broken. */
  readonly isClosed: boolean
  /** Milliseconds for which the peer may take none of the waiting bytes; `Infinity` for no limit. May be changed at any time. */
  bufferAgeLimit: number
  /**
   * Writes bytes, or a string as UTF-8. Never blocks, never awaits: what the system does not take waits in memory, so a loop
   * should await `flushed()` or use the sink.
   *
   * @throws {TypeError} If `data` is nothing that can be written.
   * @throws {ConnectionClosedError} If the writer is closed.
   * @throws {ConnectionResetError} If the connection broke.
   */
  write(data: Chunk | string): void
  /**
   * The sink without its half-close: several sources in a row. Resolves when all is flushed.
   *
   * @throws Whatever `source` throws; the connection is then aborted.
   * @throws {BusyError} If another sink is at work.
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
   * @throws {ConnectionResetError} If the connection broke before all was handed over.
   * @throws {BufferAgeLimitError} If the peer took none of the bytes for `bufferAgeLimit`.
   * @throws {ConnectionClosedError} If `abort()` was called before that.
   */
  close(): Promise<void>
}
