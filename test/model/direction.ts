// One direction of a link: what its sender has sent, and how it may end for the receiver.

import { violated } from './violation.ts'

/**
 * Linux hands over what arrived before a reset, and on one machine that is all that fits the windows of the receiver, in bytes, and of
 * congestion control, in packets.
 */
const SURELY_DELIVERED = process.platform === 'linux' ? { bytes: 16_384, packets: 8 } : { bytes: 0, packets: 0 }

/** Below the 2 s for which a closed connection waits for the peer's FIN: after that a reset is in order. */
const LINGER = 1_500

/**
 * How the sender's descriptor went: not at all, with a RST, closed without regard to what was in flight, or perhaps with a RST, if something was
 * still in flight.
 */
export type Cut = 'no' | 'reset' | 'close' | 'perhaps'

export class Direction {
  readonly #salt: number
  readonly isTcp: boolean
  /** Whether the sender asked for FIN: nothing may follow. */
  isFinished = false
  /** Of what was sent, the bytes that the operating system surely had when the sender was cut off. */
  handedOver = 0
  #cut: Cut = 'no'
  #closedAt = Number.POSITIVE_INFINITY
  #bytes = Buffer.allocUnsafe(1024)
  #length = 0
  // At most: several writes may go as one.
  #packets = 0

  constructor(salt: number, isTcp: boolean) {
    this.#salt = salt
    this.isTcp = isTcp
  }

  /** Bytes sent so far. */
  get length(): number {
    return this.#length
  }

  /** How far the sender is, in a few words. */
  get state(): string {
    const cut = this.#cut === 'no' ? '' : `, cut off (${this.#cut}) with ${this.handedOver} bytes handed over`
    return `${this.isFinished ? '' : 'not '}finished${cut}`
  }

  get cut(): Cut {
    return this.#cut
  }

  /** The next `size` bytes to send; they count as sent only by {@link sent}. */
  next(size: number): Buffer {
    return content(this.#salt + this.#length, size)
  }

  /** Notes what was sent. */
  sent(bytes: Uint8Array): void {
    if (this.isFinished) violated('Bytes were accepted after the end')
    const length = this.#length + bytes.byteLength
    if (length > this.#bytes.byteLength) {
      const grown = Buffer.allocUnsafe(2 * length)
      this.#bytes.copy(grown, 0, 0, this.#length)
      this.#bytes = grown
    }
    this.#bytes.set(bytes, this.#length)
    this.#length = length
    this.#packets++
  }

  /** Notes that the last `count` bytes were not accepted after all. */
  takeBack(count: number): void {
    this.#length -= count
  }

  /** Everything sent from `position` on. */
  from(position: number): Buffer {
    return this.#bytes.subarray(position, this.#length)
  }

  /** The sender closes in an orderly way: after its end it waits for the receiver's, but not for ever. */
  close(): void {
    this.isFinished = true
    if (this.#closedAt === Number.POSITIVE_INFINITY) this.#closedAt = performance.now()
  }

  /** The sender's descriptor goes, with `handedOver` bytes in the hands of the operating system. */
  cutOff(how: Cut, handedOver: number): void {
    if (this.#cut !== 'no' && this.#cut !== 'perhaps') return
    this.#cut = how
    this.handedOver = handedOver
  }

  /** What was thought to be cut off was not. */
  mend(): void {
    this.#cut = 'no'
  }

  /** Whether the receiver may be told of an end at `position`. */
  mayEnd(position: number): boolean {
    if (this.isFinished && position === this.#length) return true
    // A unix socket that is cut off can only be seen to end.
    const isLikeEnd = this.#cut === 'close' || (this.#cut === 'perhaps' && !this.isTcp)
    return isLikeEnd && position >= this.handedOver
  }

  /** Whether the receiver may be told of a reset, after `received` bytes. */
  mayBreak(received: number): boolean {
    if (this.#cut === 'no') return performance.now() - this.#closedAt > LINGER
    const { bytes, packets } = SURELY_DELIVERED
    return received >= this.handedOver || (this.isTcp && (this.handedOver > bytes || this.#packets > packets))
  }
}

const SIZE = 1_048_573
const TABLE = table()

/**
 * Bytes that are told apart by their place: lines of all lengths, some with a carriage return, and long stretches without a line feed; of many
 * letters, and of few, where longer delimiters are found.
 */
function content(place: number, size: number): Buffer {
  const bytes = Buffer.allocUnsafe(size)
  for (let filled = 0; filled < size; ) {
    const start = (place + filled) % SIZE
    filled += TABLE.copy(bytes, filled, start, Math.min(SIZE, start + size - filled))
  }
  return bytes
}

function table(): Buffer {
  const bytes = Buffer.alloc(SIZE)
  let state = 0x2545f491
  for (let i = 0; i < SIZE; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    const random = state >>> 0
    const [letters, some] = i % 128 < 64 ? [26, 17] : [3, 7]
    const isLineFeed = random % (some - 2) === 0 && i % 4096 < 3500
    bytes[i] = isLineFeed ? 0x0a : random % some === 0 ? 0x0d : 0x61 + ((random >>> 8) % letters)
  }
  return bytes
}
