// What a law of a stream of bytes is, and what the laws are checked with.

import { inspect } from 'node:util'
import { setImmediate } from '../async/platform.ts'
import type { ByteStream } from '../connection.ts'

/** A promise of every connection, in words, and a program that finds out whether it is kept. */
export interface Law {
  readonly name: string
  /** Whether it is about resets, which not everything that carries bytes has. */
  readonly isOfResets?: boolean
  /** Rejects if the law is broken between two ends that are each other's peer. Called for both ways round; it need not close them. */
  check(near: ByteStream, far: ByteStream): Promise<void>
}

/** Thrown by `checkConnection` for the first law that does not hold. */
export class BrokenLawError extends Error {
  override readonly name = 'BrokenLawError'
  readonly code = 'ERR_BROKEN_LAW'
  /** The law's name: a sentence. */
  readonly law: string

  constructor(law: string, cause: unknown) {
    super(`A law is broken: ${law}: ${cause instanceof Error ? cause.message : inspect(cause)}`, { cause })
    this.law = law
  }
}

/** @throws {Error} With `what`, unless `holds`. */
export function verify(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(what)
}

/** Verifies that `promise` rejects with an error that has one of `codes`, and gives it. */
export async function verifyRejects(promise: Promise<unknown>, what: string, ...codes: readonly string[]): Promise<Error> {
  const error = await promise.then(
    (value) => {
      throw new Error(`${what} resolved with ${inspect(value)} instead of rejecting with ${codes.join(' or ')}`)
    },
    (reason: unknown) => reason
  )
  verifyCode(error, what, ...codes)
  return error
}

/** Verifies that `call` throws an error that has one of `codes`. */
export function verifyThrows(call: () => unknown, what: string, ...codes: readonly string[]): void {
  try {
    call()
  } catch (error) {
    verifyCode(error, what, ...codes)
    return
  }
  throw new Error(`${what} did not throw, instead of ${codes.join(' or ')}`)
}

function verifyCode(error: unknown, what: string, ...codes: readonly string[]): asserts error is Error {
  const { code } = (error ?? {}) as { code?: string }
  verify(code !== undefined && codes.includes(code), `${what} failed with ${inspect(error)} instead of ${codes.join(' or ')}`)
}

/** What a read rejects with after a reset: over TLS it may be told as a truncation. */
export const RESET_CODES = ['ERR_CONNECTION_RESET', 'ERR_TRUNCATED'] as const
export const CLOSED = 'ERR_CONNECTION_CLOSED'

/** Lets the event loop turn so often. */
export async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve, undefined))
}

/** Turns of the event loop in which what is about to happen happens. */
const PATIENCE = 50

/** Whether `promise` is settled, or is so soon. */
export async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let isDone = false
  const done = (): void => {
    isDone = true
  }
  promise.then(done, done)
  for (let turn = 0; turn < PATIENCE && !isDone; turn++) await turns(1)
  return isDone
}

/** More than any system takes while nobody reads. */
export const TOO_MUCH = 64 * 1024 * 1024
export const PIECE = new Uint8Array(1024 * 1024).fill(0x2e)

/** Writes until bytes wait that the peer's system does not take, since nobody reads there. Gives how many were written. */
export async function stall({ writer }: ByteStream): Promise<number> {
  for (let written = 0; written < TOO_MUCH; ) {
    writer.write(PIECE)
    written += PIECE.byteLength
    if (await isStuck(writer)) return written
  }
  throw new Error(`${TOO_MUCH} bytes were taken although nobody read`)
}

async function isStuck(writer: ByteStream['writer']): Promise<boolean> {
  let seen = writer.bytesPending
  for (let turn = 0; turn < PATIENCE && seen > 0; turn++) {
    await turns(1)
    const { bytesPending } = writer
    if (bytesPending !== seen) turn = 0
    seen = bytesPending
  }
  return seen > 0
}

/** Bytes that look random and are the same every time, none of them a line feed. */
export function noise(length: number): Uint8Array {
  let state = 1
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return 0x20 + ((state >>> 16) & 0x3f)
  })
}

/** Verifies that `bytes` are what was sent. */
export function verifyBytes(bytes: Uint8Array, sent: Uint8Array): void {
  if (Buffer.compare(bytes, sent) === 0) return
  const wrong = bytes.findIndex((byte, index) => byte !== sent[index])
  verify(wrong === -1 || wrong >= sent.byteLength, `the byte at ${wrong} is ${bytes[wrong]} instead of ${sent[wrong]}`)
  verify(bytes.byteLength === sent.byteLength, `${bytes.byteLength} bytes arrived of ${sent.byteLength} that were sent`)
}

export function text(bytes: Uint8Array | null): string | null {
  return bytes === null ? null : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
}

/** Verifies that `actual` is `expected`. */
export function verifyIs(actual: unknown, expected: unknown, what: string): void {
  verify(Object.is(actual, expected), `${what} is ${inspect(actual)} instead of ${inspect(expected)}`)
}

export function concat(chunks: readonly Uint8Array[]): Uint8Array {
  const whole = Buffer.concat(chunks)
  return new Uint8Array(whole.buffer, whole.byteOffset, whole.byteLength)
}

/** A promise whose rejection is somebody else's business. */
export function quiet<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {})
  return promise
}
