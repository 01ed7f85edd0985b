// The end of a server: closing, the signal that tells of it, deadlines for open connections, and when all is finished.

import { formatAddress, type SocketAddress } from '../address.ts'
import { Deferred } from '../async/deferred.ts'
import { startTimer } from '../async/timer.ts'
import { ServerClosedError, withOrigin } from '../errors.ts'
import type { Slots } from './slots.ts'

// open → closing → closed → finished: by close(); the listening socket is closed; every handler has ended. A raised error settles
// `finished` at once, whatever else goes on.
export class Lifetime {
  readonly #address: SocketAddress
  readonly #slots: Slots
  /** Whether `finished` waits for the slots, as it does for handlers. */
  readonly #awaitsSlots: boolean
  /** To whom the errors that tell of the end are attributed. */
  readonly #origin: object
  readonly #closed = new Deferred()
  readonly #finished = new Deferred()
  #isClosing = false
  #isClosed = false
  #emptied: Deferred | undefined
  #controller: AbortController | undefined
  #stopForce: (() => void) | undefined
  #forceAt = Number.POSITIVE_INFINITY

  constructor(address: SocketAddress, slots: Slots, awaitsSlots: boolean, origin: object) {
    this.#address = address
    this.#slots = slots
    this.#awaitsSlots = awaitsSlots
    this.#origin = origin
  }

  /** Whether it has started to close. */
  get isClosing(): boolean {
    return this.#isClosing
  }

  get state(): 'open' | 'closing' | 'closed' {
    if (this.#isClosed) return 'closed'
    return this.#isClosing ? 'closing' : 'open'
  }

  get closed(): Promise<void> {
    return this.#closed.promise
  }

  get finished(): Promise<void> {
    return this.#finished.promise
  }

  /** Aborted when it starts to close. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.#isClosing) this.#controller.abort(this.closedError())
    }
    return this.#controller.signal
  }

  closedError(): ServerClosedError {
    return withOrigin(new ServerClosedError(`The server on ${formatAddress(this.#address)} is closed`), this.#origin)
  }

  /** From now on it is closing. `tell()` follows. */
  start(): void {
    this.#isClosing = true
  }

  /** Tells those who wait for the signal, and waits for `closing`, the end of the listening socket. */
  async tell(closing: Promise<void>): Promise<void> {
    this.#controller?.abort(this.closedError())
    await closing
    this.#isClosed = true
    this.#closed.resolve()
    this.#finishIfDone()
  }

  fail(error: unknown): void {
    this.#finished.reject(error)
  }

  /** A slot is free. */
  slotFreed(): void {
    if (this.#slots.inUse === 0) this.#emptied?.resolve()
    this.#finishIfDone()
  }

  /** Resolves when no slot is in use. */
  async emptied(): Promise<void> {
    if (this.#slots.inUse === 0) return
    this.#emptied ??= new Deferred()
    await this.#emptied.promise
  }

  /** Aborts what is still open after `delay`. The earliest of several calls counts. */
  forceAfter(delay: number): void {
    const at = performance.now() + delay
    if (at >= this.#forceAt) return
    this.#forceAt = at
    this.#stopForce?.()
    const cutAll = (): void => void this.#slots.cutAll()
    // Open connections keep the process alive; when there are none, nothing is left to force.
    if (delay === 0) cutAll()
    else this.#stopForce = startTimer(delay, cutAll, false)
  }

  #finishIfDone(): void {
    if (!this.#isClosed || (this.#awaitsSlots && this.#slots.inUse > 0)) return
    if (this.#slots.inUse === 0) this.#stopForce?.()
    // Nothing changes if an error was raised.
    this.#finished.resolve()
  }
}
