// Bytes out: writes in order, gathered; the sink; flushing and half-close.

import { inspect } from 'node:util'
import { isUint8ArrayList } from 'uint8arraylist'
import { Deferred } from '../async/deferred.ts'
import { StallLimit } from '../async/stall-timer.ts'
import { currentTurn } from '../async/turn.ts'
import { BufferAgeLimitError, BusyError, ConnectionClosedError, withOrigin } from '../errors.ts'
import { checkDuration } from '../options.ts'
import type { Chunk, Writer } from '../writer.ts'
import type { ByteSocket, WriteEncoding, WriteEntry } from './net-transport.ts'
import { Pump, type PumpEnd, type PumpTarget } from './pump.ts'

/** Bytes handed over in one system call at most, and bytes that a sink lets wait: enough to keep the kernel busy, and a bound. */
const GATHER_SIZE = 524_288

/** What the writer needs of its connection. */
export interface WriterOwner {
  /** Whether closing the descriptor would do instead of FIN, since the peer has ended too. */
  readonly canRelease: boolean
  /** FIN is sent, or is left to the closing of the descriptor. */
  writerClosed(): void
  /** A write failed. Gives what broke the connection. */
  writeFailed(cause: Error): Error
  /** Ends the connection with a RST, since the source can't be sent whole. */
  abort(reason: unknown): void
  /** The same, since the peer broke a limit. */
  breakOff(error: Error): void
}

// open → closing → closed; all of them → failed, with the reason that later calls are given.
type State = 'open' | 'closing' | 'closed' | { readonly error: Error }

interface Entry extends WriteEntry {
  readonly byteLength: number
}

// The queue of a writer whose bytes are all handed over, as they mostly are.
const NOTHING: Entry[] = []

interface Flush {
  readonly mark: number
  readonly deferred: Deferred
}

/** The sending side of a connection: what its {@link Writer} does. */
export class ByteWriter implements PumpTarget {
  readonly #socket: ByteSocket
  readonly #owner: WriterOwner
  #state: State = 'open'
  #accepted = 0
  // As last told: it never goes back.
  #written = 0
  #queue: Entry[] = NOTHING
  #queuedBytes = 0
  // Of the write in flight; 0 when there is none.
  #sendingBytes = 0
  #lastTurn = 0
  #isFlushing = false
  #isFlushScheduled = false
  #flushes: Flush[] | undefined
  #closing: Deferred | undefined
  #pump: Pump | undefined
  #lost: Error | undefined
  #hasTold = false
  #bufferAgeLimit: number
  #age: StallLimit | undefined

  constructor(socket: ByteSocket, owner: WriterOwner, bufferAgeLimit: number) {
    this.#socket = socket
    this.#owner = owner
    this.#bufferAgeLimit = bufferAgeLimit
  }

  get bytesWritten(): number {
    if (!this.isFailed) this.#noteWritten(this.#socket.unsent)
    return this.#written
  }

  get bytesPending(): number {
    return this.#accepted - this.bytesWritten
  }

  get isClosed(): boolean {
    return this.#state !== 'open'
  }

  get bufferAgeLimit(): number {
    return this.#bufferAgeLimit
  }

  set bufferAgeLimit(limit: number) {
    checkDuration('Cannot set the limit', 'bufferAgeLimit', limit)
    this.#bufferAgeLimit = limit
    this.#age?.stop()
    this.#age = undefined
    this.#watchAge()
  }

  /** Whether a sink should wait. */
  get isFull(): boolean {
    return this.#queuedBytes + this.#sendingBytes >= GATHER_SIZE
  }

