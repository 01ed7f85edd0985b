// Bytes in: one position, many ways to read from it.

import { inspect } from 'node:util'
import { markAsUntransferable } from 'node:worker_threads'
import { onceAborted } from '../async/abort.ts'
import { Deferred } from '../async/deferred.ts'
import { BusyError, DelimiterNotFoundError, LimitExceededError, UnexpectedEndError, withOrigin, withTimeoutOrigin } from '../errors.ts'
import { checkCount, checkMaxLength, checkOptions, checkSignal, DEFAULT_MAX_LENGTH } from '../options.ts'
import type { Bytes, LimitedReadOptions, Reader, ReadOptions } from '../reader.ts'
import { ChunkQueue } from './chunk-queue.ts'

const WAIT = Symbol('wait')

/** Tries to complete a read from what is there; `WAIT` if it takes more. Throws when it can't be completed any more. */
type Attempt<T> = (reader: ByteReader) => T | typeof WAIT

// What a pending read does with bytes that arrive: those that need no queue have ways of their own.
type Kind = 'next' | 'read' | 'into' | 'discard' | 'attempt'

/** What can be told to go on reading: the connection's socket. Stands for the connection as the origin of errors too. */
export interface Resumable {
  resume(): void
}

/** A read that waits. */
class Pending {
  readonly kind: Kind
  readonly attempt: Attempt<unknown>
  readonly target: Uint8Array | undefined
  resolve: (value: never) => void = ignore
  unhook: (() => void) | undefined

  constructor(kind: Kind, attempt: Attempt<unknown>, target?: Uint8Array) {
    this.kind = kind
    this.attempt = attempt
    this.target = target
  }
}

const ACTION = 'Cannot read'
const LINE_FEED = new Uint8Array([0x0a])
const CARRIAGE_RETURN = 0x0d

// What a reader that never had to hold bytes holds them in.
const EMPTY = new ChunkQueue()

/** The reader of a connection, fed by it. */
export class ByteReader implements Reader {
  #queue = EMPTY
  readonly #bufferSize: number
  readonly #resume: Resumable
  readonly #origin: object
  #pending: Pending | undefined
  #wanted = 0
  #isStopped = false
  #discarded = 0
  #bytesRead = 0
  #isEnded = false
  #isReleased = false
  #hasTold = false
  #brokenBy: Error | undefined
  #closedBy: (() => Error) | undefined
  #ended: Deferred | undefined

  constructor(bufferSize: number, resume: Resumable, origin: object = resume) {
    this.#bufferSize = bufferSize
    this.#resume = resume
    this.#origin = origin
  }

  get bytesRead(): number {
    return this.#bytesRead
  }

  get bytesAvailable(): number {
    return this.#queue.byteLength
  }

