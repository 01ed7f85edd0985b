// What is to be sent: a queue of writes, flush marks, the limit on age, and the end.

import { Deferred, muted } from '../async/deferred.ts'
import { nextTick } from '../async/platform.ts'
import { StallTimer } from '../async/stall-timer.ts'
import { currentTurn } from '../async/turn.ts'
import { BufferAgeLimitError, ConnectionClosedError, withOrigin } from '../errors.ts'
import { changeAgeLimit } from './net-socket.ts'
import type { OutgoingOwner } from './outgoing-owner.ts'
import type { Pump } from './pump.ts'
import type { Transport, WriteEncoding, WriteEntry } from './transport.ts'
import { spoilt, WriteQueue } from './write-queue.ts'

// open → closing → closed; all of them → failed, with the reason that later calls are given.
type State = 'open' | 'closing' | 'closed' | { readonly error: Error }

/** Bytes that a sink lets wait: enough to keep the kernel busy, and a bound. */
const MAX_BYTES = 524_288
/** A sink is full with so many writes, however small: each costs memory and time of its own. */
const MAX_WRITES = 1024

// The queue of a connection whose bytes are all handed over, as they mostly are.
const NOTHING = new WriteQueue()

/** The sending side of a connection. */
export class Outgoing {
  /** What takes the bytes. */
  transport: Transport
  /** The source that is being written, if there is one. */
  pump: Pump | undefined
  readonly #owner: OutgoingOwner
  #state: State = 'open'
  #accepted = 0
  // As last told: it never goes back.
  #written = 0
  #queue = NOTHING
  // Of the write in flight; 0 when there is none.
  #sendingBytes = 0
  #lastTurn = 0
  #isFlushing = false
  #isFlushScheduled = false
  #heldFrom = Number.POSITIVE_INFINITY
  #closing: Deferred | undefined
  #undelivered: Error | undefined
  #wasReported = false
  #bufferAgeLimit: number
  #age: StallTimer | undefined

  constructor(transport: Transport, owner: OutgoingOwner, bufferAgeLimit: number) {
    this.transport = transport
    this.#owner = owner
    this.#bufferAgeLimit = bufferAgeLimit
  }

  get bytesWritten(): number {
    if (!this.isFailed) this.#noteWritten(this.#sendingBytes === 0 ? 0 : this.transport.unsent)
    return this.#written
  }

  get bytesPending(): number {
    return this.#accepted - this.bytesWritten
  }

  get isClosed(): boolean {
    return this.#state !== 'open'
  }

  get isFailed(): boolean {
    return typeof this.#state === 'object'
  }

  /** Whether the end is sent. */
  get isFinished(): boolean {
    return this.#state === 'closed'
  }

  /** Whether all is handed over. */
  get isIdle(): boolean {
    return this.#queue.byteLength + this.#sendingBytes === 0
  }

  /** Whether a sink should wait. */
  get isFull(): boolean {
    return this.#queue.byteLength + this.#sendingBytes >= MAX_BYTES || this.#queue.length >= MAX_WRITES
  }

  /** What kept written bytes from being delivered to the carrier. */
  get undelivered(): Error | undefined {
    return this.#undelivered
  }

  /** Whether anybody was told of the failure. */
  get wasReported(): boolean {
    return this.#wasReported
  }

  get bufferAgeLimit(): number {
    return this.#bufferAgeLimit
  }

