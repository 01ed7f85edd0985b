// What the specs of the reader share: every way to read, and peers that send in pieces or break off.

import { once } from 'node:events'
import type { Socket } from 'node:net'
import { expect } from 'chai'
import { type Connection, ConnectionResetError, type Reader, type ReadOptions, TruncatedError } from '../../src/index.ts'
import { type Random, randomPieces } from './random.ts'
import type { Transport } from './transports.ts'
import { turns, until } from './until.ts'

export const KIB = 1024
export const MIB = 1024 * KIB
/** What one read from the kernel gives at most. */
export const LARGEST_CHUNK = 128 * KIB
export const DEFAULT_MAX_LENGTH = 64 * KIB

/** A way to read, with what it gives of 'abcd\n' and an end, and what it leaves. */
export interface Method {
  readonly name: string
  read(reader: Reader, options?: ReadOptions): Promise<unknown>
  readonly gives: string | number
  readonly leaves: string
  /** What it gives at the end. */
  readonly atEnd: string | number | null
  /** Whether it takes a signal. */
  readonly takesSignal: boolean
  /** Whether it waits for more although there are two bytes and no line feed. */
  readonly isPatient: boolean
}

export const METHODS: readonly Method[] = [
  {
    name: 'read()',
    read: (reader, options) => reader.read(options),
    gives: 'abcd\n',
    leaves: '',
    atEnd: null,
    takesSignal: true,
    isPatient: false
  },
  {
    name: 'readExactly()',
    read: (reader, options) => reader.readExactly(4, options),
    gives: 'abcd',
    leaves: '\n',
    atEnd: null,
    takesSignal: true,
    isPatient: true
  },
  {
    name: 'readUntil()',
    read: (reader, options) => reader.readUntil('\n', options),
    gives: 'abcd\n',
    leaves: '',
    atEnd: null,
    takesSignal: true,
    isPatient: true
  },
  {
    name: 'peek()',
    read: (reader, options) => reader.peek(4, options),
    gives: 'abcd',
    leaves: 'abcd\n',
    atEnd: null,
    takesSignal: true,
    isPatient: true
  },
  {
    name: 'readLine()',
    read: (reader, options) => reader.readLine(options),
    gives: 'abcd',
    leaves: '',
    atEnd: null,
    takesSignal: true,
    isPatient: true
  },
  {
    name: 'readAll()',
    read: (reader, options) => reader.readAll(options),
    gives: 'abcd\n',
    leaves: '',
    atEnd: '',
    takesSignal: true,
    isPatient: true
  },
  {
    name: 'readInto()',
    read: (reader, options) => reader.readInto(new Uint8Array(3), options),
    gives: 3,
    leaves: 'd\n',
    atEnd: null,
    takesSignal: true,
    isPatient: false
  },
  {
    name: 'discard()',
    read: (reader, options) => reader.discard(options),
    gives: 5,
    leaves: '',
    atEnd: 0,
    takesSignal: true,
    isPatient: false
  },
  {
    name: 'next() of a loop',
    read: (reader) => reader[Symbol.asyncIterator]().next(),
    gives: 'abcd\n',
    leaves: '',
    atEnd: null,
    takesSignal: false,
    isPatient: false
  },
  {
    name: 'next() of lines()',
    read: (reader, options) => reader.lines(options).next(),
    gives: 'abcd',
    leaves: '',
    atEnd: null,
    takesSignal: true,
    isPatient: true
  },
  {
    name: 'next() of lineBatches()',
    read: (reader, options) => reader.lineBatches(options).next(),
    gives: 'abcd',
    leaves: '',
    atEnd: null,
    takesSignal: true,
    isPatient: true
  }
]
export function bytes(data: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.from(data))
}

export function text(data: Uint8Array | null | undefined): string | null {
  return data == null ? null : Buffer.from(data).toString()
}

/** What a read gave, in a form that compares: bytes as text, an iterator's result as its value, the end as null. */
export function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return text(value)
  if (Array.isArray(value)) return value.join('\n')
  if (value !== null && typeof value === 'object') return plain((value as { value?: unknown }).value)
  return value ?? null
}

export function limit(maxLength: number | undefined): { maxLength?: number } {
  return maxLength === undefined ? {} : { maxLength }
}

/** Sends the pieces so that each arrives as a chunk of its own. */
export async function deliver(peer: Socket, { reader }: Connection, ...pieces: (Uint8Array | string)[]): Promise<void> {
  for (const piece of pieces) {
    const wanted = reader.bytesRead + Buffer.from(piece as string).byteLength
    peer.write(piece)
    await until(() => reader.bytesRead >= wanted)
  }
}

/** Sends data in pieces of random size, then FIN. */
export async function sendInPieces(peer: Socket, data: Uint8Array, random: Random): Promise<void> {
  for (const piece of randomPieces(random, data)) {
    if (!peer.write(piece)) await once(peer, 'drain')
    if (random(5) === 0) await turns(1)
  }
  peer.end()
}

export async function* whileSending(reader: Reader, peer: Socket, data: string): AsyncGenerator<Uint8Array> {
  peer.write(data)
  yield* reader
}

export async function onceData(peer: Socket): Promise<Buffer> {
  const [data] = await once(peer.resume(), 'data')
  return data as Buffer
}

/** Leaves something unread at the peer: closing with that is a reset also on a unix socket. */
export async function provoke(connection: Connection, peer: Socket): Promise<void> {
  peer.pause()
  connection.writer.write('unread')
  await connection.writer.flushed()
}

/** Ends the connection as an error: the peer resets it, with `last` sent in the same turn of the event loop. */
export async function breakOff(connection: Connection, peer: Socket, last = ''): Promise<void> {
  const isTcp = connection.remoteAddress.family !== 'unix'
  if (!isTcp && connection.writer.bytesWritten === 0 && !connection.writer.isClosed) await provoke(connection, peer)
  if (last !== '') peer.write(last)
  // On the loopback what is sent has arrived when the call returns: both come before one poll.
  if (isTcp) peer.resetAndDestroy()
  else peer.destroy()
  if (!peer.closed) await once(peer, 'close')
}

/** A reset that came with data or behind a failed write: over TLS, where Node.js says that it is an end, it is told as one that was cut off. */
export function expectCut({ tls }: Transport, error: unknown, ...codes: string[]): void {
  if (tls === undefined || !(error instanceof TruncatedError)) expectReset(error, ...codes)
}

export function expectReset(error: unknown, ...codes: string[]): void {
  expect(error).to.be.instanceOf(ConnectionResetError)
  expect(((error as Error).cause as NodeJS.ErrnoException).code).to.be.oneOf(codes)
}
