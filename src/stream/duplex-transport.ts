// Any Duplex of Node.js as a transport: only what is documented of streams is used.

import type { Duplex } from 'node:stream'
import { inspect, types } from 'node:util'
import { nextTick, setImmediate } from '../async/platform.ts'
import { BusyError, ConnectionClosedError } from '../errors.ts'
import { belongingToOthers } from './read-buffer.ts'
import type { Transport, TransportEvents, WriteEntry } from './transport.ts'

const ACTION = 'Cannot make a ByteStream'
/** Bytes handed over in one go at most: streams buffer about as many, and progress is seen in steps of it. */
const GATHER_SIZE = 65_536
/** Readers promise that no chunk is longer. */
const LONGEST_CHUNK = 131_072

// Two that read one stream would each take all of it.
const taken = new WeakSet<Duplex>()

/** A stream that is somebody else's work: an ssh channel, a serial port, a pipe. */
export class DuplexTransport implements Transport {
  readonly gatherSize = GATHER_SIZE
  /** What it does at the end it does not do when it is destroyed. */
  readonly mustEnd = true
  readonly taken = undefined
  readonly socket = undefined
  readonly #duplex: Duplex
  #events: TransportEvents | undefined
  #isDestroyed = false
  #isDraining = false
  #hasEnded = false
  #hasFinished = false
  #isBroken = false
  #isReleased = false

  /** `duplex` has passed {@link checkDuplex}. */
  constructor(duplex: Duplex) {
    taken.add(duplex)
    this.#duplex = duplex
    // Its end does not close the other direction. To be changed at any time before the end.
    duplex.allowHalfOpen = true
  }

  get isDestroyed(): boolean {
    return this.#isDestroyed || this.#duplex.destroyed
  }

  get unsent(): number {
    return this.#duplex.writableLength
  }

  /** Whether nothing can be written any more, or never could. */
  get isWritableEnded(): boolean {
    return this.#duplex.writableEnded
  }

