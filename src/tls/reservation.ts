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
  news(): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (this.#failure !== undefined) reject(this.#failure.error)
        else if (this.#incoming.bytesAvailable > 0 || this.#incoming.isOver) resolve()
        else return
        this.#wake = undefined
      }
      this.#wake = look
      look()
    })
  }

  /** Lets others read again. */
  end(): void {
    this.#wake = undefined
    this.#incoming.leave(this.#read)
  }
}
