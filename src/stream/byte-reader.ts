// The reader that users get: its methods and iterators, over what has arrived.

import { inspect, types } from 'node:util'
import { checkChoice, checkCount, checkDuration, checkMaxLength, checkOptions, checkSignal, DEFAULT_MAX_LENGTH } from '../options.ts'
import type { Bytes, LimitedReadOptions, LineOptions, Reader, ReadOptions } from '../reader.ts'
import type { Incoming } from './incoming.ts'
import { type LineFormat, lineFormat } from './line-format.ts'
import { type Pass, PendingRead } from './pending-read.ts'
import { all, copyOf, exactly, INCOMPLETE, into, line, lines, Search, type Take, takeChunk, takeNext, until } from './reads.ts'

const ACTION = 'Cannot read'

/** The implementation of {@link Reader}. */
export class ByteReader implements Reader {
  readonly #incoming: Incoming

  constructor(incoming: Incoming) {
    this.#incoming = incoming
  }

  /** What the errors of a reader of ours are attributed to. */
  static originOf(reader: object): object {
    return reader instanceof ByteReader ? reader.#incoming.origin : reader
  }

  /** The chunks of a reader of ours, for a loop of our own: what arrives while it waits may be passed on in the reader's place. */
  static passing(reader: object, pass: Pass): object {
    return reader instanceof ByteReader ? { [Symbol.asyncIterator]: () => new ChunkIterator(reader.#incoming, undefined, pass) } : reader
  }

  get bytesRead(): number {
    return this.#incoming.bytesRead
  }

  get bytesAvailable(): number {
    return this.#incoming.bytesAvailable
  }

  get ended(): Promise<void> {
    return this.#incoming.ended
  }

  read(options?: ReadOptions): Promise<Bytes | null> {
    return refusal(checkReadOptions, options) ?? this.#incoming.start('read', options, takeChunk)
  }

  readExactly(length: number, options?: ReadOptions): Promise<Bytes | null> {
    return (
      refusal(checkLength, length) ?? refusal(checkReadOptions, options) ?? this.#incoming.start('take', options, exactly(length), length)
    )
  }

  readUntil(delimiter: Uint8Array | string, options?: LimitedReadOptions): Promise<Bytes | null> {
    const invalid = refusal(checkDelimiter, delimiter) ?? refusal(checkLimited, options)
    if (invalid !== undefined) return invalid
    // A copy: the caller may go on to use its own.
    const take = until(Uint8Array.from(Buffer.from(delimiter as Uint8Array)), options?.maxLength ?? DEFAULT_MAX_LENGTH)
    return this.#incoming.start('take', options, take, Number.POSITIVE_INFINITY)
  }

  peek(length: number, options?: ReadOptions): Promise<Bytes | null> {
    return (
      refusal(checkLength, length) ?? refusal(checkReadOptions, options) ?? this.#incoming.start('take', options, copyOf(length), length)
    )
  }

  readLine(options?: LineOptions): Promise<string | null> {
    const invalid = refusal(checkLineOptions, options)
    if (invalid !== undefined) return invalid
    const format = formatOf(options)
    const take = line(new Search(format.ending), format, options?.maxLength ?? DEFAULT_MAX_LENGTH)
    return this.#incoming.start('take', options, take, Number.POSITIVE_INFINITY)
  }

  lines(options?: LineOptions): AsyncIterableIterator<string> {
    checkLineOptions(options)
    return new LineIterator(this.#incoming, options, line)
  }

  lineBatches(options?: LineOptions): AsyncIterableIterator<string[]> {
    checkLineOptions(options)
    return new LineIterator(this.#incoming, options, lines)
  }

  chunks(options?: ReadOptions): AsyncIterableIterator<Bytes> {
    checkReadOptions(options)
    return new ChunkIterator(this.#incoming, options)
  }

  readAll(options?: LimitedReadOptions): Promise<Bytes> {
    const invalid = refusal(checkLimited, options)
    if (invalid !== undefined) return invalid
    return this.#incoming.start('take', options, all(options?.maxLength ?? Number.POSITIVE_INFINITY), Number.POSITIVE_INFINITY)
  }

  readInto(buffer: Uint8Array, options?: ReadOptions): Promise<number | null> {
    return (
      refusal(checkBuffer, buffer) ?? refusal(checkReadOptions, options) ?? this.#incoming.start('into', options, into(buffer), 0, buffer)
    )
  }

  discard(options?: ReadOptions): Promise<number> {
    return refusal(checkReadOptions, options) ?? this.#incoming.discard(options)
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<Bytes> {
    return new ChunkIterator(this.#incoming)
  }

  [inspect.custom](): string {
    const { bytesRead, bytesAvailable, isOver, isBusy } = this.#incoming
    return `Reader { bytesRead: ${bytesRead}, bytesAvailable: ${bytesAvailable}, ended: ${isOver}, pendingRead: ${isBusy} }`
  }
}

/** A loop over the chunks of a reader; it is the pending read itself. Ended by `return()`, while the reader lives on. */
class ChunkIterator extends PendingRead implements AsyncIterableIterator<Bytes, undefined> {
  readonly #incoming: Incoming
  readonly #options: ReadOptions | undefined
  #isDone = false

  constructor(incoming: Incoming, options?: ReadOptions, pass?: Pass) {
    super('next', takeNext, undefined, pass)
    this.#incoming = incoming
    this.#options = options
  }

  next(): Promise<IteratorResult<Bytes, undefined>> {
    if (this.#isDone) return Promise.resolve({ value: undefined, done: true })
    return this.#incoming.takeNow(takeNext, this.#options) ?? this.#incoming.wait(this, 0, this.#options)
  }

  return(): Promise<IteratorResult<Bytes, undefined>> {
    this.#isDone = true
    this.#incoming.leave(this)
    return Promise.resolve({ value: undefined, done: true })
  }

  [Symbol.asyncIterator](): this {
    return this
  }
}

/** A loop over the lines of a reader, one or many at a time; it is the pending read itself. Ended by `return()`, while the reader lives on. */
class LineIterator<T> extends PendingRead implements AsyncIterableIterator<T, undefined> {
  readonly #incoming: Incoming
  readonly #options: LineOptions | undefined
  readonly #search: Search
  #isDone = false

  constructor(
    incoming: Incoming,
    options: LineOptions | undefined,
    read: (search: Search, format: LineFormat, maxLength: number) => Take<T | null>
  ) {
    const format = formatOf(options)
    const search = new Search(format.ending)
    const take = read(search, format, options?.maxLength ?? DEFAULT_MAX_LENGTH)
    super('take', (queue, isEnded) => {
      const found = take(queue, isEnded)
      if (found === INCOMPLETE) return INCOMPLETE
      return found === null ? { value: undefined, done: true } : { value: found, done: false }
    })
    this.#incoming = incoming
    this.#options = options
    this.#search = search
  }

  next(): Promise<IteratorResult<T, undefined>> {
    if (this.#isDone) return Promise.resolve({ value: undefined, done: true })
    // Other reads may have taken what was searched.
    this.#search.restart()
    const take = this.take as Take<IteratorResult<T, undefined>>
    return this.#incoming.takeNow(take, this.#options) ?? this.#incoming.wait(this, Number.POSITIVE_INFINITY, this.#options)
  }

  return(): Promise<IteratorResult<T, undefined>> {
    this.#isDone = true
    this.#incoming.leave(this)
    return Promise.resolve({ value: undefined, done: true })
  }

  [Symbol.asyncIterator](): this {
    return this
  }
}

function formatOf(options: LineOptions | undefined): LineFormat {
  return lineFormat(options?.ending, options?.encoding)
}

// Arguments are checked before anything happens, and every failure of a read is a rejection, never a throw.
function refusal<T>(check: (value: T) => void, value: T): Promise<never> | undefined {
  try {
    check(value)
    return undefined
  } catch (error) {
    return Promise.reject(error)
  }
}

function checkReadOptions(options: ReadOptions | undefined): void {
  if (options === undefined) return
  checkOptions(ACTION, options)
  checkSignal(ACTION, options.signal)
  if (options.timeout !== undefined) checkDuration(ACTION, 'timeout', options.timeout)
}

function checkLimited(options: LimitedReadOptions | undefined): void {
  checkReadOptions(options)
  if (options?.maxLength !== undefined) checkMaxLength(ACTION, options.maxLength)
}

function checkLineOptions(options: LineOptions | undefined): void {
  checkLimited(options)
  if (options?.ending !== undefined) checkChoice(ACTION, 'ending', options.ending, ['any', 'crlf'])
  if (options?.encoding !== undefined) checkChoice(ACTION, 'encoding', options.encoding, ['utf8', 'latin1'])
}

function checkLength(length: unknown): void {
  checkCount(ACTION, 'length', length, 0)
}

function checkDelimiter(delimiter: unknown): void {
  if (typeof delimiter !== 'string' && !types.isUint8Array(delimiter)) {
    throw new TypeError(`${ACTION} as 'delimiter' must be a Uint8Array or a string: received ${inspect(delimiter)}`)
  }
  if (delimiter.length === 0) throw new RangeError(`${ACTION} as 'delimiter' must not be empty: received ${inspect(delimiter)}`)
}

function checkBuffer(buffer: unknown): void {
  if (!types.isUint8Array(buffer)) throw new TypeError(`${ACTION} as 'buffer' must be a Uint8Array: received ${inspect(buffer)}`)
  if (buffer.byteLength === 0) throw new RangeError(`${ACTION} as 'buffer' must not be empty: received 0 bytes`)
}
