// Streams of bytes each of which breaks one law on purpose: by what carries its bytes, or by a wrapper of what users hold.

import type { ByteStream } from '../../src/connection.ts'
import { connectionSettings } from '../../src/options.ts'
import type { Reader } from '../../src/reader.ts'
import { openConnection } from '../../src/stream/connection-facade.ts'
import { own, type ReadBuffer } from '../../src/stream/read-buffer.ts'
import type { EndKind, Transport, TransportEvents, WriteEntry } from '../../src/stream/transport.ts'
import { Wire } from '../../src/testing/wire.ts'
import type { Chunk, Source, Writer } from '../../src/writer.ts'
import { turns } from './until.ts'

export interface BadPair {
  /** What is wrong with it. */
  readonly does: string
  /** The law that is found broken. */
  readonly breaks: string
  /** Makes a pair of which one is bad. */
  open(isFirst: boolean): [ByteStream, ByteStream]
}

const IN_ORDER = 'every byte arrives once, in the order of sending'
const NO_EARLY_END = 'there is no end before the peer has sent one'
const END = 'the end comes behind all bytes, again and again'
const RESET = 'a reset is an error and never an end, again and again'
const HELD_BACK = 'while nobody reads, the peer is held back'
const HALF_CLOSE = 'closing the writer leaves the reader open'
const CLOSE = 'close() hands over what was written, and resolves when the connection is closed'
const ABORT = 'abort() closes both sides, and leaves nothing open'

// By what carries the bytes ---------------------------------------------------------------------------------------------

/** Passes all commands and news on. */
class Carrier implements Transport, TransportEvents {
  protected readonly inner: Transport
  protected events!: TransportEvents
  readonly gatherSize: number
  readonly mustEnd = false
  readonly socket = undefined
  readonly taken = undefined

  constructor(inner: Transport) {
    this.inner = inner
    this.gatherSize = inner.gatherSize
  }

  get isDestroyed(): boolean {
    return this.inner.isDestroyed
  }

  get unsent(): number | undefined {
    return this.inner.unsent
  }

  open(events: TransportEvents): void {
    this.events = events
    this.inner.open(this)
  }

  resume(): void {
    this.inner.resume()
  }

  write(entries: WriteEntry[]): boolean {
    return this.inner.write(entries)
  }

  end(): void {
    this.inner.end()
  }

  destroy(): void {
    this.inner.destroy()
  }

  reset(): void {
    this.inner.reset()
  }

  received(buffer: ReadBuffer, length: number): boolean {
    return this.events.received(buffer, length)
  }

  written(error?: Error): void {
    this.events.written(error)
  }

  finished(error?: Error): void {
    this.events.finished(error)
  }

  ended(kind: EndKind): void {
    this.events.ended(kind)
  }

  broken(cause: Error): void {
    this.events.broken(cause)
  }

  released(): void {
    this.events.released()
  }

  /** Passes `bytes` on as received. */
  protected give(bytes: Uint8Array): boolean {
    return this.events.received(own(Uint8Array.from(bytes)), bytes.byteLength)
  }
}

/** Passes on what arrives, changed where it is much. */
function changing(change: (bytes: Uint8Array) => Uint8Array): typeof Carrier {
  return class extends Carrier {
    override received(buffer: ReadBuffer, length: number): boolean {
      const bytes = buffer.bytes.subarray(0, length)
      return length > 1000 ? this.give(change(bytes)) : super.received(buffer, length)
    }
  }
}

class EndsWhenQuiet extends Carrier {
  #received = 0

  override received(buffer: ReadBuffer, length: number): boolean {
    const received = ++this.#received
    void turns(30).then(() => {
      if (received === this.#received && length === 1) this.events.ended('orderly')
    })
    return super.received(buffer, length)
  }
}

class NeverEnds extends Carrier {
  override ended(): void {}
}

class SwallowsResets extends Carrier {
  override broken(): void {
    this.events.ended('orderly')
  }
}

class EndsWithItsPeer extends Carrier {
  override ended(kind: EndKind): void {
    this.inner.end()
    super.ended(kind)
  }
}

class ReadsOn extends Carrier {
  readonly #held: Uint8Array[] = []
  #isFull = false
  #isEnded = false

