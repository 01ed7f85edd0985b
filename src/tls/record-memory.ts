// Into which memory the records of a connection are decrypted.

import { lent, own, RECORD_SIZE, type ReadBuffer, recordBuffers } from '../stream/read-buffer.ts'

/** What is lent to all; or, while full records come and are kept, memory of its own, which is given away. */
export class RecordMemory {
  #own: Uint8Array<ArrayBuffer> | undefined

  /** The memory that has just been read into. */
  get filled(): ReadBuffer {
    return this.#own === undefined ? lent.refill() : own(this.#own)
  }

  /** What to read into after `length` bytes in `filled`, of which the owner has heard; undefined for the same. */
  next(filled: ReadBuffer, length: number, goesOn: boolean): Uint8Array | undefined {
    const had = this.#own
    const next = goesOn && filled.isKept && length === RECORD_SIZE ? recordBuffers.take(had !== undefined) : undefined
    if (next === undefined) {
      if (had === undefined) return undefined
      this.leave(!filled.isGiven)
      return lent.bytes
    }
    this.#own = next
    return next
  }

  /** It has none of its own any more; what it had serves another connection if it `isFree`. */
  leave(isFree: boolean): void {
    if (this.#own === undefined) return
    recordBuffers.leave(isFree ? this.#own : undefined)
    this.#own = undefined
  }
}