  set bufferAgeLimit(limit: number) {
    this.#bufferAgeLimit = limit
    if (this.#age !== undefined) this.#age.limit = limit
    changeAgeLimit(this.transport.socket, limit)
    this.#watchAge()
  }

  /** Why nothing can be done with the writer any more; undefined while something can. */
  refusal(action: string): Error | undefined {
    if (this.#state === 'open') return undefined
    if (typeof this.#state !== 'object')
      return withOrigin(new ConnectionClosedError(`Cannot ${action} as the writer is closed`), this.#owner)
    this.#wasReported = true
    return this.#state.error
  }

  put(chunk: Uint8Array | string, encoding: WriteEncoding, byteLength: number): void {
    this.#accepted += byteLength
    const entry = { chunk, encoding, byteLength }
    const turn = currentTurn()
    if (this.#lastTurn !== turn && this.#sendingBytes === 0 && this.#queue.length === 0 && this.#heldFrom === Number.POSITIVE_INFINITY) {
      this.#lastTurn = turn
      this.#send([entry], byteLength)
      if (this.#sendingBytes > 0) this.#watchAge()
      return
    }
    if (this.#queue === NOTHING) this.#queue = new WriteQueue()
    this.#queue.push(entry)
    if (this.#sendingBytes > 0 || this.#isFlushScheduled) return
    this.#isFlushScheduled = true
    nextTick(flushScheduled, this)
  }

  /** Sends bytes that are gone after the call, if that can begin at once. Gives whether it did. */
  pass(bytes: Uint8Array): boolean {
    const { byteLength } = bytes
    if (this.isClosed || !this.isIdle || this.#heldFrom !== Number.POSITIVE_INFINITY) return false
    const isDone = this.transport.pass?.(bytes)
    if (isDone === undefined) return false
    this.#accepted += byteLength
    if (isDone) return true
    this.#sendingBytes = byteLength
    this.#watchAge()
    return true
  }

  flushed(): Promise<void> {
    const refusal = this.isFailed ? this.refusal('flush') : undefined
    if (refusal !== undefined) return muted(Promise.reject(refusal))
    if (this.isIdle) return Promise.resolve()
    if (this.#queue === NOTHING) this.#queue = new WriteQueue()
    return this.#queue.flushedAt(this.#accepted)
  }

  close(): Promise<void> {
    if (this.#closing === undefined) {
      this.#closing = new Deferred()
      void muted(this.#closing.promise)
      if (typeof this.#state === 'object') {
        this.#wasReported = true
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
    this.pump?.stop(this.refusal('write'))
    this.#afterSent()
  }

  /** Keeps back what is written from now on, until {@link goOn}. Resolves when all that was written before is handed over. */
  hold(): Promise<void> {
    this.#heldFrom = this.#accepted
    return this.flushed()
  }

  goOn(): void {
    this.#heldFrom = Number.POSITIVE_INFINITY
    this.flush()
  }

  /** Notes that nothing can be written any more, and why. Bytes that wait are lost. */
  fail(error: Error): void {
    if (this.isFailed) return
    this.#noteWritten(this.transport.unsent)
    this.#state = { error }
    if (!this.isIdle) this.#undelivered = error
    this.#wasReported = this.#queue.hasMarks || this.pump !== undefined || this.#closing !== undefined
    this.#age?.stop()
    this.#queue.fail(error)
    this.#queue = NOTHING
    this.#closing?.reject(error)
    this.pump?.stop(error)
  }

  /** After a failure: what later calls are told from now on, since the connection was closed too. */
  forget(error: Error): void {
    if (typeof this.#state === 'object') this.#state = { error }
  }

  // News --------------------------------------------------------------------------------------------------------------

  /** See `TransportEvents`. */
  written(error: Error | undefined): void {
    // Writes that end with their carrier come back as if they had succeeded.
    if (this.isFailed || this.transport.isDestroyed) return
    if (error !== undefined) {
      this.fail(this.#owner.writeFailed(error))
      return
    }
    this.#handedOver()
    this.flush()
  }

  /** See `TransportEvents`. */
  finished(error: Error | undefined): void {
    if (this.isFailed) return
    if (error !== undefined) this.fail(this.#owner.writeFailed(error))
    else this.#closed()
  }

  /** Hands over what is queued, until the carrier takes no more. */
  flush(): void {
    this.#isFlushScheduled = false
    if (this.#isFlushing) return
    this.#isFlushing = true
    while (this.#queue.length > 0 && this.#sendingBytes === 0 && this.#accepted - this.#queue.byteLength < this.#heldFrom) {
      this.#send(this.#queue.gather(this.transport.gatherSize, this.#accepted), this.#queue.gathered)
    }
    this.#isFlushing = false
    if (this.#sendingBytes > 0) this.#watchAge()
    this.#afterSent()
  }

  // -------------------------------------------------------------------------------------------------------------------

  #send(entries: WriteEntry[], byteLength: number): void {
    this.#sendingBytes = byteLength
    if (entries.length === 0) this.#owner.abort(spoilt())
    else if (this.transport.write(entries)) this.#handedOver()
  }

  #handedOver(): void {
    this.#sendingBytes = 0
    if (this.#queue === NOTHING) return
    this.#queue.settleUpTo(this.#accepted - this.#queue.byteLength)
    if (this.#queue.length === 0 && this.pump === undefined && !this.#queue.hasMarks) this.#queue = NOTHING
  }

  // libuv knows what is left of a write in flight, as long as that goes well.
  #noteWritten(unsent = this.#sendingBytes): void {
    const sending = Math.min(this.#sendingBytes, unsent)
    this.#written = Math.max(this.#written, this.#accepted - this.#queue.byteLength - sending)
  }

  // What waits for all bytes to be handed over.
  #afterSent(): void {
    if (!this.isIdle || this.isFailed || this.#heldFrom !== Number.POSITIVE_INFINITY) return
    this.pump?.resume()
    if (this.#state !== 'closing') return
    if (this.#owner.canRelease) this.#closed()
    else this.transport.end()
  }

  #closed(): void {
    this.#state = 'closed'
    this.#age?.stop() // It would keep the connection in memory until its next look.
    this.#closing?.resolve()
    this.#owner.writerClosed()
  }

  #watchAge(): void {
    if (this.#sendingBytes === 0 || this.isFailed || this.transport.unsent === 0) return
    this.#age ??= new StallTimer(
      this.#bufferAgeLimit,
      () => (this.#sendingBytes === 0 ? undefined : (this.transport.taken ?? this.bytesWritten)),
      () => {
        const message = `The peer took none of ${this.bytesPending} bytes for ${this.#bufferAgeLimit} ms`
        this.#owner.breakOff(withOrigin(new BufferAgeLimitError(message), this.#owner))
      }
    )
    this.#age.start()
  }
}

function flushScheduled(outgoing: Outgoing): void {
  outgoing.flush()
}
