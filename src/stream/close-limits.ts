// How long a close may take: until all is handed over, and then for the peer's own end.

import { setImmediate } from '../async/platform.ts'
import { isFirstClock, startTimer } from '../async/timer.ts'
import { DEFAULT_LINGER } from '../options.ts'
import type { Outgoing } from './outgoing.ts'
import type { Transport } from './transport.ts'

/** Milliseconds from which on a limit may begin to count two turns late: most are over by then, and a timer costs more than all else here. */
const PATIENT = 1_000

/** The connection that closes. */
export interface Closing {
  /** Whether it does so in an orderly way, and neither is over nor was broken. */
  readonly isClosing: boolean
  readonly outgoing: Outgoing
  readonly transport: Transport
  /** Not everything was handed over in so many milliseconds. */
  gaveUpAfter(delay: number): void
}

export class CloseLimits {
  readonly #connection: Closing
  #linger = DEFAULT_LINGER
  // For how long it waits for the peer's FIN, once it does.
  #lingersFor: number | undefined
  #forceAt = Number.POSITIVE_INFINITY
  #stop: (() => void) | undefined

  constructor(connection: Closing) {
    this.#connection = connection
  }

  /** Waits no longer than so many milliseconds for the peer's FIN. The shortest of several counts. */
  shortenLinger(linger: number): void {
    this.#linger = Math.min(this.#linger, linger)
  }

  /** Everything is sent: gives the peer time to read it and to answer with its FIN. Closed with unread input, TCP would reset what is in flight. */
  waitForPeer(): void {
    if (this.#lingersFor === this.#linger) return
    this.#lingersFor = this.#linger
    if (this.#linger === 0) this.#connection.transport.destroy()
    else this.#after(this.#linger, () => this.#connection.transport.destroy())
  }

  /** Aborts after `delay` milliseconds, unless all is handed over by then. The earliest of several calls counts. */
  forceAfter(delay: number): void {
    if (!this.#isPending || delay === Number.POSITIVE_INFINITY) return
    const at = performance.now() + delay
    if (at >= this.#forceAt) return
    this.#forceAt = at
    if (delay > PATIENT && isFirstClock()) setImmediate(inNextTurn, this, at, delay)
    else this.startForce(at, delay)
  }

  /** Starts its timer, if it is still to be. */
  startForce(at: number, delay: number): void {
    if (this.#forceAt !== at || !this.#isPending) return
    // What the system has taken may be told only at the end of the turn.
    this.#after(at - performance.now(), () => setImmediate(() => this.#force(delay)))
  }

  /** It is over. */
  end(): void {
    this.#stop?.()
  }

  get #isPending(): boolean {
    return this.#connection.isClosing && !this.#connection.outgoing.isFinished
  }

  #force(delay: number): void {
    const { outgoing } = this.#connection
    if (outgoing.bytesPending > 0) this.#connection.gaveUpAfter(delay)
    // The end itself may wait for the peer, over TLS.
    else if (!outgoing.isFinished) this.#after(DEFAULT_LINGER, () => this.#connection.transport.reset())
  }

  #after(delay: number, then: () => void): void {
    this.#stop?.()
    this.#stop = startTimer(delay, then)
  }
}

function inNextTurn(limits: CloseLimits, at: number, delay: number): void {
  setImmediate(startForce, limits, at, delay)
}

function startForce(limits: CloseLimits, at: number, delay: number): void {
  limits.startForce(at, delay)
}
