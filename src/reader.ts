// The contract of a connection's reading side.

/** What reads return: bytes in an ArrayBuffer, as `crypto.subtle` and `Blob` require. */
export type Bytes = Uint8Array<ArrayBuffer>

/** The options of every read. */
export interface ReadOptions {
  /** Makes the read reject with `signal.reason` when aborted, without taking a byte. */
  signal?: AbortSignal
  /**
   * Milliseconds for the whole read, above 0, after which it rejects with `ReadTimeoutError`, without taking a byte; `Infinity` for no
   * limit. Cheaper than a signal. For an iterator, it applies to each turn of the loop.
   *
   * @default Infinity
   */
  timeout?: number
}

/** The options of reads that look for something, or for the end. */
export interface LimitedReadOptions extends ReadOptions {
  /**
   * Bytes that the result may have, not counting a delimiter; `Infinity` for no limit.
   *
   * @default 65_536 (64 KiB); none for `readAll`
   */
  maxLength?: number
}

/** The options of reads by line. */
export interface LineOptions extends LimitedReadOptions {
  /**
   * What ends a line: `'any'` is `\n` or `\r\n`, `'crlf'` only `\r\n`, so that a lone `\n` or `\r` is part of the line. Where lines are
   * commands, as in SMTP, and another program on the way recognizes only `\r\n`, `'any'` would let a sender smuggle commands past it.
   *
   * @default 'any'
   */
  ending?: 'any' | 'crlf'
  /**
   * How the bytes of a line are decoded; `'latin1'` gives one character for each byte.
   *
   * @default 'utf8'
   */
  encoding?: 'utf8' | 'latin1'
}

/**
 * The bytes that the peer sends. Async: `Reader.t`.
 *
 * - One position: iterating and every read method share it, so they can be mixed; nothing is lost or delivered twice.
 * - Leaving a loop early leaves the reader open, and the next read continues where the loop stopped.
 * - Chunks are never empty and are the caller's to keep: a chunk shares its ArrayBuffer with nothing else. A chunk has 128 KiB at most. It
 *   need not begin where its ArrayBuffer begins: for numbers, `new DataView(chunk.buffer, chunk.byteOffset)`.
 * - While nobody reads, at most `readerBufferSize` bytes plus one chunk are held; then the peer is held back.
 * - Whatever the peer sends and however it is read, no turn of the event loop takes long: after 512 reads that did not have to wait, the
 *   next one happens in the next turn.
 * - After the peer's FIN all buffered bytes are still delivered, then the end, for every further read. The writer is not affected.
 * - If the connection breaks, the bytes that arrived are delivered first, then reads reject with `ConnectionResetError`.
 *   Differs from Async, where a reset reads as a normal end: here truncation is never silent.
 * - Of two reads at once, the second rejects with `BusyError` and takes nothing.
 * - A read that rejects has taken nothing, whether its signal was aborted or the end or a limit was reached. (What `discard()` has thrown
 *   away is gone.)
 * - After your own `close()` or `abort()` a pending or later read rejects with `ConnectionClosedError`; only the peer's FIN is an end.
 */
export interface Reader extends AsyncIterable<Bytes> {
  /** Bytes received so far, including those still buffered. */
  readonly bytesRead: number
  /** Bytes buffered: what can be read without waiting. */
  readonly bytesAvailable: number
  /** Resolves when the peer's FIN or a reset has been noticed, or the connection was closed here. Never rejects. */
  readonly ended: Promise<void>
  /**
   * Reads the next chunk as it arrived; null at the end.
   *
   * @throws {ConnectionResetError} If the connection broke.
   * @throws {BusyError} If another read is pending.
   */
  read(options?: ReadOptions): Promise<Bytes | null>
  /**
   * Iterates over the chunks, as iterating over the reader itself does, with options for each turn. Leaving the loop leaves the reader open.
   *
   * @throws {TypeError | RangeError} If an option is wrong, at once.
   * @throws {ReadTimeoutError} If a turn waits for longer than `timeout`, in the loop.
   */
  chunks(options?: ReadOptions): AsyncIterableIterator<Bytes>
  /**
   * Reads exactly `length` bytes; null only at a clean end, before the first byte. If that is in the middle of a message, the stream was
   * cut off too, but only the caller can know that.
   *
   * @throws {UnexpectedEndError} If the stream ends after only some of them, which stay readable.
   */
  readExactly(length: number, options?: ReadOptions): Promise<Bytes | null>
  /**
   * Reads up to and including `delimiter`, a string meaning its UTF-8 bytes. At the end it returns the rest without a delimiter, then null:
   * if a record must end with one, check that it does.
   *
   * @throws {DelimiterNotFoundError} If `maxLength` bytes pass without it; they stay readable.
   */
  readUntil(delimiter: Uint8Array | string, options?: LimitedReadOptions): Promise<Bytes | null>
  /**
   * Returns a copy of the next `length` bytes without taking them; fewer only at the end, then null.
   *
   * @throws {ConnectionResetError} If the connection broke before that many had arrived; those that had stay readable.
   */
  peek(length: number, options?: ReadOptions): Promise<Bytes | null>
  /**
   * Reads a line of UTF-8 and returns it without its `\n` or `\r\n`; null at the end. An unterminated last line is a line.
   *
   * @throws {DelimiterNotFoundError} If `maxLength` bytes pass without a line feed; they stay readable.
   */
  readLine(options?: LineOptions): Promise<string | null>
  /**
   * Iterates over the lines, as `readLine` returns them. Leaving the loop leaves the reader open.
   *
   * @throws {TypeError | RangeError} If an option is wrong, at once.
   * @throws {DelimiterNotFoundError} If `maxLength` bytes pass without a line feed, in the loop; they stay readable.
   */
  lines(options?: LineOptions): AsyncIterableIterator<string>
  /**
   * Iterates over the lines in batches: as many as have arrived, at least one. For streams of many short lines, where one turn of the loop
   * per line costs more than the line itself. Leaving the loop leaves the reader open, after the last batch.
   *
   * @throws {TypeError | RangeError} If an option is wrong, at once.
   * @throws {DelimiterNotFoundError} If `maxLength` bytes pass without a line feed, in the loop; they stay readable.
   */
  lineBatches(options?: LineOptions): AsyncIterableIterator<string[]>
  /**
   * Reads everything up to the end.
   *
   * @throws {LimitExceededError} If there is more than `maxLength`; what has arrived stays readable.
   */
  readAll(options?: LimitedReadOptions): Promise<Bytes>
  /**
   * Reads as much as is available into the caller's buffer and returns the number of bytes; null at the end.
   *
   * @throws {ConnectionResetError} If the connection broke.
   * @throws {TypeError | RangeError} If `buffer` is not a Uint8Array, or is empty.
   */
  readInto(buffer: Uint8Array, options?: ReadOptions): Promise<number | null>
  /**
   * Reads to the end and throws everything away; returns the number of bytes.
   *
   * @throws {ConnectionResetError} If the connection broke; what was thrown away is gone.
   */
  discard(options?: ReadOptions): Promise<number>
}