  override resume(): void {
    this.#isFull = false
    queueMicrotask(() => this.#drain())
  }

  override received(buffer: ReadBuffer, length: number): boolean {
    this.#held.push(buffer.keep(length))
    this.#drain()
    return true
  }

  override ended(): void {
    this.#isEnded = true
    this.#drain()
  }

  #drain(): void {
    while (!this.#isFull) {
      const bytes = this.#held.shift()
      if (bytes === undefined) break
      this.#isFull = !this.give(bytes)
    }
    if (this.#isEnded && this.#held.length === 0) this.events.ended('orderly')
    if (this.#held.length === 0) this.#isEnded = false
  }
}

class StaysOpen extends Carrier {
  override released(): void {}
}

class ClosesWithoutReset extends Carrier {
  override reset(): void {
    this.inner.end()
    this.inner.destroy()
  }
}

class NeverFinishes extends Carrier {
  override finished(): void {}
}

function overBadCarrier(Bad: typeof Carrier): (isFirst: boolean) => [ByteStream, ByteStream] {
  return (isFirst) => {
    const { client, server } = new Wire(65_536, { endReleased() {} })
    return [stream(isFirst ? new Bad(client) : client), stream(isFirst ? server : new Bad(server))]
  }
}

function stream(transport: Transport): ByteStream {
  const address = { family: 'IPv4', address: '127.0.0.1', port: 1 } as const
  return openConnection(transport, connectionSettings('Cannot', {}), { remoteAddress: address, localAddress: address, isAccepted: false })
    .facade
}

// By a wrapper of what users hold ---------------------------------------------------------------------------------------

type Members = Record<PropertyKey, unknown>

/** Puts `members` in the place of those of `target`. */
function override<T extends object>(target: T, members: Members, sink?: (source: Source) => Promise<void>): T {
  return new Proxy(target, {
    get(_target, key) {
      if (key in members) return members[key]
      const value = Reflect.get(target, key, target) as unknown
      return typeof value === 'function' && !isPart(key) ? value.bind(target) : value
    },
    set: (_target, key, value) => Reflect.set(target, key, value, target),
    apply: (_target, _this, [source]) => (sink ?? (target as unknown as Writer))(source as Source)
  })
}

function isPart(key: PropertyKey): boolean {
  return key === 'writer' || key === 'sink' || key === 'reader' || key === 'source'
}

function wrapped(wrap: (stream: ByteStream) => ByteStream): (isFirst: boolean) => [ByteStream, ByteStream] {
  return (isFirst) => {
    const { client, server } = new Wire(65_536, { endReleased() {} })
    return isFirst ? [wrap(stream(client)), stream(server)] : [stream(client), wrap(stream(server))]
  }
}

function withReader(members: (reader: Reader) => Members): (isFirst: boolean) => [ByteStream, ByteStream] {
  return wrapped((inner) => {
    const reader = override(inner.reader, members(inner.reader))
    return override(inner, { reader, source: reader })
  })
}

function withWriter(members: (inner: ByteStream) => Members, sink?: (inner: ByteStream, source: Source) => Promise<void>) {
  return wrapped((inner) => {
    const writer = override(inner.writer, members(inner), sink && ((source) => sink(inner, source)))
    return override(inner, { writer, sink: writer })
  })
}

/** Puts `iterate` in the place of the reader's own iteration. */
function iterating(iterate: (reader: Reader) => AsyncGenerator<Uint8Array>): (isFirst: boolean) => [ByteStream, ByteStream] {
  return withReader((reader) => ({ [Symbol.asyncIterator]: () => iterate(reader) }))
}

async function* withEmptyChunks(reader: Reader): AsyncGenerator<Uint8Array> {
  for await (const chunk of reader) {
    yield chunk
    yield new Uint8Array()
  }
}

async function* inHalves(reader: Reader): AsyncGenerator<Uint8Array> {
  for await (const chunk of reader) {
    const half = chunk.byteLength >> 1
    if (half > 0) yield chunk.subarray(0, half)
    yield chunk.subarray(half)
  }
}

async function* readingAhead(reader: Reader): AsyncGenerator<Uint8Array> {
  let next = reader.read()
  for (let chunk = await next; chunk !== null; chunk = await next) {
    next = reader.read()
    next.catch(() => {})
    yield chunk
  }
}

export const BAD_PAIRS: readonly BadPair[] = [
  { does: 'loses a byte', breaks: IN_ORDER, open: overBadCarrier(changing((bytes) => bytes.subarray(1))) },
  { does: 'doubles a byte', breaks: IN_ORDER, open: overBadCarrier(changing((bytes) => Uint8Array.of(bytes[0] as number, ...bytes))) },
  { does: 'reorders bytes', breaks: IN_ORDER, open: overBadCarrier(changing((bytes) => bytes.toReversed())) },
  { does: 'ends early', breaks: NO_EARLY_END, open: overBadCarrier(EndsWhenQuiet) },
  { does: 'never ends', breaks: END, open: overBadCarrier(NeverEnds) },
  { does: 'swallows a reset', breaks: RESET, open: overBadCarrier(SwallowsResets) },
  { does: 'aborts without a reset', breaks: RESET, open: overBadCarrier(ClosesWithoutReset) },
  { does: 'breaks half-close', breaks: HALF_CLOSE, open: overBadCarrier(EndsWithItsPeer) },
  { does: 'ignores backpressure', breaks: HELD_BACK, open: overBadCarrier(ReadsOn) },
  { does: 'leaks on abort', breaks: ABORT, open: overBadCarrier(StaysOpen) },
  { does: 'never says that the end is sent', breaks: IN_ORDER, open: overBadCarrier(NeverFinishes) },
  { does: 'gives empty chunks', breaks: 'chunks are never empty', open: iterating(withEmptyChunks) },
  {
    does: 'shares memory between chunks',
    breaks: 'a chunk is its receiver’s to keep, and shares its memory with nothing else',
    open: iterating(inHalves)
  },
  {
    does: 'takes a chunk more than the loop did',
    breaks: 'leaving a loop leaves the reader open, where the loop stopped',
    open: iterating(readingAhead)
  },
  {
    does: 'loses what an aborted read had',
    breaks: 'a read that is aborted by its signal rejects with the reason, and loses no byte',
    open: withReader((reader) => ({
      async readExactly(length: number, options?: { signal?: AbortSignal }) {
        if (options?.signal === undefined) return await reader.readExactly(length)
        const taken = [(await reader.read()) as Uint8Array]
        taken.push((await reader.readExactly(length - 4, options)) as Uint8Array)
        return Buffer.concat(taken)
      }
    }))
  },
  {
    does: 'lets a second read wait',
    breaks: 'a second read at once is refused, and takes nothing',
    open: withReader((reader) => {
      let last: Promise<unknown> = Promise.resolve()
      const inTurn = <T>(read: () => Promise<T>): Promise<T> => {
        const next = last.then(read, read)
        last = next.catch(() => {})
        return next
      }
      return { read: () => inTurn(() => reader.read()), readLine: (options: object) => inTurn(() => reader.readLine(options)) }
    })
  },
  {
    does: 'gives what there is at the end for what was asked for',
    breaks: 'a read that can’t have what it asks for leaves the bytes',
    open: withReader((reader) => ({
      readExactly: (length: number, options?: object) =>
        reader.readExactly(length, options).catch((error: { code?: string }) => {
          if (error.code === 'ERR_UNEXPECTED_END') return reader.readAll()
          throw error
        })
    }))
  },
  {
    does: 'ends instead of rejecting after its own close()',
    breaks: 'after its own close() a reader rejects, and does not end',
    open: withReader((reader) => ({
      read: (options?: object) =>
        reader.read(options).catch((error: { code?: string }) => {
          if (error.code === 'ERR_CONNECTION_CLOSED') return null
          throw error
        })
    }))
  },
  {
    does: 'resolves flushed() early',
    breaks: 'flushed() resolves when what was written before it is handed over, and not earlier',
    open: withWriter(() => ({ flushed: () => Promise.resolve() }))
  },
  {
    does: 'counts what waits as written',
    breaks: 'bytesWritten, bytesPending and bytesRead count every byte once',
    open: withWriter(({ writer }) => ({
      get bytesWritten() {
        return writer.bytesWritten + writer.bytesPending
      }
    }))
  },
  {
    does: 'swallows what is written after close()',
    breaks: 'after close() a write throws',
    open: withWriter(({ writer }) => ({
      write(data: string) {
        if (!writer.isClosed) writer.write(data)
      }
    }))
  },
  {
    does: 'writes what is small first',
    breaks: 'bytes leave in the order of the calls',
    open: withWriter(({ writer }) => {
      let late: (string | Uint8Array)[] = []
      const flush = (): void => {
        for (const data of late.splice(0)) if (!writer.isClosed) writer.write(data)
        late = []
      }
      return {
        write(data: string | Uint8Array) {
          if (data.length !== 4) {
            writer.write(data)
            return
          }
          late.push(data)
          queueMicrotask(flush)
        }
      }
    })
  },
  {
    does: 'pulls all of a source at once',
    breaks: 'a sink pulls from its source only as fast as the peer takes the bytes',
    open: withWriter(
      () => ({}),
      async ({ writer }, source) => {
        const all: (Chunk | string)[] = []
        for await (const chunk of source) all.push(chunk)
        await writer(all)
      }
    )
  },
  {
    does: 'ends where its source has failed',
    breaks: 'a source that fails resets the connection, and its error is the sink’s',
    open: withWriter(
      () => ({}),
      async ({ writer }, source) => {
        try {
          for await (const chunk of source) {
            writer.write(chunk)
            await writer.flushed()
          }
        } finally {
          await writer.close()
        }
      }
    )
  },
  {
    does: 'lets a second sink wait',
    breaks: 'a second sink at once is refused',
    open: withWriter(
      () => ({}),
      (() => {
        const last = new WeakMap<ByteStream, Promise<void>>()
        return (inner: ByteStream, source: Source) => {
          const next = (last.get(inner) ?? Promise.resolve()).then(() => inner.writer(source))
          last.set(
            inner,
            next.catch(() => {})
          )
          return next
        }
      })()
    )
  },
  {
    does: 'resolves close() before the connection is closed',
    breaks: CLOSE,
    open: wrapped((inner) =>
      override(inner, {
        close(options?: object) {
          inner.close(options).catch(() => {})
          return Promise.resolve()
        }
      })
    )
  },
  {
    does: 'closes by aborting',
    breaks: CLOSE,
    open: wrapped((inner) =>
      override(inner, {
        close() {
          inner.abort()
          return inner.closed
        }
      })
    )
  },
  { does: 'never aborts its signal', breaks: CLOSE, open: wrapped((inner) => override(inner, { signal: new AbortController().signal })) },
  {
    does: 'forgets why it was aborted',
    breaks: 'abort() ends at once what is pending, and says why',
    open: wrapped((inner) => override(inner, { abort: () => inner.abort() }))
  }
]
