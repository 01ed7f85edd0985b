// A first-in-first-out queue of bytes in chunks.

import { concat } from 'uint8arrays/concat'

/** Bytes in chunks, in order, with searching and taking across chunk boundaries. Nothing is copied unless it has to be joined. */
export class ChunkQueue {
  #chunks: Uint8Array<ArrayBuffer>[] = []
  // Chunks before this index are taken. Shifting an array of thousands for each would be quadratic.
  #head = 0
  #byteLength = 0

  get byteLength(): number {
    return this.#byteLength
  }

  push(chunk: Uint8Array<ArrayBuffer>): void {
    this.#chunks.push(chunk)
    this.#byteLength += chunk.byteLength
  }

  /** The first chunk as it arrived; undefined if there is none. */
  shift(): Uint8Array<ArrayBuffer> | undefined {
    const chunk = this.#chunks[this.#head]
    if (chunk === undefined) return undefined
    this.#drop()
    this.#byteLength -= chunk.byteLength
    return chunk
  }

  /** The next `length` bytes, of which there must be as many, in one piece. */
  take(length: number): Uint8Array<ArrayBuffer> {
    const first = this.#chunks[this.#head]
    if (first !== undefined && first.byteLength >= length) {
      this.skip(length)
      return first.byteLength === length ? first : first.subarray(0, length)
    }
    const parts: Uint8Array[] = []
    for (let left = length; left > 0; ) {
      const chunk = this.#chunks[this.#head] as Uint8Array
      const part = chunk.byteLength <= left ? chunk : chunk.subarray(0, left)
      parts.push(part)
      this.skip(part.byteLength)
      left -= part.byteLength
    }
    return concat(parts, length)
  }

  /** Copies the next bytes into `target`, as many as fit and are there, without taking them; returns how many. */
  copyTo(target: Uint8Array): number {
    let filled = 0
    for (let i = this.#head; i < this.#chunks.length && filled < target.byteLength; i++) {
      const chunk = this.#chunks[i] as Uint8Array
      const part = chunk.byteLength <= target.byteLength - filled ? chunk : chunk.subarray(0, target.byteLength - filled)
      target.set(part, filled)
      filled += part.byteLength
    }
    return filled
  }

  /** Takes the next `length` bytes, of which there must be as many, and throws them away. */
  skip(length: number): void {
    this.#byteLength -= length
    while (length > 0) {
      const chunk = this.#chunks[this.#head] as Uint8Array<ArrayBuffer>
      if (chunk.byteLength > length) {
        this.#chunks[this.#head] = chunk.subarray(length)
        return
      }
      length -= chunk.byteLength
      this.#drop()
    }
  }

  /** The byte at `index`, which must be there. */
  at(index: number): number {
    let i = this.#chunks.length
    let start = this.#byteLength
    do start -= (this.#chunks[--i] as Uint8Array).byteLength
    while (start > index)
    return (this.#chunks[i] as Uint8Array)[index - start] as number
  }

  /** Where `wanted` first begins at `from` or after, or -1. */
  indexOf(wanted: Uint8Array, from: number): number {
    // The chunk with `from` is looked for from the end: a caller who waits for a delimiter has searched all but the last.
    let i = this.#chunks.length
    let start = this.#byteLength
    while (start > from && i > this.#head) start -= (this.#chunks[--i] as Uint8Array).byteLength
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
    this.#byteLength = 0
  }

  #drop(): void {
    // The slot is emptied at once, so that a taken chunk is not kept alive by the queue.
    this.#chunks[this.#head++] = undefined as never
    if (this.#head === this.#chunks.length) {
      this.#chunks.length = 0
      this.#head = 0
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