  write(data: Chunk | string): void {
    if (this.#state !== 'open') throw this.#refusal('write')
    if (typeof data === 'string') {
      const byteLength = Buffer.byteLength(data)
      // One-byte characters only: copied as they are, which is faster than encoding.
      if (byteLength > 0) this.#put(data, byteLength === data.length ? 'latin1' : 'utf8', byteLength)
    } else if (data instanceof Uint8Array) {
      if (data.byteLength > 0) this.#put(data, 'buffer', data.byteLength)
    } else if (isUint8ArrayList(data)) {
      for (const part of data) if (part.byteLength > 0) this.#put(part, 'buffer', part.byteLength)
    } else {
      throw new TypeError(`Cannot write as 'data' must be a Uint8Array, a Uint8ArrayList or a string: received ${inspect(data)}`)
    }
  }

  async writeAll(source: AsyncIterable<Chunk> | Iterable<Chunk>): Promise<void> {
    await this.#pour(source)
    await this.flushed()
  }

  async sink(source: AsyncIterable<Chunk> | Iterable<Chunk>): Promise<void> {
    await this.#pour(source)
    await this.close()
  }

  flushed(): Promise<void> {
    if (typeof this.#state === 'object') {
      this.#hasTold = true
      return Promise.reject(this.#state.error)
    }
    if (this.#queuedBytes + this.#sendingBytes === 0) return Promise.resolve()
    const flush = { mark: this.#accepted, deferred: new Deferred() }
    // Whoever calls and does not wait hears of a broken connection at the next call.
    flush.deferred.promise.catch(ignore)
    this.#flushes ??= []
    this.#flushes.push(flush)
    return flush.deferred.promise
  }

  close(): Promise<void> {
    if (this.#closing === undefined) {
      this.#closing = new Deferred()
      this.#closing.promise.catch(ignore)
      if (typeof this.#state === 'object') {
        this.#closing.reject(this.#state.error)
      } else if (this.#state === 'closed') {
        this.#closing.resolve()
      }
      this.finish()
    }
    return this.#closing.promise
  }

  /** Starts what `close()` waits for. */
  finish(): void {
    if (this.#state !== 'open') return
    this.#state = 'closing'
    this.#pump?.stop(this.#refusal('write'))
    this.#afterSent()
  }

  /** Notes that nothing can be written any more, and why. Bytes that wait are lost. */
  fail(error: Error, unsent = this.#socket.unsent): void {
    if (this.isFailed) return
    this.#noteWritten(unsent)
    this.#state = { error }
    if (this.#queuedBytes + this.#sendingBytes > 0) this.#lost = error
    this.#hasTold = this.#flushes !== undefined || this.#pump !== undefined || this.#closing !== undefined
    this.#queue = NOTHING
    this.#age?.stop()
    const flushes = this.#flushes
    this.#flushes = undefined
    for (const flush of flushes ?? []) flush.deferred.reject(error)
    this.#closing?.reject(error)
    this.#pump?.stop(error)
  }

  /** After a failure: what later calls are told from now on, since the connection was closed too. */
  forget(error: Error): void {
    if (typeof this.#state === 'object') this.#state = { error }
  }

  get isFailed(): boolean {
    return typeof this.#state === 'object'
  }

  /** Whether FIN is sent. */
  get isFinished(): boolean {
    return this.#state === 'closed'
  }

  /** What kept written bytes from being handed over. */
  get lost(): Error | undefined {
    return this.#lost
  }

  /** Whether anybody was told of the failure. */
  get hasTold(): boolean {
    return this.#hasTold
  }

  // libuv knows what is left of a write in flight, as long as that goes well.
  #noteWritten(unsent = this.#sendingBytes): void {
    const sending = Math.min(this.#sendingBytes, unsent)
    this.#written = Math.max(this.#written, this.#accepted - this.#queuedBytes - sending)
  }

  #refusal(action: string): Error {
    if (typeof this.#state === 'object') {
      this.#hasTold = true
      return this.#state.error
    }
    return withOrigin(new ConnectionClosedError(`Cannot ${action} as the writer is closed`), this.#owner)
  }

  async #pour(source: AsyncIterable<Chunk> | Iterable<Chunk>): Promise<void> {
    if (this.#state !== 'open') throw this.#refusal('write')
    if (this.#pump !== undefined) throw withOrigin(new BusyError('Cannot write as another source is being written'), this.#owner)
    const { promise, resolve } = new Deferred<PumpEnd>()
    const pump = new Pump(source, this, resolve)
    this.#pump = pump
    pump.run()
    const end = await promise
    this.#pump = undefined
    if (end.kind === 'source-failed') this.#owner.abort(end.error)
    if (end.kind !== 'done') throw end.error
  }

  #put(chunk: Uint8Array | string, encoding: WriteEncoding, byteLength: number): void {
    this.#accepted += byteLength
    const turn = currentTurn()
    if (this.#sendingBytes === 0 && this.#queue.length === 0 && this.#lastTurn !== turn) {
      this.#lastTurn = turn
      this.#sendingBytes = byteLength
      this.#isFlushing = true
      this.#socket.write(chunk, encoding, this.#sentCallback)
      this.#isFlushing = false
      if (this.#sendingBytes > 0) this.#watchAge()
      return
    }
    if (this.#queue === NOTHING) this.#queue = []
    this.#queue.push({ chunk, encoding, byteLength })
    this.#queuedBytes += byteLength
    if (this.#sendingBytes > 0 || this.#isFlushScheduled) return
    this.#isFlushScheduled = true
    process.nextTick(flushScheduled, this)
  }

  /** Called at the end of a turn in which more than one write was made. */
  flushScheduled(): void {
    this.#isFlushScheduled = false
    this.#flush()
  }

  // Hands over what is queued, until the system takes no more.
  #flush(): void {
    this.#isFlushing = true
    while (this.#queue.length > 0 && this.#sendingBytes === 0) {
      const entries = this.#gather()
      const first = entries[0] as Entry
      if (entries.length === 1) {
        this.#socket.write(first.chunk, first.encoding, this.#sentCallback)
      } else {
        this.#socket.writev(entries, entries.every(isBuffer), this.#sentCallback)
      }
    }
    this.#isFlushing = false
    if (this.#sendingBytes > 0) this.#watchAge()
    this.#afterSent()
  }

  // The next entries to go as one: up to the next flush mark, since flushed() must not wait for what came after it, and up to a bound.
  #gather(): Entry[] {
    const written = this.#accepted - this.#queuedBytes
    const limit = Math.min(GATHER_SIZE, (this.#flushes?.[0]?.mark ?? this.#accepted) - written)
    let count = 0
    let bytes = 0
    for (; count < this.#queue.length && (count === 0 || bytes < limit); count++) bytes += (this.#queue[count] as Entry).byteLength
    this.#sendingBytes = bytes
    this.#queuedBytes -= bytes
    if (count < this.#queue.length) return this.#queue.splice(0, count)
    const all = this.#queue
    this.#queue = NOTHING
    return all
  }

  // Made for each write: a callback that is kept would be memory for every idle connection.
  get #sentCallback(): (error?: Error | null) => void {
    return (error) => this.#sent(error)
  }

  #sent(error: Error | null | undefined): void {
    // Writes that end with their socket come back as if they had succeeded.
    if (this.isFailed || this.#socket.isDestroyed) return
    if (error != null) {
      // Of a write that failed libuv has forgotten what is left.
      this.fail(this.#owner.writeFailed(error), this.#sendingBytes)
      return
    }
    this.#sendingBytes = 0
    this.#settleFlushes()
    if (!this.#isFlushing) this.#flush()
  }

  #settleFlushes(): void {
    const flushes = this.#flushes
    if (flushes === undefined) return
    const written = this.#accepted - this.#queuedBytes
    let settled = 0
    while (settled < flushes.length && (flushes[settled] as Flush).mark <= written) (flushes[settled++] as Flush).deferred.resolve()
    if (settled === flushes.length) this.#flushes = undefined
    else flushes.splice(0, settled)
  }

  // What waits for all bytes to be handed over.
  #afterSent(): void {
    if (this.#queuedBytes + this.#sendingBytes > 0 || this.isFailed) return
    // Behind whatever else the event loop has to do: the system may take bytes as fast as a source gives them.
    if (this.#pump?.isWaiting === true) setImmediate(resumePump, this.#pump)
    if (this.#state !== 'closing') return
    if (this.#owner.canRelease) {
      this.#closed()
      return
    }
    this.#socket.shutdown((error) => {
      if (this.isFailed) return
      if (error != null) this.fail(this.#owner.writeFailed(error))
      else this.#closed()
    })
  }

  #closed(): void {
    this.#state = 'closed'
    this.#closing?.resolve()
    this.#owner.writerClosed()
  }

  #watchAge(): void {
    if (this.#sendingBytes === 0 || this.isFailed) return
    this.#age ??= new StallLimit(
      this.#bufferAgeLimit,
      () => (this.#sendingBytes === 0 ? undefined : this.bytesWritten),
      () => this.#tooOld()
    )
    this.#age.start()
  }

  #tooOld(): void {
    const message = `The peer took none of ${this.bytesPending} bytes for ${this.#bufferAgeLimit} ms`
    this.#owner.breakOff(withOrigin(new BufferAgeLimitError(message), this.#owner))
  }
}

const SIDE = Symbol('it-tcp.side')

interface Facade extends Writer {
  [SIDE]: ByteWriter
}

// The writer is a function, and a function with the state of a connection in it would be slow to make and to use.
const facade = {
  get bytesWritten(): number {
    return this[SIDE].bytesWritten
  },
  get bytesPending(): number {
    return this[SIDE].bytesPending
  },
  get isClosed(): boolean {
    return this[SIDE].isClosed
  },
  get bufferAgeLimit(): number {
    return this[SIDE].bufferAgeLimit
  },
  set bufferAgeLimit(limit: number) {
    this[SIDE].bufferAgeLimit = limit
  },
  write(data: Chunk | string): void {
    this[SIDE].write(data)
  },
  writeAll(source: AsyncIterable<Chunk> | Iterable<Chunk>): Promise<void> {
    return this[SIDE].writeAll(source)
  },
  flushed(): Promise<void> {
    return this[SIDE].flushed()
  },
  close(): Promise<void> {
    return this[SIDE].close()
  }
} as Facade
Object.setPrototypeOf(facade, Function.prototype)

/** The writer that users get. */
export function createWriter(side: ByteWriter): Writer {
  const writer = ((source) => side.sink(source)) as Facade
  Object.setPrototypeOf(writer, facade)
  writer[SIDE] = side
  return writer
}

function isBuffer(entry: Entry): boolean {
  return typeof entry.chunk !== 'string'
}

function flushScheduled(writer: ByteWriter): void {
  writer.flushScheduled()
}

function resumePump(pump: Pump): void {
  pump.resume()
}

function ignore(): void {}
