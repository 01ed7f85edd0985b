// When the gate is open, and the two warnings: that the server is full, and that descriptors have run out.

import { formatAddress } from '../address.ts'
import { nextTick, queueMicrotask } from '../async/platform.ts'
import { startTimer } from '../async/timer.ts'
import {
  type ServerDescriptorsExhaustedMessage,
  type ServerGateMessage,
  type ServerLimitMessage,
  serverDescriptorsExhausted,
  serverGate,
  serverLimit
} from '../diagnostics.ts'
import { describeSystemError } from '../errors.ts'
import type { GatedListener } from './listening-socket.ts'
import type { SlotOwner } from './slots.ts'

const WARNING_INTERVAL = 60_000
/** How soon a server that found no descriptor looks again; it also does whenever one of its connections closes. */
const DESCRIPTOR_RETRY = 100

/** The server, as its gatekeeper knows it. */
export interface GateOwner extends SlotOwner {
  /** Whether a client that came now would be taken, or dropped. */
  readonly wantsClients: boolean
  /** Whether as many slots are in use as may be. */
  readonly isFull: boolean
  /** Whether whoever takes clients is always there, so that none is waited for. */
  readonly hasHandler: boolean
}

/** Opens the gate of a listening socket while clients are wanted, and shuts it when they are not. */
export class Gatekeeper {
  readonly #socket: GatedListener
  readonly #owner: GateOwner
  readonly #warnsAtLimit: boolean
  #isCheckDue = false
  #stopRetrying: (() => void) | undefined
  #nextLimitWarning = 0
  #nextDescriptorWarning = 0

  constructor(socket: GatedListener, owner: GateOwner, warnsAtLimit: boolean) {
    this.#socket = socket
    this.#owner = owner
    this.#warnsAtLimit = warnsAtLimit
  }

  /** Opens or shuts the gate, whichever is right now. */
  adjust(): void {
    if (!this.#owner.wantsClients) {
      this.#retryNoMore()
      this.#shut()
    } else if (this.#socket.isOpen || this.#open()) {
      this.#retryNoMore()
    }
  }

  /** A client was accepted: is there to be another? Called before anyone gets the client, who may look at the server. */
  afterAccept(): void {
    if (!this.#socket.isOpen) return
    const isWanted = this.#owner.wantsClients
    if (!isWanted && (this.#owner.hasHandler || this.#owner.isFull)) {
      this.#shut()
    } else if (!this.#socket.hasRoom) {
      this.#shut()
      if (this.#owner.wantsClients) this.#outOfDescriptors()
    } else if (!isWanted) {
      // Whoever got the client may pull again in this very turn: look after its microtasks, and before the next accept(2).
      this.#adjustSoon()
    }
  }

  /** A client that had been on its way was handed to whoever waited for it. */
  afterHandOut(): void {
    if (this.#socket.isOpen && !this.#owner.wantsClients) this.#adjustSoon()
  }

  /** accept(2) failed, as it does when the whole system has run out of something. */
  acceptFailed(error: Error): void {
    // libuv would try again at once, and forever.
    this.#shut()
    if (this.#owner.wantsClients) this.#outOfDescriptors(error)
  }

  /** The last slot was taken. */
  limitReached(maxConnections: number): void {
    if (serverLimit.hasSubscribers) {
      const message: ServerLimitMessage = { ...this.#subject, maxConnections }
      serverLimit.publish(message)
    }
    if (!this.#warnsAtLimit) return
    const now = performance.now()
    if (now < this.#nextLimitWarning) return
    this.#nextLimitWarning = now + WARNING_INTERVAL
    const limit = `${maxConnections} connection${maxConnections === 1 ? '' : 's'}`
    process.emitWarning(`Server on ${formatAddress(this.#socket.address)} has reached its limit of ${limit}; further clients wait`, {
      code: 'IT_TCP_AT_LIMIT'
    })
  }

  /** Closes the listening socket. Resolves when the address can be bound again; never rejects. */
  async close(): Promise<void> {
    this.#retryNoMore()
    const wasOpen = this.#socket.isOpen
    try {
      const closing = this.#socket.close()
      if (wasOpen) this.#publishGate(false)
      await closing
    } catch (error) {
      // Such as a file that can't be removed: nobody waits for that, and it must not be silent.
      process.emitWarning(`Server on ${formatAddress(this.#socket.address)} could not close cleanly: ${describeSystemError(error)}`, {
        code: 'IT_TCP_CLEAN_UP'
      })
    }
  }

  invariant(check: (holds: boolean, what: string) => void): void {
    // Between an accept and the end of its turn the gate may be open although nobody waits any more.
    const mayBeOpen = this.#owner.wantsClients || this.#isCheckDue
    check(!this.#socket.isOpen || mayBeOpen, 'the gate is open although nobody waits or no slot is free')
    const mayBeShut = !this.#owner.wantsClients || this.#stopRetrying !== undefined
    check(this.#socket.isOpen || mayBeShut, 'the gate is shut although a client is wanted')
  }

  get #subject(): ServerDescriptorsExhaustedMessage {
    return { server: this.#owner.shell, address: this.#socket.address }
  }

  #open(): boolean {
    try {
      if (this.#socket.open()) {
        this.#publishGate(true)
        return true
      }
      this.#outOfDescriptors()
    } catch (error) {
      // Whoever freed the slot has no use for it, and the next try may succeed.
      this.#outOfDescriptors(error as Error)
    }
    return false
  }

  #shut(): void {
    if (!this.#socket.isOpen) return
    this.#socket.shut()
    this.#publishGate(false)
  }

  #publishGate(isOpen: boolean): void {
    if (!serverGate.hasSubscribers) return
    const message: ServerGateMessage = { ...this.#subject, isOpen }
    serverGate.publish(message)
  }

  #adjustSoon(): void {
    if (this.#isCheckDue) return
    this.#isCheckDue = true
    // A tick made by a microtask runs when all microtasks have.
    queueMicrotask(() =>
      nextTick(() => {
        this.#isCheckDue = false
        this.adjust()
      })
    )
  }

  #outOfDescriptors(error?: Error): void {
    if (this.#stopRetrying === undefined) {
      // The listening socket keeps the process alive, or was told not to.
      const retry = (): void => {
        this.#stopRetrying = undefined
        this.adjust()
      }
      this.#stopRetrying = startTimer(DESCRIPTOR_RETRY, retry, false)
      if (serverDescriptorsExhausted.hasSubscribers) serverDescriptorsExhausted.publish(this.#subject)
    }
    const now = performance.now()
    if (now < this.#nextDescriptorWarning) return
    this.#nextDescriptorWarning = now + WARNING_INTERVAL
    const why = error === undefined ? 'the process has run out of descriptors' : describeSystemError(error)
    process.emitWarning(`The server on ${formatAddress(this.#socket.address)} can't accept: ${why}; clients are waiting`, {
      code: 'IT_TCP_OUT_OF_DESCRIPTORS'
    })
  }

  #retryNoMore(): void {
    this.#stopRetrying?.()
    this.#stopRetrying = undefined
  }
}
