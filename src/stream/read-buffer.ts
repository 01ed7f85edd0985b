// Whose memory the bytes of a read are in.
//
// A chunk that leaves the library shares its ArrayBuffer with nothing else: not with another chunk, not with what is still queued. So whatever is
// read into memory that is used again is copied when it is kept, and memory that is given away is not used again.

import type { Bytes } from '../reader.ts'

/** Memory with bytes at its start that have just been read into it. They are gone after the call that tells of them, unless they are kept. */
export class ReadBuffer {
  /** All of the memory: what was read is at its start. */
  bytes: Uint8Array<ArrayBuffer>
  /** Whether something was kept since this was last set to false. */
  isKept = false
  /** Whether the memory itself was given away, and must not be used again. */
  isGiven = false
  readonly #mayGive: boolean

  constructor(bytes: Uint8Array<ArrayBuffer>, mayGive: boolean) {
    this.bytes = bytes
    this.#mayGive = mayGive
  }

  /**
   * The bytes from `from` to `length`, for whoever keeps them: the memory itself, if it may be given away and at most half of it goes to waste;
   * otherwise a copy. To be called once.
   */
  keep(length: number, from = 0): Bytes {
    this.isKept = true
    const { bytes } = this
    if (!this.#mayGive || 2 * (length - from) < bytes.buffer.byteLength) return copyOf(bytes, from, length)
    this.isGiven = true
    return from === 0 && length === bytes.byteLength ? bytes : bytes.subarray(from, length)
  }

  /** The first `length` bytes as they lie there, for whoever does not keep them. */
  view(length: number): Uint8Array {
    return length === this.bytes.byteLength ? this.bytes : this.bytes.subarray(0, length)
  }

  /** Puts other memory in place, of which nothing is kept yet. */
  refill(bytes: Uint8Array<ArrayBuffer> = this.bytes): this {
    this.bytes = bytes
    this.isKept = false
    this.isGiven = false
    return this
  }
}

const LENT_SIZE = 65_536
/** From this length on a copy by slice() is slower: it is zeroed first. */
const LARGE = 4096
/** A bound for connections that fall silent just after a full buffer: they keep the next one. Others copy meanwhile. */
const MAX_OWN = 64

/**
 * All connections read into this one, one after the other: Node.js would otherwise allocate 64 KiB for every read. What is kept of it has to be
 * copied, which is expensive in bulk: so a connection that fills it, and whose
 * bytes are kept, reads into a larger buffer of its own next, which is handed over without a copy, and takes another, until one is not filled.
 */
export const lent = new ReadBuffer(new Uint8Array(LENT_SIZE), false)

// One for all: it is filled and told of in one go.
const given = new ReadBuffer(lent.bytes, true)

/** Memory that was allocated for this read alone. */
export function own(bytes: Uint8Array<ArrayBuffer>): ReadBuffer {
  return given.refill(bytes)
}

/** A chunk that somebody else allocated. A Buffer is not what users are promised: its slice() shares memory. */
export function handedOver(chunk: Uint8Array): ReadBuffer {
  return given.refill(new Uint8Array(chunk.buffer as ArrayBuffer, chunk.byteOffset, chunk.byteLength))
}

// One for all, as above.
const foreign = new ReadBuffer(lent.bytes, false)

/** A chunk whose memory somebody else may go on to use: a pool, or whoever wrote it into a stream. */
export function belongingToOthers(chunk: Uint8Array): ReadBuffer {
  return foreign.refill(new Uint8Array(chunk.buffer as ArrayBuffer, chunk.byteOffset, chunk.byteLength))
}

/** Buffers for one connection alone each, of one size unless another is asked for. */
class OwnBuffers {
  readonly #size: number
  #inUse = 0
  #spare: Uint8Array<ArrayBuffer> | undefined

  constructor(size: number) {
    this.#size = size
  }

  /** One in place of the one that the connection `had`; undefined if enough are in use. To be given back by {@link leave}. */
  take(had: boolean, size = this.#size): Uint8Array<ArrayBuffer> | undefined {
    if (!had && this.#inUse === MAX_OWN) return undefined
    if (!had) this.#inUse++
    if (this.#spare?.byteLength !== size) return unzeroed(size)
    const bytes = this.#spare
    this.#spare = undefined
    return bytes
  }

  /** Ends what {@link take} began; the buffer is used again if it was not given away. */
  leave(unused: Uint8Array<ArrayBuffer> | undefined): void {
    this.#inUse--
    this.#spare ??= unused
  }
}

/** For reads of a socket: twice what is lent, so that the kernel is asked half as often. */
export const ownBuffers = new OwnBuffers(131_072)
/** What TLS decrypts in one go: no record has more. */
export const RECORD_SIZE = 16_384
export const recordBuffers = new OwnBuffers(RECORD_SIZE)

function copyOf(bytes: Uint8Array<ArrayBuffer>, from: number, to: number): Bytes {
  return to - from < LARGE ? bytes.slice(from, to) : new Uint8Array(bytes.subarray(from, to))
}

// V8 counts memory outside of its heap too, and marks the whole heap for every 64 MiB of it, unless a young collection frees it before. None comes
// where little else is allocated: so an eighth of the length is, in the young generation, for nothing.
const young = { litter: undefined as unknown }

// Only what was written into it is seen.
function unzeroed(length: number): Uint8Array<ArrayBuffer> {
  young.litter = new Array(length >> 6)
  return new Uint8Array(Buffer.allocUnsafeSlow(length).buffer)
}
