// Every way to read: how it is called, what it may give, and whether it has to give something.

import { DelimiterNotFoundError, LimitExceededError, type Reader, UnexpectedEndError } from '../../src/index.ts'
import type { ReadKind, ReadRequest } from './program.ts'
import { law, violated } from './violation.ts'

/** What the model knows of the stream when a read settles. */
export interface View {
  /** Everything that arrived and was not yet taken. */
  readonly rest: Buffer
  /** Bytes that the reader says it has. */
  readonly available: number
  /** Holds the read to it that the stream ends `taken` bytes from here. */
  endsAfter(taken: number): void
}

/** Where the results of iterators and `readInto()` come from. */
export interface Call {
  readonly promise: Promise<unknown>
  readonly buffer?: Uint8Array
}

export interface Iterators {
  chunks: AsyncIterator<Uint8Array>
}

const FILL = 0xee
const encoder = new TextEncoder()

/** Calls the read. */
export function call(reader: Reader, iterators: Iterators, request: ReadRequest, signal: AbortSignal | undefined): Call {
  const { length, maxLength, delimiter } = request
  const options = signal === undefined ? {} : { signal }
  const limited = { ...options, maxLength }
  switch (request.kind) {
    case 'next':
      return { promise: iterators.chunks.next() }
    case 'read':
      return { promise: reader.read(options) }
    case 'readExactly':
      // Without options it has a way of its own.
      return { promise: signal === undefined ? reader.readExactly(length) : reader.readExactly(length, options) }
    case 'readUntil':
      return { promise: reader.readUntil(length % 2 === 0 ? delimiter : encoder.encode(delimiter), limited) }
    case 'peek':
      return { promise: reader.peek(length, options) }
    case 'readLine':
      return { promise: reader.readLine(limited) }
    case 'lines':
      return { promise: reader.lines(limited).next() }
    case 'readInto': {
      const buffer = new Uint8Array(Math.max(1, length)).fill(FILL)
      return { promise: reader.readInto(buffer, options), buffer }
    }
    case 'readAll':
      return { promise: reader.readAll(limited) }
    case 'discard':
      return { promise: reader.discard(options) }
  }
}

/** Whether `signal` is heeded: the iterator of chunks takes none. */
export function takesSignal(kind: ReadKind): boolean {
  return kind !== 'next'
}

/** Holds the result of a read against the model, and returns how many bytes it took. */
export function judge(request: ReadRequest, { buffer }: Call, result: unknown, view: View): number {
  const { rest } = view
  switch (request.kind) {
    case 'next':
    case 'lines': {
      const { done, value } = result as IteratorResult<unknown>
      law(done === true ? value === undefined : value !== undefined && value !== null, `gave ${done} with ${value}`)
      return judge({ ...request, kind: request.kind === 'next' ? 'read' : 'readLine' }, {} as Call, done === true ? null : value, view)
    }
    case 'read':
      if (result === null) return atEnd(view)
      law((result as Uint8Array).byteLength > 0, 'gave an empty chunk')
      return same(result, rest)
    case 'readExactly':
      if (result === null) return atEnd(view)
      law((result as Uint8Array).byteLength === request.length, () => `gave ${(result as Uint8Array).byteLength} bytes`)
      return same(result, rest)
    case 'peek': {
      if (result === null) return atEnd(view)
      const { byteLength } = result as Uint8Array
      law(byteLength <= request.length, `gave ${byteLength} bytes`)
      if (byteLength < request.length) view.endsAfter(byteLength)
      same(result, rest)
      return 0
    }
    case 'readInto': {
      if (result === null) return atEnd(view)
      const count = result as number
      const bytes = buffer as Uint8Array
      law(count > 0 && count <= bytes.byteLength, `gave ${count}`)
      law(
        bytes.subarray(count).every((byte) => byte === FILL),
        'wrote behind what it told'
      )
      return same(bytes.subarray(0, count), rest)
    }
    case 'readAll':
      view.endsAfter((result as Uint8Array).byteLength)
      law((result as Uint8Array).byteLength <= request.maxLength, 'gave more than its limit')
      return same(result, rest)
    case 'discard':
      view.endsAfter(result as number)
      return result as number
    case 'readUntil': {
      if (result === null) return atEnd(view)
      const { byteLength } = result as Uint8Array
      const delimiter = Buffer.from(request.delimiter)
      const found = rest.indexOf(delimiter)
      law(byteLength > 0, 'gave nothing')
      if (found === -1 || byteLength < found + delimiter.byteLength) {
        view.endsAfter(byteLength)
        law(byteLength <= request.maxLength, 'gave more than its limit')
      } else {
        law(byteLength === found + delimiter.byteLength, () => `gave ${byteLength} bytes with a delimiter at ${found}`)
        law(found <= request.maxLength, 'gave more than its limit')
      }
      return same(result, rest)
    }
    case 'readLine': {
      if (result === null) return atEnd(view)
      const { length, taken, isEnded } = lineOf(rest)
      if (!isEnded) view.endsAfter(taken)
      law(result === rest.toString('utf8', 0, length), () => `gave ${JSON.stringify(shorten(String(result)))}`)
      law(length <= request.maxLength, 'gave more than its limit')
      return taken
    }
  }
}

