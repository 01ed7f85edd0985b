// Where the records of a TLS stream begin and end, told from their headers alone.

const HEADER = 5

/** Takes the bytes of one direction as they come. */
export class RecordBoundary {
  // Of the record that is coming; a header is counted before its length is known.
  #missing = 0
  #headerLength = 0
  #length = 0

  /** Whether the bytes so far end where a record ends. */
  get isReached(): boolean {
    return this.#missing === 0 && this.#headerLength === 0
  }

  push(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.byteLength; ) {
      if (this.#missing > 0) {
        const part = Math.min(this.#missing, chunk.byteLength - at)
        this.#missing -= part
        at += part
        continue
      }
      this.#headerLength++
      this.#length = ((this.#length << 8) | (chunk[at++] as number)) & 0xffff
      if (this.#headerLength < HEADER) continue
      this.#missing = this.#length
      this.#headerLength = 0
    }
  }
}
