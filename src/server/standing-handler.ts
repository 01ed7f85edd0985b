// The handler of `Server.create`, as a consumer that is never done.

import type { SocketAddress } from '../address.ts'
import { type ServerHandlerEndMessage, serverHandlerEnd } from '../diagnostics.ts'
import type { ByteConnection } from '../stream/byte-connection.ts'
import type { Consumer } from './consumers.ts'
import type { HandlerErrors } from './handler-errors.ts'
import { type SlotOwner, slotOf } from './slots.ts'

/** Whatever kind of address it is for: where the server listens has told that. */
export type AnyHandler = (connection: never) => unknown

/** The server, as its handler knows it. */
export interface HandlerOwner extends SlotOwner {
  readonly address: SocketAddress
  handlerEnded(connection: ByteConnection<SocketAddress>): void
}

/** Takes one client after the other. */
export class StandingHandler implements Consumer {
  readonly #handler: AnyHandler
  readonly #errors: HandlerErrors
  readonly #owner: HandlerOwner
  #running = 0

  constructor(handler: AnyHandler, errors: HandlerErrors, owner: HandlerOwner) {
    this.#handler = handler
    this.#errors = errors
    this.#owner = owner
  }

  /** Calls of the handler that have not ended. */
  get running(): number {
    return this.#running
  }

  // Without an async function, whose frame would stay in memory beside the handler's own for as long as the connection lives.
  take(connection: ByteConnection<SocketAddress>): void {
    slotOf(connection).isHandled = true
    this.#running++
    let result: Promise<unknown>
    try {
      const handler = this.#handler
      result = Promise.resolve(handler(connection.facade as never))
    } catch (error) {
      this.#failed(connection, error)
      return
    }
    // As `await` does: a promise may have a then() of its own, which may throw or call back twice.
    Promise.prototype.then.call(
      result,
      () => this.#ended(connection, false),
      (error) => this.#failed(connection, error)
    )
  }

  #failed(connection: ByteConnection<SocketAddress>, error: unknown): void {
    this.#errors.handlerFailed(slotOf(connection), error)
    this.#ended(connection, true)
  }

  #ended(connection: ByteConnection<SocketAddress>, hasFailed: boolean): void {
    const slot = slotOf(connection)
    slot.isHandled = false
    this.#running--
    if (serverHandlerEnd.hasSubscribers) {
      const { shell, address } = this.#owner
      const message: ServerHandlerEndMessage = { server: shell, address, remoteAddress: slot.remoteAddress, hasFailed }
      serverHandlerEnd.publish(message)
    }
    this.#owner.handlerEnded(connection)
  }
}