/** Holds the failure of a read against the model; returns false if it is one that the stream's content cannot bring about. */
export function judgeFailure(request: ReadRequest, error: unknown, { rest, available, endsAfter }: View): boolean {
  const { kind, maxLength } = request
  if (error instanceof UnexpectedEndError) {
    law(kind === 'readExactly' && available > 0 && available < request.length, 'failed of an end without reason')
    endsAfter(available)
    return true
  }
  if (error instanceof LimitExceededError) {
    law(kind === 'readAll' && available > maxLength && rest.byteLength > maxLength, 'failed of a limit without reason')
    return true
  }
  if (error instanceof DelimiterNotFoundError) {
    law(available > maxLength && rest.byteLength > maxLength, 'failed of a limit that was not reached')
    if (kind === 'readUntil') {
      const found = rest.indexOf(request.delimiter)
      law(found === -1 || found > maxLength, 'did not find what is there')
    } else {
      law(kind === 'readLine' || kind === 'lines', 'looked for a delimiter')
      const { length, isEnded } = lineOf(rest)
      law(!isEnded || length > maxLength, 'did not find what is there')
    }
    return true
  }
  return false
}

/** Whether a read has to settle once all of `rest` has arrived. */
export function isDue(request: ReadRequest, rest: Buffer, isFinished: boolean): boolean {
  const { byteLength } = rest
  if (isFinished) return true
  switch (request.kind) {
    case 'next':
    case 'read':
    case 'readInto':
      return byteLength > 0
    case 'readExactly':
    case 'peek':
      return byteLength >= request.length
    case 'readUntil':
      return rest.includes(request.delimiter) || byteLength >= request.maxLength + Buffer.byteLength(request.delimiter)
    case 'readLine':
    case 'lines':
      return lineOf(rest).isEnded || byteLength > request.maxLength + 1
    case 'readAll':
      return byteLength > request.maxLength
    case 'discard':
      return false
  }
}

function atEnd(view: View): number {
  view.endsAfter(0)
  return 0
}

function same(result: unknown, rest: Buffer): number {
  law(result instanceof Uint8Array, 'gave something else than bytes')
  const { byteLength } = result
  law(byteLength <= rest.byteLength, () => `gave ${byteLength} bytes when ${rest.byteLength} had arrived`)
  if (rest.compare(result, 0, byteLength, 0, byteLength) !== 0) {
    const at = result.findIndex((byte, index) => byte !== rest[index])
    const [got, sent] = [result, rest].map((bytes) => JSON.stringify(shorten(Buffer.from(bytes.subarray(at, at + 40)).toString('latin1'))))
    violated(`gave other bytes than were sent, from ${at} of ${byteLength} on: ${got} instead of ${sent}`)
  }
  return byteLength
}

/** The line at the start of `rest`: without its end, with it, and whether it has one. */
function lineOf(rest: Buffer): { length: number; taken: number; isEnded: boolean } {
  const found = rest.indexOf(0x0a)
  if (found === -1) return { length: rest.byteLength, taken: rest.byteLength, isEnded: false }
  return { length: found > 0 && rest[found - 1] === 0x0d ? found - 1 : found, taken: found + 1, isEnded: true }
}

function shorten(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}
