// A first-in-first-out queue of bytes in chunks.

import { isAscii } from 'node:buffer'
import type { Bytes } from '../reader.ts'
import type { ReadBuffer } from './read-buffer.ts'

export const LINE_FEED = 0x0a
export const CARRIAGE_RETURN = 0x0d
/** Bytes split into lines at once: few where lines take turns with other reads, which throw away what was split. */
const MIN_SPLIT = 128
const MAX_SPLIT = 65_536

/** Behind so many chunks, those below this size are put side by side into blocks: an ArrayBuffer for each would cost more than its bytes. */
const SMALL = 1024
const MAX_APART = 32
/** The first block of a queue, and the largest: each has twice the size of the one before. */
const FIRST_BLOCK = 256
const LARGEST_BLOCK = 16_384

/**
 * Bytes in chunks, in order, with searching and taking across chunk boundaries. What is taken shares its memory with nothing else: it is a
 * chunk that was pushed, or the rest of one, or a copy.
 */
export class ChunkQueue {
  #chunks: Bytes[] = []
  // The memory of the last chunk, while small ones may still be added to it.
  #block: Bytes | undefined
  #blockSize = FIRST_BLOCK
  // Chunks before this index are taken. Shifting an array of thousands for each would be quadratic.
  #head = 0
  // Bytes taken of the first chunk.
  #offset = 0
  #byteLength = 0
  // The next lines of the first chunk, from `#line` on; empty if none has been split.
  #lines: string[] = []
  #line = 0
  // Whether their characters are as many as their bytes.
  #isAscii = true
  // How many bytes are split at once: more, the longer nothing but lines is read.
  #splitSize = MIN_SPLIT

  get byteLength(): number {
    return this.#byteLength
  }

  /** Adds a chunk, which is the queue's from then on. */
  push(chunk: Bytes): void {
    this.#block = undefined
    this.#chunks.push(chunk)
    this.#byteLength += chunk.byteLength
  }

  /** Adds the bytes from `from` to `length` of what was just read. */
  add(buffer: ReadBuffer, length: number, from = 0): void {
    const added = length - from
    if (added >= SMALL || this.#chunks.length - this.#head < MAX_APART) {
      this.push(buffer.keep(length, from))
      return
    }
    const last = this.#block === undefined ? undefined : this.#chunks.at(-1)
    const used = last?.byteLength ?? 0
    if (this.#block === undefined || used + added > this.#block.byteLength) {
      this.#block = new Uint8Array(Math.max(this.#blockSize, added))
      this.#blockSize = Math.min(2 * this.#blockSize, LARGEST_BLOCK)
      this.#block.set(buffer.bytes.subarray(from, length))
      this.#chunks.push(this.#block.subarray(0, added))
    } else {
      this.#block.set(buffer.bytes.subarray(from, length), used)
      this.#chunks[this.#chunks.length - 1] = this.#block.subarray(0, used + added)
    }
    this.#byteLength += added
  }

  /** What is left of the first chunk; undefined if there is none. */
  shift(): Bytes | undefined {
    const chunk = this.#chunks[this.#head]
    if (chunk === undefined) return undefined
    const rest = this.#giveAway(chunk, this.#offset)
    this.#drop()
    this.#byteLength -= rest.byteLength
    return rest
  }

  /** The next `length` bytes, of which there must be as many, in one piece. */
  take(length: number): Bytes {
    const first = this.#chunks[this.#head]
    if (first !== undefined) {
      const available = first.byteLength - this.#offset
      if (available === length) return this.shift() as Bytes
      if (available > length) {
        const part = first.slice(this.#offset, this.#offset + length)
        this.skip(length)
        return part
      }
    }
    // Not of uint8arrays, which joins small ones in memory that Node.js shares among all its Buffers.
    const joined = new Uint8Array(length)
    this.copyTo(joined)
    this.skip(length)
    return joined
  }

  // What is left of a chunk: its memory, of which all else was taken, as a copy; or a copy, if it would keep more than as much again.
  #giveAway(chunk: Bytes, offset: number): Bytes {
    const rest = chunk.byteLength - offset
    if (2 * rest < chunk.buffer.byteLength) return chunk.slice(offset)
    return offset === 0 ? chunk : chunk.subarray(offset)
  }

