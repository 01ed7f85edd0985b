// A reader that a test feeds by hand: what no peer can be made to do reliably.

import { ByteReader } from '../../src/stream/byte-reader.ts'
import { Incoming } from '../../src/stream/incoming.ts'
import { ReadBuffer } from '../../src/stream/read-buffer.ts'
import type { Transport } from '../../src/stream/transport.ts'

const NOWHERE = { resume() {} } as unknown as Transport

/** A reader without a connection. */
export class FedReader extends ByteReader {
  readonly #incoming: Incoming

  constructor(bufferSize: number) {
    const incoming = new Incoming(NOWHERE, bufferSize, {})
    super(incoming)
    this.#incoming = incoming
  }

  /** Lets `data` arrive, in memory that is used again. Returns whether the reader would have more. */
  received(data: Uint8Array): boolean {
    const buffer = new ReadBuffer(Uint8Array.from(data), false)
    const goesOn = this.#incoming.received(buffer, data.byteLength)
    buffer.bytes.fill(0)
    return goesOn
  }

  /** Lets the peer's end arrive. */
  peerEnded(): void {
    this.#incoming.end()
  }
}
