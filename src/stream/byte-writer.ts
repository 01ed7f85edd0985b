// The writer that users get: a function that is the sink, and its methods, over what is to be sent.

import { inspect, types } from 'node:util'
import type { Uint8ArrayList } from 'uint8arraylist'
import { Deferred, muted } from '../async/deferred.ts'
import { nextTurn, TurnBudget } from '../async/turn.ts'
import { BusyError, originOf, withOrigin } from '../errors.ts'
import { checkDuration } from '../options.ts'
import { holds } from '../peer-error.ts'
import type { Chunk, Source, Writer } from '../writer.ts'
import { ByteReader } from './byte-reader.ts'
import type { Outgoing } from './outgoing.ts'
import type { OutgoingOwner } from './outgoing-owner.ts'
import { checkSource, letGo, Pump, type PumpEnd } from './pump.ts'

/** Larger buffers go in parts: libuv counts the bytes of a write in 32 bits. No string is as long. */
const LARGEST_WRITE = 2 ** 30

/** What marks a list of bytes. The package has a function for it, which would load five files more at every start. */
const BYTE_LIST = /* @__PURE__ */ Symbol.for('@achingbrain/uint8arraylist')

/** What the methods of a writer do. */
export class ByteWriter {
  readonly outgoing: Outgoing
  readonly #owner: OutgoingOwner
  #budget: TurnBudget | undefined

  constructor(outgoing: Outgoing, owner: OutgoingOwner) {
    this.outgoing = outgoing
    this.#owner = owner
  }

  get isFull(): boolean {
    return this.outgoing.isFull
  }

  write(data: Chunk | string): void {
    const { outgoing } = this
    const refusal = outgoing.refusal('write')
    if (refusal !== undefined) throw refusal
    if (typeof data === 'string') {
      const byteLength = Buffer.byteLength(data)
      // One-byte characters only: copied as they are, which is faster than encoding.
      if (byteLength > 0) outgoing.put(data, byteLength === data.length ? 'latin1' : 'utf8', byteLength)
    } else if (types.isUint8Array(data)) {
      this.#put(data)
    } else if (isUint8ArrayList(data)) {
      for (const part of data) this.#put(part)
    } else {
      throw new TypeError(`Cannot write as 'data' must be a Uint8Array, a Uint8ArrayList or a string: received ${inspect(data)}`)
    }
  }

  #put(bytes: Uint8Array): void {
    const { byteLength } = bytes
    if (byteLength === 0) return
    if (byteLength <= LARGEST_WRITE) {
      this.outgoing.put(bytes, 'buffer', byteLength)
    } else {
      for (let from = 0; from < byteLength; from += LARGEST_WRITE) this.#put(bytes.subarray(from, from + LARGEST_WRITE))
    }
  }

  flushed(): Promise<void> {
    const done = this.outgoing.flushed()
    // Whoever writes and waits, again and again, might never have to, while the system takes the bytes.
    this.#budget ??= new TurnBudget()
    return this.#budget.spend() ? done : muted(nextTurn().then(() => done))
  }

  writeAll(source: Source): Promise<void> {
    const call: SinkCall = {}
    call.promise = this.#run(source, call, false)
    return call.promise
  }

  sink(source: Source): Promise<void> {
    const call: SinkCall = {}
    call.promise = this.#run(source, call, true)
    return call.promise
  }

  async #run(source: Source, call: SinkCall, closes: boolean): Promise<void> {
    try {
      await this.#pour(source)
      await (closes ? this.outgoing.close() : this.flushed())
    } catch (error) {
      // It may have failed at once, before there was a promise.
      await Promise.resolve()
      if (isToldAnyway(error)) void muted(call.promise as Promise<void>)
      throw error
    }
  }

  async #pour(source: Source): Promise<void> {
    const { outgoing } = this
    checkSource(source)
    const refusal = outgoing.refusal('write')
    if (refusal !== undefined) {
      letGo(source)
      throw refusal
    }
    if (outgoing.pump !== undefined) throw withOrigin(new BusyError('Cannot write as another source is being written'), this.#owner)
    const { promise, resolve } = new Deferred<PumpEnd>()
    const pump = new Pump(ByteReader.passing(source, (bytes) => outgoing.pass(bytes)) as Source, this, resolve)
    outgoing.pump = pump
    pump.run()
    const end = await promise
    outgoing.pump = undefined
    if (end.kind === 'source-failed') this.#owner.abort(end.error)
    if (end.kind !== 'done') throw end.error
  }
}

/** One use as a sink, and what its caller has of it. */
interface SinkCall {
  promise?: Promise<void>
}

/**
 * Whether a connection failed, this one or one that is the source of it: then the next call is told, and a sink that runs beside reads, whose own
 * failure comes first, ends no process. An error of the program's own is told here only.
 */
function isToldAnyway(error: unknown): boolean {
  return holds(error, (part) => originOf(part) !== undefined && !(part instanceof BusyError))
}

function isUint8ArrayList(value: Uint8ArrayList): boolean {
  return Boolean((value as { [BYTE_LIST]?: boolean } | null | undefined)?.[BYTE_LIST])
}

type Sink = (source: Source) => Promise<void>

// A class whose constructor gives the function it is given, so that a subclass has its private fields on that.
class SinkItself {
  constructor(sink: Sink) {
    // biome-ignore lint/correctness/noConstructorReturn: it is what the class is for
    return sink
  }
}
const Callable = SinkItself as unknown as new (sink: Sink) => Sink

/** The writer that users get. A function with the state of a connection in it would be slow to make and to use: it has one field. */
class WriterFacade extends Callable {
  readonly #side: ByteWriter

  constructor(side: ByteWriter) {
    super((source) => side.sink(source))
    this.#side = side
  }

  get bytesWritten(): number {
    return this.#side.outgoing.bytesWritten
  }

  get bytesPending(): number {
    return this.#side.outgoing.bytesPending
  }

  get isClosed(): boolean {
    return this.#side.outgoing.isClosed
  }

  get bufferAgeLimit(): number {
    return this.#side.outgoing.bufferAgeLimit
  }

  set bufferAgeLimit(limit: number) {
    checkDuration('Cannot set the limit', 'bufferAgeLimit', limit)
    this.#side.outgoing.bufferAgeLimit = limit
  }

  write(data: Chunk | string): void {
    this.#side.write(data)
  }

  writeAll(source: Source): Promise<void> {
    return this.#side.writeAll(source)
  }

  flushed(): Promise<void> {
    return this.#side.flushed()
  }

  close(): Promise<void> {
    return this.#side.outgoing.close()
  }

  [inspect.custom](): string {
    const { bytesWritten, bytesPending, isClosed } = this
    return `Writer { bytesWritten: ${bytesWritten}, bytesPending: ${bytesPending}, closed: ${isClosed} }`
  }
}

/** The writer that users get. */
export function createWriter(side: ByteWriter): Writer {
  const writer = new WriterFacade(side)
  Object.setPrototypeOf(writer, WriterFacade.prototype)
  return writer as unknown as Writer
}
