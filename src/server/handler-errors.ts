// What the failure of a handler leads to: raised, ignored, or told to a callback.

import { inspect } from 'node:util'
import { formatAddress, type SocketAddress } from '../address.ts'
import { captureContext } from '../async/context.ts'
import { type ServerHandlerErrorMessage, serverHandlerError } from '../diagnostics.ts'
import { isExcused } from './excuse.ts'
import type { Slot, SlotOwner } from './slots.ts'

export type HandlerErrorPolicy = 'raise' | 'ignore' | ((address: never, error: unknown) => unknown)

/** The server, as its handlers' errors know it. */
export interface Raisable extends SlotOwner {
  readonly address: SocketAddress
  /** Stops listening at once, and rejects `finished` with `error`. */
  stopWith(error: unknown): void
}

export class HandlerErrors {
  readonly #server: Raisable
  readonly #policy: HandlerErrorPolicy
  // The callback is of whoever made the server, and knows nothing of the handler that happened to fail.
  readonly #asMaker = captureContext()
  #count = 0
  #hasRaised = false

  constructor(server: Raisable, policy: HandlerErrorPolicy) {
    this.#server = server
    this.#policy = policy
  }

  /** Handlers that have failed. */
  get count(): number {
    return this.#count
  }

  /** Whether an error was raised. */
  get hasRaised(): boolean {
    return this.#hasRaised
  }

  /** A handler failed. Under `'raise'` the server stops at once, unless the client brought it about. */
  handlerFailed(slot: Slot, error: unknown): void {
    slot.failure = { error }
    this.#count++
    if (serverHandlerError.hasSubscribers) {
      const { shell, address } = this.#server
      const message: ServerHandlerErrorMessage = { server: shell, address, remoteAddress: slot.remoteAddress, error }
      serverHandlerError.publish(message)
    }
    if (this.#policy === 'raise' && !isExcused(error, this.#server)) this.#raise(error)
  }

  /** The program's own `admit` failed. */
  admitFailed(address: SocketAddress, error: unknown): void {
    if (this.#policy === 'raise') this.#raise(error)
    else void this.#report(address, error)
  }

  /** The connection is closed and the handler has ended: what is left to do for a failure; undefined for nothing. */
  settle(slot: Slot): Promise<void> | undefined {
    if (slot.failure === undefined || typeof this.#policy !== 'function') return undefined
    return this.#report(slot.remoteAddress, slot.failure.error)
  }

  async #report(address: SocketAddress, error: unknown): Promise<void> {
    if (typeof this.#policy !== 'function') return
    try {
      await this.#asMaker(this.#policy, address as never, error)
    } catch (raised) {
      this.#raise(raised)
    }
  }

  #raise(error: unknown): void {
    if (!this.#hasRaised) {
      this.#hasRaised = true
      this.#server.stopWith(error)
      return
    }
    process.emitWarning(`A handler of the server on ${formatAddress(this.#server.address)} failed after another: ${describe(error)}`, {
      code: 'IT_TCP_HANDLER_ERROR'
    })
  }
}

// What is thrown may throw in turn when it is looked at.
function describe(error: unknown): string {
  try {
    return inspect(error)
  } catch {
    return 'an error that cannot be shown'
  }
}
