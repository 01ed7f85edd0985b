// The steps between accept and handler: what a client goes through in its slot, all under one deadline.

import { formatAddress, type SocketAddress } from '../address.ts'
import { startTimer } from '../async/timer.ts'
import type { TurningStep } from '../diagnostics.ts'
import { HandshakeTimeoutError, withOrigin } from '../errors.ts'
import type { ByteConnection } from '../stream/byte-connection.ts'
import { slotOf } from './slots.ts'

/**
 * One step, such as a PROXY header or a TLS handshake. `run` returns, or resolves, when the client has passed. It throws, or rejects, with why
 * the client is turned away; a name of a counter in its place turns it away without an error. Once the connection is closed or aborted it must
 * settle. `deadline` is when the client is turned away anyway, by the clock of `performance.now()`.
 */
export interface Step {
  readonly name: TurningStep
  run(connection: ByteConnection<SocketAddress>, deadline: number): StepResult | Promise<StepResult>
}

// biome-ignore lint/suspicious/noConfusingVoidType: a step that has passed has nothing to say
type StepResult = TurningStep | undefined | void

/** The server, as its steps know it. Both do nothing for a client that is no longer on its way. */
export interface StepsOwner {
  /** All steps are taken: the client is ready for whoever wants it. */
  passed(connection: ByteConnection<SocketAddress>): void
  /** No handler is called for this client, and its slot is freed. */
  turnAway(connection: ByteConnection<SocketAddress>, step: TurningStep, failure?: { readonly error: unknown }): void
}

/** The steps of one server, in their order. Each client takes them in its own slot and holds up nobody. */
export class Steps {
  readonly #steps: readonly Step[]
  readonly #timeout: number
  readonly #owner: StepsOwner

  constructor(steps: readonly Step[], timeout: number, owner: StepsOwner) {
    this.#steps = steps
    this.#timeout = timeout
    this.#owner = owner
  }

  /** Leads one client through. Bytes do not prolong the deadline, and it is gone afterwards. Never rejects. */
  async lead(connection: ByteConnection<SocketAddress>): Promise<void> {
    const slot = slotOf(connection)
    const deadline = performance.now() + this.#timeout
    let name: TurningStep = 'handshake'
    const stopTimer = startTimer(this.#timeout, () => {
      const message = `${formatAddress(slot.remoteAddress)} did not get through to the handler within ${this.#timeout} ms`
      this.#owner.turnAway(connection, name, { error: withOrigin(new HandshakeTimeoutError(message), connection) })
    })
    try {
      for (const step of this.#steps) {
        name = step.name
        const refusal = await step.run(connection, deadline)
        if (typeof refusal === 'string') this.#owner.turnAway(connection, refusal)
        // Turned away by the deadline, or the server has closed.
        if (slot.state !== 'arriving') return
      }
      this.#owner.passed(connection)
    } catch (error) {
      this.#owner.turnAway(connection, name, { error })
    } finally {
      stopTimer()
    }
  }
}
