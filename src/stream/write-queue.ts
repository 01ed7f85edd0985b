// Writes that wait for those before them, and who waits for which of them.

import { Deferred, muted } from '../async/deferred.ts'
import type { WriteEntry } from './transport.ts'

/** One `flushed()`: resolves when so many bytes have been handed over since the beginning. */
interface Mark {
  readonly at: number
  readonly deferred: Deferred
}

/** A first-in-first-out queue of writes, in which every operation costs the same however long it is. */
export class WriteQueue {
  #entries: WriteEntry[] = []
  // Entries before this index are taken. Shifting an array of thousands for each would be quadratic.
  #head = 0
  #byteLength = 0
  #marks: Mark[] = []
  #firstMark = 0
  #gathered = 0

  /** Writes that wait. */
  get length(): number {
    return this.#entries.length - this.#head
  }

  get byteLength(): number {
    return this.#byteLength
  }

  /** Whether somebody waits for a flush. */
  get hasMarks(): boolean {
    return this.#firstMark < this.#marks.length
  }

  /** Bytes of what was gathered last. */
  get gathered(): number {
    return this.#gathered
  }

  push(entry: WriteEntry): void {
    this.#entries.push(entry)
    this.#byteLength += entry.byteLength
  }

  /** Resolves when the first `at` bytes of all are handed over. */
  flushedAt(at: number): Promise<void> {
    const last = this.#marks.at(-1)
    if (last !== undefined && last.at === at && this.hasMarks) return last.deferred.promise
    const mark = { at, deferred: new Deferred() }
    // Whoever calls and does not wait hears of a broken connection at the next call.
    this.#marks.push(mark)
    return muted(mark.deferred.promise)
  }

  /**
   * Takes the next writes to go as one, out of `accepted` bytes in all so far: up to the next flush, since that must not wait for what came
   * after it, and up to `limit` bytes; a larger one goes alone. Nothing if a buffer among them was detached or resized since.
   */
  gather(limit: number, accepted: number): WriteEntry[] {
    const first = this.#entries[this.#head] as WriteEntry
    if (first.byteLength >= limit) return this.#takeFirst(first)
    const done = accepted - this.#byteLength
    const upTo = Math.min(limit, (this.#marks[this.#firstMark]?.at ?? accepted) - done)
    let bytes = 0
    this.#gathered = 0
    let end = this.#head
    while (end < this.#entries.length && (end === this.#head || bytes < upTo)) {
      const { byteLength } = this.#entries[end] as WriteEntry
      if (isSpoilt(this.#entries[end] as WriteEntry)) return []
      if (end > this.#head && bytes + byteLength > limit) break
      bytes += byteLength
      end++
    }
    this.#gathered = bytes
    this.#byteLength -= bytes
    return this.#take(end)
  }

  /** Resolves the flushes for which `written` bytes in all are enough. */
  settleUpTo(written: number): void {
    for (; this.#firstMark < this.#marks.length; this.#firstMark++) {
      const mark = this.#marks[this.#firstMark] as Mark
      if (mark.at > written) break
      mark.deferred.resolve()
    }
    if (this.#firstMark === this.#marks.length) {
      this.#marks.length = 0
      this.#firstMark = 0
    } else if (this.#firstMark >= 1024 && this.#firstMark * 2 >= this.#marks.length) {
      this.#marks.splice(0, this.#firstMark)
      this.#firstMark = 0
    }
  }

  /** Rejects all who wait. */
  fail(error: Error): void {
    const marks = this.#marks.slice(this.#firstMark)
    this.#marks = []
    this.#firstMark = 0
    for (const { deferred } of marks) deferred.reject(error)
  }

  #takeFirst(first: WriteEntry): WriteEntry[] {
    this.#gathered = 0
    if (isSpoilt(first)) return []
    this.#gathered = first.byteLength
    this.#byteLength -= first.byteLength
    this.#entries[this.#head++] = undefined as never
    this.#dropTaken()
    return [first]
  }

  #take(end: number): WriteEntry[] {
    if (this.#head === 0 && end === this.#entries.length) {
      const all = this.#entries
      this.#entries = []
      return all
    }
    const taken = this.#entries.slice(this.#head, end)
    this.#entries.fill(undefined as never, this.#head, end)
    this.#head = end
    this.#dropTaken()
    return taken
  }

  #dropTaken(): void {
    if (this.#head === this.#entries.length) this.#entries.length = 0
    else if (this.#head >= 1024 && this.#head * 2 >= this.#entries.length) this.#entries.splice(0, this.#head)
    else return
    this.#head = 0
  }
}

function isSpoilt({ chunk, byteLength }: WriteEntry): boolean {
  return typeof chunk !== 'string' && chunk.byteLength !== byteLength
}

/** Why nothing could be gathered: part of the bytes is gone, and no peer may take the rest for the whole. */
export function spoilt(): TypeError {
  return new TypeError('Cannot write as bytes were detached or resized before they had left')
}
