// What TLS has for its carrier, and how much of it the carrier has taken.

import type { Transport, WriteEntry } from '../stream/transport.ts'

export type Callback = (error?: Error | null) => void

/** The writes of a stream under TLS, one at a time. */
export class CarriedWrites {
  readonly #carrier: Transport
  #sent: Callback | undefined
  #taken = 0
  #sending = 0

  constructor(carrier: Transport) {
    this.#carrier = carrier
  }

  /** Bytes that the carrier has taken so far. */
  get taken(): number {
    return this.#taken + this.#sending - (this.#carrier.unsent ?? this.#sending)
  }

  /** Calls `sent` when the carrier has taken them, which may be at once. */
  send(entries: WriteEntry[], sent: Callback): void {
    this.#sending = entries.reduce((sum, { byteLength }) => sum + byteLength, 0)
    this.#sent = sent
    if (this.#carrier.write(entries)) this.settle()
  }

  /** The carrier has taken the last write, or could not. */
  settle(error?: Error): void {
    const sent = this.#sent
    this.#sent = undefined
    this.#taken += this.#sending
    this.#sending = 0
    sent?.(error)
  }
}
