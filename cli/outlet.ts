// A stream that lines go to, whose reader may have gone, or may stand still.

import type { Writable } from 'node:stream'

/** Bytes of lines that wait for a reader who stands still; further lines are left out. */
const MAX_PENDING = 1_048_576
/** Milliseconds in which a reader has to take something, when the process waits only for him. */
const PATIENCE = 3_000

/** What happens on the other side of an outlet. */
export interface OutletEvents {
  /** Lines are left out from now on. Told once, until they are taken again. */
  stuck(): void
  /** All that waited has been taken; so many lines were left out. */
  taken(leftOut: number): void
  /** Nothing can be written any more. Told once. */
  gone(error: Error): void
}

export class Outlet {
  readonly #stream: Writable
  readonly #events: OutletEvents
  #leftOut = 0
  #isGone = false

  constructor(stream: Writable, events: OutletEvents) {
    this.#stream = stream
    this.#events = events
    // Nobody reads any more: that is no reason to end what others are served by.
    stream.on('error', (error) => {
      if (this.#isGone) return
      this.#isGone = true
      events.gone(error)
    })
    stream.on('drain', () => {
      const leftOut = this.#leftOut
      if (leftOut === 0) return
      this.#leftOut = 0
      events.taken(leftOut)
    })
  }

  /** Writes the text, or leaves it out. Never waits. */
  write(text: string): void {
    if (this.#isGone) return
    if (this.#stream.writableLength >= MAX_PENDING) {
      if (++this.#leftOut === 1) this.#events.stuck()
      return
    }
    this.#stream.write(text)
  }

  /** Waits until all is taken, as long as something is. Gives whether it was. */
  async flushed(patience = PATIENCE): Promise<boolean> {
    while (!this.#isGone && this.#stream.writableLength > 0) {
      const before = this.#stream.writableLength
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, patience)
        // What is written last is taken last; 'drain' comes only behind more than a stream likes to hold.
        this.#stream.write('', () => {
          clearTimeout(timer)
          resolve()
        })
      })
      if (this.#stream.writableLength >= before) return false
    }
    return true
  }
}
