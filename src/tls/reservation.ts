// The reader while a handshake is under way: nobody else reads, and whoever shakes hands hears when something arrives.

import type { Incoming } from '../stream/incoming.ts'
import { PendingRead } from '../stream/pending-read.ts'
import { INCOMPLETE } from '../stream/reads.ts'

/** Bytes that may arrive in clear meanwhile: more than any ClientHello has. */
const ROOM = 65_536

/** A read that takes nothing and goes on until it is ended. It begins at once; no other may be pending. */
export class Reservation {
  readonly #incoming: Incoming
  readonly #read: PendingRead
  #wake: (() => void) | undefined
  #failure: { readonly error: unknown } | undefined

  constructor(incoming: Incoming) {
    this.#incoming = incoming
    this.#read = new PendingRead('take', () => {
      this.#wake?.()
      return INCOMPLETE
    })
    incoming.wait(this.#read, ROOM).catch((error: unknown) => {
      this.#failure = { error }
      this.#wake?.()
    })
  }

  /** Resolves when something has arrived, or the peer has ended. Rejects when the connection breaks or is closed. */
  async news(): Promise<void> {
    while (this.#failure === undefined && this.#incoming.bytesAvailable === 0 && !this.#incoming.isOver) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    if (this.#failure !== undefined) throw this.#failure.error
  }

  /** Lets others read again. */
  end(): void {
    this.#wake = undefined
    this.#incoming.leave(this.#read)
  }
}
