// What has arrived, and the read that waits for more.

import { Deferred, muted } from '../async/deferred.ts'
import { setImmediate } from '../async/platform.ts'
import { TurnBudget } from '../async/turn.ts'
import { BusyError, withOrigin, withTimeoutOrigin } from '../errors.ts'
import type { ReadOptions } from '../reader.ts'
import { ChunkQueue } from './chunk-queue.ts'
import { PendingRead, type ReadMode } from './pending-read.ts'
import type { ReadBuffer } from './read-buffer.ts'
import { INCOMPLETE, type Take } from './reads.ts'
import type { Transport } from './transport.ts'

// What a connection that never had to hold bytes holds them in.
const EMPTY = new ChunkQueue()

/** The receiving side of a connection: a queue of bytes, one pending read, and how it ended. */
export class Incoming {
  /** What is told to go on. */
  transport: Transport
  /** What its errors are attributed to. */
  readonly origin: object
  readonly #bufferSize: number
  #queue = EMPTY
  #pending: PendingRead | undefined
  // Bytes that the pending read may want to be held, beyond the size of the buffer.
  #wanted = 0
  #isStopped = false
  // Whether the read that is about to wait could be completed, and only waits for its turn.
  #isDeferred = false
  #bytesRead = 0
  #discarded = 0
  #isEnded = false
  #isReleased = false
  #wasReported = false
  #brokenBy: Error | undefined
  #closedBy: (() => Error) | undefined
  #ended: Deferred | undefined
  #budget: TurnBudget | undefined

