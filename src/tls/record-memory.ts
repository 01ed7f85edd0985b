// Into which memory the records of a connection are decrypted, and how many of them are told of at once.

import { setImmediate } from '../async/platform.ts'
import { currentTurn } from '../async/turn.ts'
import { belongingToOthers, lent, own, RECORD_SIZE, type ReadBuffer, recordBuffers } from '../stream/read-buffer.ts'
import { readNextRecordInto } from '../system/native-tls.ts'

/**
 * What is told of at once where records come one after the other: each chunk costs a turn of whoever reads. With the three that may still be in what was
 * read from the system when there is no more room for them, it is the 128 KiB by which a reader may be above its limit.
 */
const GATHERED = 5 * RECORD_SIZE

/** Whoever decrypts into it. */
export interface RecordMemoryOwner {
  /** `length` bytes are at the start of `buffer`. Gives whether to go on reading. */
  received(buffer: ReadBuffer, length: number): boolean
  /** Stops reading, outside of a read. */
  pause(): void
}

/**
 * What is lent to all; or, while full records come and are kept, memory of its own, which is given away: for one record, or for as many as {@link GATHERED}
 * once a turn of the event loop has brought more than one. Those are told of when there is no room for another, or the turn ends.
 */
export class RecordMemory {
  readonly #owner: RecordMemoryOwner
  #own: Uint8Array<ArrayBuffer> | undefined
  // Where in memory of its own what nobody was told of begins, and how long it is.
  #from = 0
  #length = 0
  #gathers = false
  #isEndAwaited = false
  #lastTurn = 0
  // How often it was left.
  #age = 0

  constructor(owner: RecordMemoryOwner) {
    this.#owner = owner
  }

  /** Notes that `length` bytes were decrypted to where they were to. Gives whether to go on; where to is named to what reads. */
  arrived(length: number): boolean {
    this.#length += length
    const end = this.#from + this.#length
    if (!this.#gathers || this.#own === undefined || length < RECORD_SIZE || end + RECORD_SIZE > this.#own.byteLength) return this.#tell()
    readNextRecordInto(this.#own.subarray(end))
    if (!this.#isEndAwaited) {
      this.#isEndAwaited = true
      setImmediate(endTurn, this)
    }
    return true
  }

  /** Tells of what was gathered, as a copy: what follows it in memory is what is read into next. */
  flush(): void {
    const length = this.#length
    if (length === 0) return
    const start = this.#from
    this.#from += length
    this.#length = 0
    this.#gathers = length > RECORD_SIZE
    const gathered = belongingToOthers((this.#own as Uint8Array).subarray(start, this.#from))
    if (!this.#owner.received(gathered, length)) this.#owner.pause()
  }

  endTurn(): void {
    this.#isEndAwaited = false
    this.flush()
  }

  /** It has none of its own any more; what it had serves another connection if it `isFree`. What was gathered is forgotten. */
  leave(isFree: boolean): void {
    this.#age++
    this.#length = 0
    this.#from = 0
    this.#gathers = false
    if (this.#own === undefined) return
    recordBuffers.leave(isFree ? this.#own : undefined)
    this.#own = undefined
  }

  #tell(): boolean {
    const age = this.#age
    const length = this.#length
    const filled = this.#own === undefined ? lent.refill() : own(this.#from === 0 ? this.#own : this.#own.subarray(this.#from))
    this.#length = 0
    const goesOn = this.#owner.received(filled, length)
    // Whoever was told may have asked for the socket.
    if (this.#age !== age) return goesOn
    const isWorth = goesOn && filled.isKept && length >= RECORD_SIZE
    if (isWorth) this.#take()
    else if (this.#own !== undefined) {
      this.leave(!filled.isGiven)
      readNextRecordInto(lent.bytes)
    }
    return goesOn
  }

  // Memory of its own in place of what it has.
  #take(): void {
    const turn = currentTurn()
    this.#gathers = turn === this.#lastTurn
    this.#lastTurn = turn
    const next = recordBuffers.take(this.#own !== undefined, this.#gathers ? GATHERED : RECORD_SIZE)
    if (next === undefined) return
    this.#own = next
    this.#from = 0
    readNextRecordInto(next)
  }
}

function endTurn(memory: RecordMemory): void {
  memory.endTurn()
}
