// What the specs of the writer share: sources of every kind, and peers that read in fits or break off.

import { once } from 'node:events'
import type { Socket } from 'node:net'
import { expect } from 'chai'
import { type Chunk, type Connection, ConnectionResetError } from '../../src/index.ts'
import { type Transcript, transcript } from './transcript.ts'
import { carrierOf, TOO_MUCH } from './transports.ts'
import { turns } from './until.ts'

export const KIB = 1024
export const MIB = 1024 * KIB
export const NOT_DATA: readonly unknown[] = [
  42,
  null,
  undefined,
  [1],
  {},
  new ArrayBuffer(1),
  new DataView(new ArrayBuffer(1)),
  Symbol('s'),
  true
]
export const NOT_CHUNKS: readonly unknown[] = [42, null, undefined, [1], new ArrayBuffer(1)]
export const NOT_ITERABLE: readonly unknown[] = ['text', ascii('bytes'), 42, null, undefined, {}, () => {}, { [Symbol.asyncIterator]: 42 }]

/** Every way in which a source can fail before it has given anything. */
export const THROWING: Record<string, (error: unknown) => AsyncIterable<Chunk> | Iterable<Chunk>> = {
  // biome-ignore lint/correctness/useYield: it throws before
  async *'an async generator throws'(error) {
    await turns(2)
    throw error
  },
  // biome-ignore lint/correctness/useYield: it throws before
  *'a sync generator throws'(error) {
    throw error
  },
  'its next() throws': (error) => ({ [Symbol.asyncIterator]: () => ({ next: throwing(error) }) }),
  'its next() rejects': (error) => ({ [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(error) }) }),
  'its [Symbol.asyncIterator]() throws': (error) => ({ [Symbol.asyncIterator]: throwing(error) }),
  'its [Symbol.iterator]() throws': (error) => ({ [Symbol.iterator]: throwing(error) })
}
export function ascii(text: string): Uint8Array {
  return Buffer.from(text, 'ascii')
}

export function patterned(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length)
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >> 8) + seed * 17) & 0xff
  return bytes
}

export async function* generate(chunks: Iterable<Chunk>): AsyncGenerator<Chunk> {
  yield* chunks
}

export function* generateSync(chunks: Iterable<Chunk>): Generator<Chunk> {
  yield* chunks
}

export function throwing(error: unknown): () => never {
  return () => {
    throw error
  }
}

export type Recorded = AsyncIterable<Chunk> & { readonly lines: readonly string[] }

/** A source of `chunks` that writes down what is done with it. */
export function recorded(record: Transcript, ...chunks: Chunk[]): Recorded {
  const iterator = {
    next(): Promise<IteratorResult<Chunk, undefined>> {
      record('next')
      // Undefined and null are chunks too, bad ones.
      const done = chunks.length === 0
      return Promise.resolve(done ? { done, value: undefined } : { done, value: chunks.shift() as Chunk })
    },
    return(): Promise<IteratorResult<Chunk, undefined>> {
      record('return')
      return Promise.resolve({ done: true, value: undefined })
    }
  }
  return { lines: record.lines, [Symbol.asyncIterator]: () => iterator }
}

/** A source that never answers, and does `leave` when it is let go. */
export function hanging(leave: () => Promise<never>): Recorded {
  const record = transcript()
  const iterator = {
    next(): Promise<never> {
      record('next')
      return new Promise(() => {})
    },
    return(): Promise<never> {
      record('return')
      return leave()
    }
  }
  return { lines: record.lines, [Symbol.asyncIterator]: () => iterator }
}

/** A source that is fed by the test. */
export function queue(): AsyncIterable<Chunk> & { push(chunk: Chunk): void; end(): void } {
  const items: (Chunk | undefined)[] = []
  let wake = (): void => {}
  const add = (item: Chunk | undefined): void => {
    items.push(item)
    wake()
  }
  return {
    push: add,
    end: () => add(undefined),
    async *[Symbol.asyncIterator]() {
      for (;;) {
        while (items.length === 0) {
          await new Promise<void>((resolve) => {
            wake = resolve
          })
        }
        const item = items.shift()
        if (item === undefined) return
        yield item
      }
    }
  }
}

export function expectReset(error: unknown): void {
  expect(error).to.be.instanceOf(ConnectionResetError).with.property('code', 'ERR_CONNECTION_RESET')
  const { cause } = error as Error
  expect((cause as NodeJS.ErrnoException).code).to.be.oneOf(['ECONNRESET', 'EPIPE'])
}

/** Writes more than the system takes, in pieces: over TLS what was written counts in steps of a write. */
export function writeTooMuch({ writer }: Connection): void {
  for (let at = 0; at < TOO_MUCH.byteLength; at += 256 * KIB) writer.write(TOO_MUCH.subarray(at, at + 256 * KIB))
}

/** Reads on; resolves with 'end' at the peer's FIN, or with the code of the error. */
export async function peerSees(peer: Socket): Promise<string> {
  if (peer.readableEnded) return 'end'
  const end = once(peer, 'end').then(
    () => 'end',
    (error: NodeJS.ErrnoException) => error.code ?? error.message
  )
  peer.resume()
  return await end
}

/** Counts the bytes of every system call that the writer makes, by the members that a stream's implementer has. */
export function watchHandOvers(connection: Connection): number[] {
  const goes: number[] = []
  type Entry = { chunk: string | Uint8Array }
  const carrier = carrierOf(connection)
  if (carrier !== undefined) {
    const write = carrier.write.bind(carrier)
    carrier.write = (entries) => {
      goes.push(entries.reduce((sum, { byteLength }) => sum + byteLength, 0))
      return write(entries)
    }
    return goes
  }
  const socket = connection.socket as unknown as {
    _write(chunk: string | Uint8Array, ...rest: unknown[]): void
    _writev(entries: Entry[], ...rest: unknown[]): void
  }
  const { _write, _writev } = socket
  socket._write = (chunk, ...rest) => {
    goes.push(Buffer.byteLength(chunk))
    _write.call(socket, chunk, ...rest)
  }
  socket._writev = (entries, ...rest) => {
    goes.push(entries.reduce((sum, { chunk }) => sum + Buffer.byteLength(chunk), 0))
    _writev.call(socket, entries, ...rest)
  }
  return goes
}

/** Reads to the end, with a pause after every few chunks. */
export async function readStuttering(peer: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of peer) {
    chunks.push(chunk)
    if (chunks.length % 3 === 0) await turns(3)
  }
  return Buffer.concat(chunks)
}

// For what must not happen within a time that is part of the contract; nothing waits for the time to be exact.
export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}