  constructor(transport: Transport, bufferSize: number, origin: object) {
    this.transport = transport
    this.#bufferSize = bufferSize
    this.origin = origin
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
  get wasReported(): boolean {
    return this.#wasReported
  }

  /** Whether nothing will arrive any more. */
  get isOver(): boolean {
    return this.#isEnded || this.#brokenBy !== undefined
  }

  /** What broke the connection, or kept it from ending as it should. */
  get brokenBy(): Error | undefined {
    return this.#brokenBy
  }

  /** Whether a read is pending. */
  get isBusy(): boolean {
    return this.#pending !== undefined
  }

  get isClosed(): boolean {
    return this.#closedBy !== undefined
  }

  // Reads -------------------------------------------------------------------------------------------------------------

  start<T>(mode: ReadMode, options: ReadOptions | undefined, take: Take<T>, wanted = 0, target?: Uint8Array): Promise<T> {
    return this.takeNow(take, options) ?? this.wait(new PendingRead(mode, take, target), wanted, options)
  }

  /** What can be given without waiting; undefined if it takes more, or the next turn of the event loop. */
  takeNow<T>(take: Take<T>, options?: ReadOptions): Promise<T> | undefined {
    if (this.#pending !== undefined) {
      return Promise.reject(withOrigin(new BusyError('Cannot read as another read of this connection is pending'), this.origin))
    }
    if (options?.signal?.aborted === true) return muted(Promise.reject(withTimeoutOrigin(options.signal.reason, this.origin)))
    this.#isDeferred = this.#queue.byteLength > 0 && !this.#mayGoOn()
    if (this.#isDeferred) return undefined
    try {
      const result = this.#take(take)
      return result === INCOMPLETE ? undefined : Promise.resolve(result)
    } catch (error) {
      return muted(Promise.reject(error))
    }
  }

  /** Waits until the pending read can be completed; after {@link takeNow}. */
  wait<T>(pending: PendingRead, wanted: number, options?: ReadOptions): Promise<T> {
    const promise = new Promise<T>((resolve) => {
      pending.resolve = resolve
      if (options !== undefined) pending.limit(options, this.origin, (reason) => this.#fail(reason))
      this.#pending = pending
      this.#wanted = wanted
      if (this.#isDeferred) setImmediate(wake, this, pending)
      this.#resumeIfRoom()
    })
    pending.promise = promise
    return promise
  }

  /** Goes on with a read that waits for its turn. */
  wake(pending: PendingRead): void {
    if (this.#pending === pending) this.#retry(pending)
  }

  /** Settles `pending` as the end of its iterator, if it waits. */
  leave(pending: PendingRead | undefined): void {
    if (pending !== undefined && this.#pending === pending) this.#settle()({ value: undefined, done: true } as never)
  }

  /** Reads on to the end and throws everything away. */
  discard(options: ReadOptions | undefined): Promise<number> {
    if (this.#pending === undefined) this.#discarded = 0
    const toEnd: Take<number> = (queue, isEnded) => {
      this.#discarded += queue.byteLength
      queue.clear()
      return isEnded ? this.#discarded : INCOMPLETE
    }
    return this.start('discard', options, toEnd)
  }

  /** All that has arrived and was not read: it is not this reader's any more. */
  takeUnread(): Uint8Array[] {
    const chunks: Uint8Array[] = []
    this.#bytesRead -= this.#queue.byteLength
    for (let chunk = this.#queue.shift(); chunk !== undefined; chunk = this.#queue.shift()) chunks.push(chunk)
    return chunks
  }

  // News --------------------------------------------------------------------------------------------------------------

  /** See `TransportEvents`. */
  received(buffer: ReadBuffer, length: number): boolean {
    this.#bytesRead += length
    if (this.#closedBy !== undefined) return true
    const pending = this.#pending
    // A read that waits for its turn is behind what is held.
    switch (this.#queue.byteLength === 0 ? pending?.mode : 'take') {
      case 'next':
        if (pending?.pass?.(buffer.view(length)) === true) return true
        this.#settle()({ value: buffer.keep(length), done: false } as never)
        return true
      case 'read':
        this.#settle()(buffer.keep(length) as never)
        return true
      case 'discard':
        this.#discarded += length
        return true
      case 'into':
        this.#fill(pending as PendingRead, buffer, length)
        break
      default:
        this.#hold(buffer, length)
        if (pending !== undefined) this.#retry(pending)
    }
    this.#isStopped = this.#queue.byteLength >= Math.max(this.#bufferSize, this.#wanted)
    return !this.#isStopped
  }

  /** Notes the peer's end. */
  end(): void {
    this.#isEnded = true
    this.#over()
  }

  /** Notes that the connection broke. */
  break(error: Error): void {
    this.#brokenBy ??= error
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
  release(): void {
    this.#isReleased = true
    this.#ended?.resolve()
  }

  /** Does not count what was read so far as received. */
  forgetCount(): void {
    this.#bytesRead = this.#queue.byteLength
  }

  #over(): void {
    this.#ended?.resolve()
    const pending = this.#pending
    if (pending !== undefined) this.#retry(pending)
  }

  #hold(buffer: ReadBuffer, length: number, from = 0): void {
    if (this.#queue === EMPTY) this.#queue = new ChunkQueue()
    this.#queue.add(buffer, length, from)
  }

  #fill(pending: PendingRead, buffer: ReadBuffer, length: number): void {
    const target = pending.target as Uint8Array
    if (target.byteLength === 0) {
      // It was not when the read began. Writing to it would throw, out of the event loop.
      this.#hold(buffer, length)
      this.#fail(new TypeError(`Cannot read as 'buffer' was detached or resized while the read was pending`))
      return
    }
    const taken = Math.min(length, target.byteLength)
    target.set(taken === buffer.bytes.byteLength ? buffer.bytes : buffer.bytes.subarray(0, taken))
    if (taken < length) this.#hold(buffer, length, taken)
    this.#settle()(taken as never)
  }

  #take<T>(take: Take<T>): T | typeof INCOMPLETE {
    if (this.#closedBy !== undefined) throw this.#closedBy()
    let result: T | typeof INCOMPLETE
    try {
      result = take(this.#queue, this.#isEnded)
    } catch (error) {
      throw withOrigin(error as Error, this.origin)
    }
    if (result === INCOMPLETE && this.#brokenBy !== undefined) {
      this.#wasReported = true
      throw this.#brokenBy
    }
    this.#resumeIfRoom()
    return result
  }

  #retry(pending: PendingRead): void {
    try {
      const result = this.#take(pending.take)
      if (result !== INCOMPLETE) this.#settle()(result as never)
    } catch (error) {
      this.#fail(error)
    }
  }

  // Ends the wait; the caller says with what.
  #settle(): (value: never) => void {
    const pending = this.#pending as PendingRead
    const { resolve } = pending
    this.#pending = undefined
    this.#wanted = 0
    pending.release()
    return resolve
  }

  // By way of resolving: the function that rejects would be memory for every idle connection. A read that was begun ahead may have nobody who
  // waits for it yet: that must not end the process, and the next call is told too.
  #fail(reason: unknown): void {
    if (this.#pending?.promise !== undefined) void muted(this.#pending.promise)
    this.#settle()(Promise.reject(reason) as never)
  }

  #mayGoOn(): boolean {
    this.#budget ??= new TurnBudget()
    return this.#budget.spend()
  }

  #resumeIfRoom(): void {
    if (!this.#isStopped || this.#queue.byteLength >= Math.max(this.#bufferSize, this.#wanted)) return
    this.#isStopped = false
    this.transport.resume()
  }
}

function wake(incoming: Incoming, pending: PendingRead): void {
  incoming.wake(pending)
}
