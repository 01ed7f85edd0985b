// What each read takes of the bytes that are there: functions of the queue, which knows nothing of waiting.

import { inspect } from 'node:util'
import { DelimiterNotFoundError, LimitExceededError, UnexpectedEndError } from '../errors.ts'
import type { Bytes } from '../reader.ts'
import type { ChunkQueue } from './chunk-queue.ts'
import type { LineFormat } from './line-format.ts'

/** What a {@link Take} gives if it needs more. */
export const INCOMPLETE = Symbol('incomplete')

/**
 * Tries to complete a read from the bytes that are there, of which more may follow unless the stream `isEnded`. Throws, with nothing taken, when
 * it can't be completed any more.
 */
export type Take<T> = (queue: ChunkQueue, isEnded: boolean) => T | typeof INCOMPLETE

export function takeChunk(queue: ChunkQueue, isEnded: boolean): Bytes | null | typeof INCOMPLETE {
  return queue.shift() ?? (isEnded ? null : INCOMPLETE)
}

export function takeNext(queue: ChunkQueue, isEnded: boolean): IteratorResult<Bytes, undefined> | typeof INCOMPLETE {
  const chunk = queue.shift()
  if (chunk !== undefined) return { value: chunk, done: false }
  return isEnded ? { value: undefined, done: true } : INCOMPLETE
}

export function exactly(length: number): Take<Bytes | null> {
  return (queue, isEnded) => {
    const available = queue.byteLength
    if (available >= length) return queue.take(length)
    if (!isEnded) return INCOMPLETE
    if (available === 0) return null
    throw new UnexpectedEndError(`Cannot read ${length} bytes as the stream ended after ${available}`)
  }
}

export function copyOf(length: number): Take<Bytes | null> {
  return (queue, isEnded) => {
    const available = queue.byteLength
    if (available < length && !isEnded) return INCOMPLETE
    if (available === 0 && length > 0) return null
    const copy = new Uint8Array(Math.min(length, available))
    queue.copyTo(copy)
    return copy
  }
}

export function all(maxLength: number): Take<Bytes> {
  return (queue, isEnded) => {
    const available = queue.byteLength
    if (available > maxLength) throw new LimitExceededError(`Cannot read all as there are more than ${maxLength} bytes`)
    return isEnded ? queue.take(available) : INCOMPLETE
  }
}

export function into(target: Uint8Array): Take<number | null> {
  return (queue, isEnded) => {
    const taken = queue.copyTo(target)
    if (taken === 0) return isEnded ? null : INCOMPLETE
    queue.skip(taken)
    return taken
  }
}

export function until(delimiter: Uint8Array, maxLength: number): Take<Bytes | null> {
  const search = new Search(delimiter)
  return (queue, isEnded) => {
    const available = queue.byteLength
    const found = search.in(queue)
    if (found === -1 ? available >= maxLength + delimiter.byteLength : found > maxLength) throw notFound(delimiter, maxLength)
    if (found !== -1) return queue.take(found + delimiter.byteLength)
    if (!isEnded) return INCOMPLETE
    if (available > maxLength) throw notFound(delimiter, maxLength)
    return available === 0 ? null : queue.take(available)
  }
}

export function line(search: Search, format: LineFormat, maxLength: number): Take<string | null> {
  return (queue, isEnded) => {
    const cheap = format.shiftLine(queue, maxLength)
    if (cheap !== undefined) return cheap
    const available = queue.byteLength
    const found = search.in(queue)
    if (found === -1 && !isEnded) {
      if (format.isTooLong(queue, available, maxLength)) throw notFound(format.ending, maxLength)
      return INCOMPLETE
    }
    if (available === 0) return null
    const end = found === -1 ? available : found
    const length = found === -1 ? end : format.lengthOf(queue, end)
    if (length > maxLength) throw notFound(format.ending, maxLength)
    const text = format.decode(queue.take(length))
    queue.skip((found === -1 ? end : end + format.ending.byteLength) - length)
    return text
  }
}

/** At least one line, and with it as many as are there. */
export function lines(search: Search, format: LineFormat, maxLength: number): Take<string[] | null> {
  const first = line(search, format, maxLength)
  return (queue, isEnded) => {
    const found = first(queue, isEnded)
    if (found === INCOMPLETE || found === null) return found
    const batch = [found]
    const cheap = format.shiftLines(queue, maxLength)
    if (cheap !== undefined) return batch.concat(cheap)
    while (batch.length < LONGEST_BATCH) {
      const next = queue.indexOf(format.ending, 0)
      if (next === -1 || next > maxLength) break
      search.restart()
      batch.push(first(queue, false) as string)
    }
    return batch
  }
}

/** Lines that one batch has at most, so that a turn of the event loop stays short. */
const LONGEST_BATCH = 1024

function notFound(delimiter: Uint8Array, maxLength: number): Error {
  return new DelimiterNotFoundError(`Cannot find ${inspect(Buffer.from(delimiter).toString())} within ${maxLength} bytes`)
}

/** Where the search for a delimiter has come to, so that nothing is searched twice. */
export class Search {
  readonly #wanted: Uint8Array
  #searched = 0

  constructor(wanted: Uint8Array) {
    this.#wanted = wanted
  }

  /** Begins again, for a read that begins. */
  restart(): void {
    this.#searched = 0
  }

  in(queue: ChunkQueue): number {
    const found = queue.indexOf(this.#wanted, this.#searched)
    this.#searched = Math.max(0, queue.byteLength - this.#wanted.byteLength + 1)
    return found
  }
}