  get ended(): Promise<void> {
    if (this.#ended === undefined) {
      this.#ended = new Deferred()
      if (this.isOver || this.#isReleased) this.#ended.resolve()
    }
    return this.#ended.promise
  }

  /** Whether a read was told what broke the connection. */
  get hasTold(): boolean {
    return this.#hasTold
  }

  /** Whether nothing will arrive any more. */
  get isOver(): boolean {
    return this.#isEnded || this.#brokenBy !== undefined
  }

  read(options?: ReadOptions): Promise<Bytes | null> {
    return this.#start<Bytes | null>('read', options, ByteReader.#takeChunk)
  }

  readExactly(length: number, options?: ReadOptions): Promise<Bytes | null> {
    // The common case of small records needs no more than this.
    if (options === undefined && this.#isReady && length > 0 && Number.isInteger(length) && length <= this.#queue.byteLength) {
      const bytes = this.#queue.take(length)
      this.#resumeIfRoom()
      return Promise.resolve(bytes)
    }
    const invalid = refusal(() => checkCount(ACTION, 'length', length, 0))
    if (invalid !== undefined) return invalid
    return this.#start<Bytes | null>('attempt', options, () => this.#takeExactly(length), length)
  }

  readUntil(delimiter: Uint8Array | string, options: LimitedReadOptions = {}): Promise<Bytes | null> {
    const invalid = refusal(() => {
      checkDelimiter(delimiter)
      checkLimited(options)
    })
    if (invalid !== undefined) return invalid
    const wanted = typeof delimiter === 'string' ? Buffer.from(delimiter) : delimiter
    const search = new Search(wanted, options.maxLength ?? DEFAULT_MAX_LENGTH)
    return this.#start<Bytes | null>('attempt', options, () => this.#takeUntil(search), Number.POSITIVE_INFINITY)
  }

  peek(length: number, options?: ReadOptions): Promise<Bytes | null> {
    const invalid = refusal(() => checkCount(ACTION, 'length', length, 0))
    if (invalid !== undefined) return invalid
    return this.#start<Bytes | null>('attempt', options, () => this.#copyNext(length), length)
  }

  readLine(options: LimitedReadOptions = {}): Promise<string | null> {
    const invalid = refusal(() => checkLimited(options))
    if (invalid !== undefined) return invalid
    const search = new Search(LINE_FEED, options.maxLength ?? DEFAULT_MAX_LENGTH)
    return this.#start<string | null>('attempt', options, () => this.#takeLine(search), Number.POSITIVE_INFINITY)
  }

  lines(options: LimitedReadOptions = {}): AsyncIterableIterator<string> {
    checkLimited(options)
    return new LineIterator(this, options, shiftLine, (line) => line)
  }

  lineBatches(options: LimitedReadOptions = {}): AsyncIterableIterator<string[]> {
    checkLimited(options)
    return new LineIterator(this, options, shiftLines, (line, queue, maxLength) => [line, ...(queue.shiftLines(maxLength) ?? [])])
  }

  readAll(options: LimitedReadOptions = {}): Promise<Bytes> {
    const invalid = refusal(() => checkLimited(options))
    if (invalid !== undefined) return invalid
    const maxLength = options.maxLength ?? Number.POSITIVE_INFINITY
    return this.#start<Bytes>('attempt', options, () => this.#takeAll(maxLength), Number.POSITIVE_INFINITY)
  }

  readInto(buffer: Uint8Array, options?: ReadOptions): Promise<number | null> {
    const invalid = refusal(() => checkBuffer(buffer))
    if (invalid !== undefined) return invalid
    return this.#start<number | null>('into', options, () => this.#takeInto(buffer), 0, buffer)
  }

  discard(options?: ReadOptions): Promise<number> {
    if (this.#pending === undefined) this.#discarded = 0
    return this.#start<number>('discard', options, ByteReader.#takeToEnd)
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<Bytes> {
    return new ChunkIterator(this, ByteReader.#takeNext)
  }

  /** The next chunk, for an iterator that is its own pending read. */
  nextChunk(iterator: ChunkIterator): Promise<IteratorResult<Bytes, undefined>> {
    return this.#try(ByteReader.#takeNext) ?? this.#wait(iterator)
  }

  /** The next line or lines, for an iterator. */
  nextLines<T>(iterator: LineIterator<T>, options: LimitedReadOptions): Promise<IteratorResult<T, undefined>> {
    const maxLength = options.maxLength ?? DEFAULT_MAX_LENGTH
    if (this.#isReady && options.signal === undefined) {
      const lines = iterator.shift(this.#queue, maxLength)
      if (lines !== undefined) {
        this.#resumeIfRoom()
        return Promise.resolve({ value: lines, done: false })
      }
    }
    const search = new Search(LINE_FEED, maxLength)
    const attempt = (): IteratorResult<T, undefined> | typeof WAIT => {
      const line = this.#takeLine(search)
      if (line === WAIT) return WAIT
      return line === null ? { value: undefined, done: true } : { value: iterator.from(line, this.#queue, maxLength), done: false }
    }
    const done = this.#try(attempt, options)
    if (done !== undefined) return done
    iterator.waitsIn = new Pending('attempt', attempt)
    return this.#wait(iterator.waitsIn, Number.POSITIVE_INFINITY, options.signal)
  }

  /** Settles `pending` as the end of its iterator, if it waits. */
  leave(pending: Pending | undefined): void {
    if (pending !== undefined && this.#pending === pending) this.#settle()({ value: undefined, done: true } as never)
  }

  /** See `SocketEvents`. */
  get keepsChunks(): boolean {
    const kind = this.#pending?.kind
    return kind !== 'into' && kind !== 'discard' && this.#closedBy === undefined
  }

  /** Takes bytes from the socket; see `SocketEvents`. */
  received(bytes: Uint8Array, length: number, lent: boolean): boolean {
    this.#bytesRead += length
    if (this.#closedBy !== undefined) return true
    const pending = this.#pending
    switch (pending?.kind) {
      case 'next':
        this.#settle()({ value: own(bytes, length, lent), done: false } as never)
        return true
      case 'read':
        this.#settle()(own(bytes, length, lent) as never)
        return true
      case 'discard':
        this.#discarded += length
        return true
      case 'into': {
        const target = pending.target as Uint8Array
        if (target.byteLength === 0) {
          // It was not when the read began. Writing to it would throw, out of the event loop.
          this.#hold(own(bytes, length, lent))
          this.#fail(new TypeError(`${ACTION} as 'buffer' was detached or resized while the read was pending`))
          break
        }
        const taken = Math.min(length, target.byteLength)
        target.set(taken === bytes.byteLength ? bytes : bytes.subarray(0, taken))
        if (taken < length) this.#hold(own(bytes.subarray(taken, length), length - taken, lent))
        this.#settle()(taken as never)
        break
      }
      default:
        this.#hold(own(bytes, length, lent))
        if (pending !== undefined) this.#retry(pending)
    }
    this.#isStopped = this.#queue.byteLength >= Math.max(this.#bufferSize, this.#wanted)
    return !this.#isStopped
  }

  /** Notes the peer's FIN. */
  peerEnded(): void {
    this.#isEnded = true
    this.#over()
  }

  /** Notes that the connection broke. */
  broken(error: Error): void {
    this.#brokenBy = error
    this.#over()
  }

  /**
   * Notes the end by one's own hand: what is buffered or arrives later is thrown away. The error for those who read on is made when
   * there is one who does.
   */
  close(error: () => Error): void {
    if (this.#closedBy !== undefined) return
    this.#closedBy = error
    this.#queue.clear()
    if (this.#pending !== undefined) this.#fail(error())
    // Go on reading, so that the peer's FIN is seen behind whatever is in front of it.
    this.#resumeIfRoom()
  }

  /** Settles `ended` when the descriptor is closed, if nothing else did. */
  released(): void {
    this.#isReleased = true
    this.#ended?.resolve()
  }

  #over(): void {
    this.#ended?.resolve()
    const pending = this.#pending
    if (pending !== undefined) this.#retry(pending)
  }

  #hold(chunk: Bytes): void {
    if (this.#queue === EMPTY) this.#queue = new ChunkQueue()
    this.#queue.push(chunk)
  }

  #start<T>(kind: Kind, options: ReadOptions | undefined, attempt: Attempt<T>, wanted = 0, target?: Uint8Array): Promise<T> {
    return this.#try(attempt, options) ?? this.#wait(new Pending(kind, attempt, target), wanted, options?.signal)
  }

  // What can be told without waiting; undefined if it takes more.
  #try<T>(attempt: Attempt<T>, options?: ReadOptions): Promise<T> | undefined {
    if (options !== undefined) {
      const invalid = refusal(() => checkReadOptions(options))
      if (invalid !== undefined) return invalid
    }
    if (this.#pending !== undefined) {
      return Promise.reject(this.#error(BusyError, 'Cannot read as another read of this connection is pending'))
    }
    if (options?.signal?.aborted === true) return Promise.reject(withTimeoutOrigin(options.signal.reason, this.#origin))
    try {
      const result = this.#attempt(attempt)
      return result === WAIT ? undefined : Promise.resolve(result)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  #wait<T>(pending: Pending, wanted = 0, signal?: AbortSignal): Promise<T> {
    return new Promise<T>((resolve) => {
      pending.resolve = resolve
      if (signal !== undefined) pending.unhook = onceAborted(signal, (reason) => this.#fail(withTimeoutOrigin(reason, this.#origin)))
      this.#pending = pending
      this.#wanted = wanted
      this.#resumeIfRoom()
    })
  }

  // Whether what is buffered may be taken at once.
  get #isReady(): boolean {
    return this.#pending === undefined && this.#closedBy === undefined
  }

  #attempt<T>(attempt: Attempt<T>): T | typeof WAIT {
    if (this.#closedBy !== undefined) throw this.#closedBy()
    const result = attempt(this)
    if (result === WAIT && this.#brokenBy !== undefined) {
      this.#hasTold = true
      throw this.#brokenBy
    }
    this.#resumeIfRoom()
    return result
  }

  #retry(pending: Pending): void {
    try {
      const result = this.#attempt(pending.attempt)
      if (result !== WAIT) this.#settle()(result as never)
    } catch (error) {
      this.#fail(error)
    }
  }

  // Ends the wait; the caller says with what.
  #settle(): (value: never) => void {
    const pending = this.#pending as Pending
    const { resolve } = pending
    this.#pending = undefined
    this.#wanted = 0
    pending.unhook?.()
    pending.resolve = ignore
    return resolve
  }

  // By way of resolving: the function that rejects would be memory for every idle connection.
  #fail(reason: unknown): void {
    this.#settle()(Promise.reject(reason) as never)
  }

  #resumeIfRoom(): void {
    if (!this.#isStopped || this.#queue.byteLength >= Math.max(this.#bufferSize, this.#wanted)) return
    this.#isStopped = false
    this.#resume.resume()
  }

  // Shared by all readers: a closure each would be memory for every idle connection.

  static #takeChunk(reader: ByteReader): Bytes | null | typeof WAIT {
    return reader.#queue.shift() ?? (reader.#isEnded ? null : WAIT)
  }

  static #takeNext(reader: ByteReader): IteratorResult<Bytes, undefined> | typeof WAIT {
    const chunk = reader.#queue.shift()
    if (chunk !== undefined) return { value: chunk, done: false }
    return reader.#isEnded ? { value: undefined, done: true } : WAIT
  }

  static #takeToEnd(reader: ByteReader): number | typeof WAIT {
    reader.#discarded += reader.#queue.byteLength
    reader.#queue.clear()
    return reader.#isEnded ? reader.#discarded : WAIT
  }

  #takeExactly(length: number): Bytes | null | typeof WAIT {
    const available = this.#queue.byteLength
    if (available >= length) return this.#queue.take(length)
    if (!this.#isEnded) return WAIT
    if (available === 0) return null
    throw this.#error(UnexpectedEndError, `Cannot read ${length} bytes as the stream ended after ${available}`)
  }

  #copyNext(length: number): Bytes | null | typeof WAIT {
    const available = this.#queue.byteLength
    if (available < length && !this.#isEnded) return WAIT
    if (available === 0 && length > 0) return null
    const copy = new Uint8Array(Math.min(length, available))
    this.#queue.copyTo(copy)
    return copy
  }

  #takeAll(maxLength: number): Bytes | typeof WAIT {
    const available = this.#queue.byteLength
    if (available > maxLength) throw this.#error(LimitExceededError, `Cannot read all as there are more than ${maxLength} bytes`)
    return this.#isEnded ? this.#queue.take(available) : WAIT
  }

  #takeInto(target: Uint8Array): number | null | typeof WAIT {
    const taken = this.#queue.copyTo(target)
    if (taken === 0) return this.#isEnded ? null : WAIT
    this.#queue.skip(taken)
    return taken
  }

  #takeUntil(search: Search): Bytes | null | typeof WAIT {
    const available = this.#queue.byteLength
    const found = search.in(this.#queue)
    if (found === -1 ? available >= search.maxLength + search.wanted.byteLength : found > search.maxLength) throw this.#notFound(search)
    if (found !== -1) return this.#queue.take(found + search.wanted.byteLength)
    if (!this.#isEnded) return WAIT
    if (available > search.maxLength) throw this.#notFound(search)
    return available === 0 ? null : this.#queue.take(available)
  }

  #takeLine(search: Search): string | null | typeof WAIT {
    const line = this.#queue.shiftLine(search.maxLength)
    if (line !== undefined) return line
    const available = this.#queue.byteLength
    const found = search.in(this.#queue)
    if (found === -1 && !this.#isEnded) {
      // One more may be there: a carriage return, with its line feed on the way.
      const { maxLength } = search
      if (available > maxLength + 1 || (available > maxLength && this.#queue.at(maxLength) !== CARRIAGE_RETURN))
        throw this.#notFound(search)
      return WAIT
    }
    if (available === 0) return null
    const end = found === -1 ? available : found
    const length = end > 0 && this.#queue.at(end - 1) === CARRIAGE_RETURN && found !== -1 ? end - 1 : end
    if (length > search.maxLength) throw this.#notFound(search)
    const text = decode(this.#queue.take(length))
    this.#queue.skip(Math.min(found === -1 ? end : end + 1, available) - length)
    return text
  }

  #notFound(search: Search): Error {
    const wanted = inspect(decode(search.wanted))
    return this.#error(DelimiterNotFoundError, `Cannot find ${wanted} within ${search.maxLength} bytes`)
  }

  #error<E extends Error>(Class: new (message: string) => E, message: string): E {
    return withOrigin(new Class(message), this.#origin)
  }
}

/** Where the search for a delimiter has come to, so that nothing is searched twice. */
class Search {
  readonly wanted: Uint8Array
  readonly maxLength: number
  #searched = 0

  constructor(wanted: Uint8Array, maxLength: number) {
    this.wanted = wanted
    this.maxLength = maxLength
  }

  in(queue: ChunkQueue): number {
    const found = queue.indexOf(this.wanted, this.#searched)
    this.#searched = Math.max(0, queue.byteLength - this.wanted.byteLength + 1)
    return found
  }
}

/** A loop over the chunks of a reader; it is the pending read itself. Ended by `return()`, while the reader lives on. */
class ChunkIterator extends Pending implements AsyncIterableIterator<Bytes, undefined> {
  readonly #reader: ByteReader
  #isDone = false

  constructor(reader: ByteReader, attempt: Attempt<unknown>) {
    super('next', attempt)
    this.#reader = reader
  }

  next(): Promise<IteratorResult<Bytes, undefined>> {
    return this.#isDone ? Promise.resolve({ value: undefined, done: true }) : this.#reader.nextChunk(this)
  }

  return(): Promise<IteratorResult<Bytes, undefined>> {
    this.#isDone = true
    this.#reader.leave(this)
    return Promise.resolve({ value: undefined, done: true })
  }

  [Symbol.asyncIterator](): this {
    return this
  }
}

/** A loop over the lines of a reader, one or many at a time. Ended by `return()`, while the reader lives on. */
class LineIterator<T> implements AsyncIterableIterator<T, undefined> {
  /** Takes what it is a loop over out of the queue, if that can be had cheaply. */
  readonly shift: (queue: ChunkQueue, maxLength: number) => T | undefined
  /** The same, with a first line that could not. */
  readonly from: (line: string, queue: ChunkQueue, maxLength: number) => T
  /** The read that waits, if one does. */
  waitsIn: Pending | undefined
  readonly #reader: ByteReader
  readonly #options: LimitedReadOptions
  #isDone = false

  constructor(
    reader: ByteReader,
    options: LimitedReadOptions,
    shift: (queue: ChunkQueue, maxLength: number) => T | undefined,
    from: (line: string, queue: ChunkQueue, maxLength: number) => T
  ) {
    this.#reader = reader
    this.#options = options
    this.shift = shift
    this.from = from
  }

  next(): Promise<IteratorResult<T, undefined>> {
    return this.#isDone ? Promise.resolve({ value: undefined, done: true }) : this.#reader.nextLines(this, this.#options)
  }

  return(): Promise<IteratorResult<T, undefined>> {
    this.#isDone = true
    this.#reader.leave(this.waitsIn)
    return Promise.resolve({ value: undefined, done: true })
  }

  [Symbol.asyncIterator](): this {
    return this
  }
}

function shiftLine(queue: ChunkQueue, maxLength: number): string | undefined {
  return queue.shiftLine(maxLength)
}

function shiftLines(queue: ChunkQueue, maxLength: number): string[] | undefined {
  return queue.shiftLines(maxLength)
}

// Small chunks are cut from a shared block: an ArrayBuffer of its own costs more than its bytes. A chunk that is kept keeps its block.
const BLOCK_SIZE = 16_384
const SMALL = 2048
let block = new ArrayBuffer(0)
let blockUsed = 0

/** The `length` bytes at the start of `bytes` as a chunk that is the caller's to keep. */
function own(bytes: Uint8Array, length: number, lent: boolean): Bytes {
  if (!lent) {
    // A Buffer is not what users are promised: its slice() shares memory.
    const isWhole = length === bytes.byteLength && !Buffer.isBuffer(bytes)
    return isWhole ? (bytes as Bytes) : new Uint8Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, length)
  }
  let chunk: Bytes
  if (length <= SMALL) {
    if (blockUsed + length > block.byteLength) {
      block = new ArrayBuffer(BLOCK_SIZE)
      // Who transfers one chunk to a worker would empty the others.
      markAsUntransferable(block)
      blockUsed = 0
    }
    chunk = new Uint8Array(block, blockUsed, length)
    // Aligned, as memory allocators do: what follows is copied faster.
    blockUsed += (length + 7) & ~7
  } else {
    // Not zeroed first: every byte is overwritten.
    chunk = new Uint8Array(Buffer.allocUnsafeSlow(length).buffer as ArrayBuffer, 0, length)
  }
  chunk.set(length === bytes.byteLength ? bytes : bytes.subarray(0, length))
  return chunk
}

// Arguments are checked before anything happens, and every failure of a read is a rejection, never a throw.
function refusal(check: () => void): Promise<never> | undefined {
  try {
    check()
    return undefined
  } catch (error) {
    return Promise.reject(error)
  }
}

function checkReadOptions(options: ReadOptions): void {
  checkOptions(ACTION, options)
  checkSignal(ACTION, options.signal)
}

function checkLimited(options: LimitedReadOptions): void {
  checkReadOptions(options)
  if (options.maxLength !== undefined) checkMaxLength(ACTION, options.maxLength)
}

function checkDelimiter(delimiter: unknown): void {
  if (typeof delimiter !== 'string' && !(delimiter instanceof Uint8Array)) {
    throw new TypeError(`${ACTION} as 'delimiter' must be a Uint8Array or a string: received ${inspect(delimiter)}`)
  }
  if (delimiter.length === 0) throw new RangeError(`${ACTION} as 'delimiter' must not be empty: received ${inspect(delimiter)}`)
}

function checkBuffer(buffer: unknown): void {
  if (!(buffer instanceof Uint8Array)) throw new TypeError(`${ACTION} as 'buffer' must be a Uint8Array: received ${inspect(buffer)}`)
  if (buffer.byteLength === 0) throw new RangeError(`${ACTION} as 'buffer' must not be empty: received 0 bytes`)
}

function ignore(): void {}

// Not of uint8arrays, which loads every base of multiformats for it: a third of what importing this package takes.
function decode({ buffer, byteOffset, byteLength }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString()
}
