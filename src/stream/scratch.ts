// Memory that bytes are copied to for the time of a write, and which the next write uses again.

import type { Transport } from './transport.ts'

/** Room for one copy at a time. It stays near the processor, which memory that is allocated for each write does not. */
export class Scratch {
  #bytes: Uint8Array<ArrayBuffer>
  // The last copy: they are often of one length.
  #copy: Uint8Array

  constructor(length: number) {
    this.#bytes = new Uint8Array(new ArrayBuffer(length))
    this.#copy = this.#bytes
  }

  /** A copy of at most as many bytes as there is room for. It is good until the next one, unless {@link keep} is called first. */
  copy(bytes: Uint8Array): Uint8Array {
    if (this.#copy.byteLength !== bytes.byteLength) this.#copy = this.#bytes.subarray(0, bytes.byteLength)
    this.#copy.set(bytes)
    return this.#copy
  }

  /** Leaves the memory of the last copy to whoever has it: it is still to be written. */
  keep(): void {
    this.#bytes = new Uint8Array(new ArrayBuffer(this.#bytes.byteLength))
    this.#copy = this.#bytes
  }
}

/**
 * The longest array that V8 keeps in its heap. When native code asks for its bytes, as a write does, it finds memory outside for them, and an
 * ArrayBuffer that the garbage collector has to look after: that costs more than to copy them to where such memory is.
 */
const LONGEST_IN_HEAP = 64

/** Whether a chunk is better written from {@link short}. */
export function isShort(chunk: Uint8Array | string): chunk is Uint8Array {
  return typeof chunk !== 'string' && chunk.byteLength <= LONGEST_IN_HEAP
}

/** For chunks of which {@link isShort} is true. */
export const short = new Scratch(LONGEST_IN_HEAP)

/** What a connection passes on at most of what it has just read, without keeping it. */
export const LONGEST_PASSED = 65_536
export const passed = new Scratch(LONGEST_PASSED)

/** `pass` of a carrier that is done with the bytes of a write once it has handed them over: from a copy, which is kept while it has not. */
export function pass(carrier: Pick<Transport, 'write'>, bytes: Uint8Array): boolean | undefined {
  const { byteLength } = bytes
  if (byteLength > LONGEST_PASSED) return undefined
  const isDone = carrier.write([{ chunk: passed.copy(bytes), encoding: 'buffer', byteLength }])
  if (!isDone) passed.keep()
  return isDone
}