  open(events: TransportEvents): void {
    this.#events = events
    const duplex = this.#duplex
    duplex
      .on('data', (chunk: unknown) => this.#received(chunk))
      .on('end', () => this.#ended())
      .on('finish', () => this.#finished())
      .on('error', (error: Error) => this.#failed(error))
      .on('close', () => this.#closed())
    this.#hasFinished = duplex.writableFinished
    if (duplex.readableEnded) nextTick(() => this.#ended())
    if (duplex.closed) nextTick(() => this.#closed())
    duplex.resume()
  }

  resume(): void {
    if (!this.isDestroyed) this.#duplex.resume()
  }

  write(entries: WriteEntry[]): boolean {
    const duplex = this.#duplex
    const last = entries.length - 1
    const done = (error?: Error | null): void => this.#events?.written(error ?? undefined)
    try {
      if (last > 0) duplex.cork()
      // Streams are made for Buffers, and not each of them knows other encodings than UTF-8.
      for (const [index, entry] of entries.entries()) duplex.write(bufferOf(entry), index === last ? done : undefined)
      if (last > 0) duplex.uncork()
    } catch (error) {
      // It then says so itself, and not from inside the command.
      duplex.destroy(error as Error)
    }
    return false
  }

  end(): void {
    const duplex = this.#duplex
    if (this.#hasFinished) nextTick(() => this.#events?.finished())
    else if (!duplex.writableEnded) duplex.end()
  }

  destroy(): void {
    this.#giveUp(() => this.#duplex.destroy())
  }

  reset(): void {
    this.#giveUp(() => {
      const { resetAndDestroy } = this.#duplex as { resetAndDestroy?: () => void }
      // An error, so that what is behind the stream does not take a part for the whole.
      if (typeof resetAndDestroy !== 'function') this.#duplex.destroy(new ConnectionClosedError('The connection was aborted'))
      else if (!this.#duplex.destroyed) tryToReset(this.#duplex, resetAndDestroy)
    })
  }

  // What the stream tells ---------------------------------------------------------------------------------------------

  #received(chunk: unknown): void {
    if (this.#isDestroyed || this.#isDraining || this.#hasEnded) return
    if (!types.isUint8Array(chunk)) {
      this.#break(new TypeError(`Cannot read as the stream produced something other than bytes: received ${inspect(chunk)}`))
      this.reset()
    } else if (!this.#tell(chunk)) {
      this.#duplex.pause()
    }
  }

  #tell(chunk: Uint8Array): boolean {
    let goesOn = true
    for (let from = 0; from < chunk.byteLength && !this.#isDestroyed; from += LONGEST_CHUNK) {
      const part = chunk.subarray(from, from + LONGEST_CHUNK)
      goesOn = (this.#events as TransportEvents).received(belongingToOthers(part), part.byteLength)
    }
    return goesOn
  }

  #ended(): void {
    if (this.#isDestroyed || this.#hasEnded) return
    this.#hasEnded = true
    this.#events?.ended('orderly')
  }

  #finished(): void {
    if (this.#hasFinished) return
    this.#hasFinished = true
    if (!this.#isDestroyed) this.#events?.finished()
  }

  #failed(error: Error): void {
    if (this.#isDestroyed) return
    this.#drain()
    this.#break(error)
  }

  #closed(): void {
    if (this.#isReleased) return
    this.#isReleased = true
    if (!this.#isDestroyed && !(this.#hasEnded && this.#hasFinished)) {
      this.#drain()
      this.#break(this.#duplex.errored ?? new Error('it was destroyed before its end'))
    }
    this.#isDestroyed = true
    this.#events?.released()
  }

  // -------------------------------------------------------------------------------------------------------------------

  #break(error: Error): void {
    if (this.#isBroken) return
    this.#isBroken = true
    this.#events?.broken(error)
  }

  // What it had buffered is still there, and comes before the error.
  #drain(): void {
    this.#isDraining = true
    for (let chunk = this.#duplex.read(); types.isUint8Array(chunk); chunk = this.#duplex.read()) this.#tell(chunk)
    this.#isDraining = false
  }

  #giveUp(destroy: () => void): void {
    if (this.#isDestroyed) return
    this.#isDestroyed = true
    destroy()
    // Some never emit 'close'.
    setImmediate(() => {
      if (this.#duplex.closed) this.#closed()
    })
  }
}

/** @throws {TypeError} If `duplex` is no stream of bytes in both directions. */
export function checkDuplex(duplex: Duplex): void {
  const isDuplex = DUPLEX_METHODS.every((name) => typeof (duplex as Partial<Duplex> | null | undefined)?.[name] === 'function')
  if (!isDuplex) throw new TypeError(`${ACTION} as 'duplex' must be a Duplex of Node.js: received ${inspect(duplex, { depth: 0 })}`)
  if (duplex.readableObjectMode || duplex.writableObjectMode) {
    throw new TypeError(`${ACTION} as 'duplex' must be a stream of bytes: received one in object mode`)
  }
  if (duplex.readableEncoding != null) {
    throw new TypeError(`${ACTION} as 'duplex' must be a stream of bytes: received one with setEncoding('${duplex.readableEncoding}')`)
  }
  if (taken.has(duplex)) throw new BusyError(`${ACTION} as another one reads that stream`)
  if (duplex.listenerCount('readable') > 0) throw new BusyError(`${ACTION} as somebody else reads that stream, by 'readable'`)
}

const DUPLEX_METHODS = ['on', 'read', 'pause', 'resume', 'write', 'end', 'destroy', 'cork', 'uncork'] as const

function bufferOf({ chunk, encoding }: WriteEntry): Buffer {
  if (typeof chunk === 'string') return Buffer.from(chunk, encoding === 'latin1' ? 'latin1' : 'utf8')
  return Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
}

function tryToReset(duplex: Duplex, resetAndDestroy: () => void): void {
  try {
    resetAndDestroy.call(duplex)
  } catch {
    // A unix socket has no reset.
    duplex.destroy()
  }
}
