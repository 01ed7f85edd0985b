// The contract of a connection's reading side.

/** What reads return: bytes in an ArrayBuffer, as `crypto.subtle` and `Blob` want them. */
export type Bytes = Uint8Array<ArrayBuffer>

/** The options of every read. */
export interface ReadOptions {
  /** Makes the read reject with `signal.reason`, without taking a byte. */
  signal?: AbortSignal
  /**
   * Milliseconds for the whole read, above 0, after which it rejects with `ReadTimeoutError`, without taking a byte; `Infinity` for no limit. Costs
   * less than a signal. For an iterator: for each turn of the loop.
   *
   * @default Infinity
   */
  timeout?: number
}

/** The options of reads that look for something, or for the end. */
export interface LimitedReadOptions extends ReadOptions {
  /**
   * Bytes that the result may have, a delimiter not counted; `Infinity` for no limit.
   *
   * @default 65_536 (64 KiB); none for `readAll`
   */
  maxLength?: number
}

/** The options of reads of lines. */
export interface LineOptions extends LimitedReadOptions {
  /**
   * What ends a line: `'any'` is `\n` or `\r\n`, `'crlf'` only `\r\n`, so that a lone `\n` or `\r` is a character of the line. Where lines are commands, as in
   * SMTP, and another program on the way takes only `\r\n` for an end, `'any'` would let a sender smuggle commands past it.
   *
   * @default 'any'
   */
  ending?: 'any' | 'crlf'
  /**
   * How the bytes of a line are read as text; `'latin1'` gives a character for each byte.
   *
   * @default 'utf8'
   */
  encoding?: 'utf8' | 'latin1'
}

/**
 * The bytes that the peer sends. Async: `Reader.t`.
 *
 * - One position: iterating and every read method share it, so they can be mixed; nothing is lost or delivered twice.
 * - Leaving a loop early leaves the reader open, and the next read goes on where the loop stopped.
 * - Chunks are never empty and are the caller's to keep: a chunk shares its ArrayBuffer with nothing else. They have 128 KiB at most.
 * - While nobody reads, at most `readerBufferSize` bytes plus one chunk are held; then the peer feels it.
 * - Whatever the peer sends and however it is read, no turn of the event loop goes on for long: after 512 reads that need not wait the next one
 *   is in the next turn.
 * - After the peer's FIN all buffered bytes are still delivered, then the end, again and again. The writer is not affected.
 * - If the connection breaks, the bytes that arrived are delivered first, then reads reject with `ConnectionResetError`.
 *   Differs from Async, where a reset reads as a normal end: here truncation is never silent.
 * - Two reads at once: the second rejects with `BusyError` and takes nothing.
 * - A read that rejects has taken nothing: not when its signal aborted, not when the end or a limit was met. (What `discard()` has
 *   thrown away is gone.)
 * - After your own `close()` or `abort()` a pending or later read rejects with `ConnectionClosedError`; only the peer's FIN is an end.
 */
export interface Reader extends AsyncIterable<Bytes> {
  /** Bytes received so far, those still buffered included. */
  readonly bytesRead: number
  /** Bytes buffered here: what can be read without waiting. */
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
   * Reads exactly `length` bytes; null only at a clean end, before the first byte. In the middle of a message that is a truncation
   * too, which only the caller can tell.
   *
   * @throws {UnexpectedEndError} If the stream ends after some of them, which stay readable.
   */
  readExactly(length: number, options?: ReadOptions): Promise<Bytes | null>
  /**
   * Reads up to and including `delimiter`, a string meaning its UTF-8 bytes. At the end it gives the rest without a delimiter, then null:
   * where a record must end with one, check that it does.
   *
   * @throws {DelimiterNotFoundError} If `maxLength` bytes pass without it; they stay readable.
   */
  readUntil(delimiter: Uint8Array | string, options?: LimitedReadOptions): Promise<Bytes | null>
  /**
   * Gives the next `length` bytes without taking them: a copy. Fewer only at the end, then null.
   *
   * @throws {ConnectionResetError} If the connection broke before that many had arrived; what has stays readable.
   */
  peek(length: number, options?: ReadOptions): Promise<Bytes | null>
  /**
   * Reads a line of UTF-8 and gives it without its `\n` or `\r\n`; null at the end. An unterminated last line is a line.
   *
   * @throws {DelimiterNotFoundError} If `maxLength` bytes pass without a line feed; they stay readable.
   */
  readLine(options?: LineOptions): Promise<string | null>
  /**
   * Iterates over the lines, as `readLine` gives them. Leaving the loop leaves the reader open.
   *
   * @throws {TypeError | RangeError} If an option is wrong, at once.
   * @throws {DelimiterNotFoundError} If `maxLength` bytes pass without a line feed, in the loop; they stay readable.
   */
  lines(options?: LineOptions): AsyncIterableIterator<string>
  /**
   * Iterates over the lines, as many at a time as are there: at least one. For streams of many short lines, where a turn of the loop for each
   * costs more than the line. Leaving the loop leaves the reader open, behind the last batch.
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
   * Reads into the caller's buffer, as much as is there, and gives the number of bytes; null at the end.
   *
   * @throws {ConnectionResetError} If the connection broke.
   * @throws {TypeError | RangeError} If `buffer` is no Uint8Array, or empty.
   */
  readInto(buffer: Uint8Array, options?: ReadOptions): Promise<number | null>
  /**
   * Reads on to the end and throws everything away; gives the number of bytes.
   *
   * @throws {ConnectionResetError} If the connection broke; what was thrown away is gone.
   */
  discard(options?: ReadOptions): Promise<number>
}