  /**
   * The next line, without its end, if that can be had cheaply: the first chunk is split many lines at a time. Undefined otherwise, also if
   * the line does not end in this chunk or is longer than `maxLength`.
   */
  shiftLine(maxLength: number): string | undefined {
    if (this.#line === this.#lines.length && !this.#splitLines()) return undefined
    const line = this.#lines[this.#line] as string
    const chunk = this.#chunks[this.#head] as Uint8Array
    const byteLength = this.#isAscii ? line.length : chunk.indexOf(LINE_FEED, this.#offset) - this.#offset
    const hasReturn = line.charCodeAt(line.length - 1) === CARRIAGE_RETURN
    if (byteLength > (hasReturn ? maxLength + 1 : maxLength)) return undefined
    this.#line++
    this.#byteLength -= byteLength + 1
    this.#offset += byteLength + 1
    if (this.#offset === chunk.byteLength) this.#drop()
    return hasReturn ? line.slice(0, -1) : line
  }

  /** As many of the next lines as can be had cheaply, as {@link shiftLine} gives them; undefined if not even one. */
  shiftLines(maxLength: number): string[] | undefined {
    let line = this.shiftLine(maxLength)
    if (line === undefined) return undefined
    const lines = [line]
    while (this.#line < this.#lines.length) {
      line = this.shiftLine(maxLength)
      if (line === undefined) break
      lines.push(line)
    }
    return lines
  }

  #splitLines(): boolean {
    const chunk = this.#chunks[this.#head]
    if (chunk === undefined) return false
    let end = chunk.lastIndexOf(LINE_FEED, this.#offset + this.#splitSize - 1)
    if (end < this.#offset) end = chunk.indexOf(LINE_FEED, this.#offset + this.#splitSize)
    if (end === -1) return false
    const whole = Buffer.from(chunk.buffer, chunk.byteOffset + this.#offset, end - this.#offset)
    this.#isAscii = isAscii(whole)
    this.#lines = whole.toString(this.#isAscii ? 'latin1' : 'utf8').split('\n')
    this.#line = 0
    this.#splitSize = Math.min(2 * this.#splitSize, MAX_SPLIT)
    return true
  }

  /** Copies the next bytes into `target`, as many as fit and are there, without taking them; returns how many. */
  copyTo(target: Uint8Array): number {
    let filled = 0
    for (let i = this.#head; i < this.#chunks.length && filled < target.byteLength; i++) {
      const chunk = this.#chunks[i] as Uint8Array
      const from = i === this.#head ? this.#offset : 0
      const wanted = Math.min(chunk.byteLength - from, target.byteLength - filled)
      target.set(wanted === chunk.byteLength ? chunk : chunk.subarray(from, from + wanted), filled)
      filled += wanted
    }
    return filled
  }

  /** Takes the next `length` bytes, of which there must be as many, and throws them away. */
  skip(length: number): void {
    this.#byteLength -= length
    this.#forgetLines()
    while (length > 0) {
      const left = (this.#chunks[this.#head] as Uint8Array).byteLength - this.#offset
      if (left > length) {
        this.#offset += length
        return
      }
      length -= left
      this.#drop()
    }
  }

  /** The byte at `index`, which must be there. */
  at(index: number): number {
    const [i, start] = this.#locate(index)
    return (this.#chunks[i] as Uint8Array)[index - start] as number
  }

  /** Where `wanted` first begins at `from` or after, or -1. */
  indexOf(wanted: Uint8Array, from: number): number {
    if (from >= this.#byteLength) return -1
    let [i, start] = this.#locate(from)
    if (wanted.byteLength > 1 && this.#byteLength - from < 2 * wanted.byteLength) {
      // Where bytes come one by one: joined once, instead of for each of these chunks.
      const found = indexIn(this.#join(i, from - start, this.#byteLength - from), wanted, 0)
      return found === -1 ? -1 : from + found
    }
    for (; i < this.#chunks.length; i++) {
      const chunk = this.#chunks[i] as Uint8Array
      const found = indexIn(chunk, wanted, Math.max(0, from - start))
      if (found !== -1) return start + found
      if (wanted.byteLength > 1) {
        // It may begin in this chunk and end in a later one.
        const seam = Math.max(0, from - start, chunk.byteLength - wanted.byteLength + 1)
        const across = this.#join(i, seam, chunk.byteLength - seam + wanted.byteLength - 1)
        const foundAcross = indexIn(across, wanted, 0)
        if (foundAcross !== -1) return start + seam + foundAcross
      }
      start += chunk.byteLength
    }
    return -1
  }

  // Up to `length` bytes from `offset` in chunk `i` on.
  #join(i: number, offset: number, length: number): Uint8Array {
    const joined = new Uint8Array(length)
    let filled = 0
    for (; i < this.#chunks.length && filled < length; i++, offset = 0) {
      const part = (this.#chunks[i] as Uint8Array).subarray(offset, offset + length - filled)
      joined.set(part, filled)
      filled += part.byteLength
    }
    return joined.subarray(0, filled)
  }

  clear(): void {
    this.#chunks = []
    this.#head = 0
    this.#block = undefined
    this.#offset = 0
    this.#byteLength = 0
    this.#forgetLines()
  }

  // The chunk that has the byte at `index`, and where it begins; the first one begins before what is left of it. Looked for from the
  // nearer end: who waits for a delimiter has searched all but the last chunk, who has many of them buffered finds them at the head.
  #locate(index: number): [chunk: number, start: number] {
    if (index < this.#byteLength / 2) {
      let i = this.#head
      let start = -this.#offset
      for (let end = start; ; start = end, i++) {
        end += (this.#chunks[i] as Uint8Array).byteLength
        if (end > index) return [i, start]
      }
    }
    let i = this.#chunks.length
    let start = this.#byteLength
    do start -= (this.#chunks[--i] as Uint8Array).byteLength
    while (start > index)
    return [i, start]
  }

  #forgetLines(): void {
    if (this.#line < this.#lines.length) this.#splitSize = MIN_SPLIT
    if (this.#lines.length === 0) return
    this.#lines = []
    this.#line = 0
  }

  #drop(): void {
    this.#offset = 0
    this.#forgetLines()
    // The slot is emptied at once, so that a taken chunk is not kept alive by the queue.
    this.#chunks[this.#head++] = undefined as never
    if (this.#head === this.#chunks.length) {
      this.#chunks.length = 0
      this.#head = 0
      // Its memory may be the caller's now.
      this.#block = undefined
    } else if (this.#head >= 1024 && this.#head * 2 >= this.#chunks.length) {
      this.#chunks.splice(0, this.#head)
      this.#head = 0
    }
  }
}

function indexIn(chunk: Uint8Array, wanted: Uint8Array, from: number): number {
  if (wanted.byteLength === 1) return chunk.indexOf(wanted[0] as number, from)
  // Uint8Array has no search for more than one byte.
  return Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength).indexOf(wanted, from)
}
