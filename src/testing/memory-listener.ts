// A listening socket in memory: the queue that a system keeps for it, and the gate that takes clients from there.

import { AsyncResource } from 'node:async_hooks'
import type { InetAddress } from '../address.ts'
import { setImmediate } from '../async/platform.ts'
import type { AcceptedTransport, Gate } from '../server/gate.ts'
import type { MemoryTransport } from './memory-transport.ts'
import { systemErrorNamed } from './system-error.ts'

/** A client as its server gets it. */
export class MemoryClient implements AcceptedTransport {
  /** The server's end. */
  readonly transport: MemoryTransport
  readonly localAddress: InetAddress
  readonly #remoteAddress: InetAddress

  constructor(transport: MemoryTransport, remoteAddress: InetAddress, localAddress: InetAddress) {
    this.transport = transport
    this.#remoteAddress = remoteAddress
    this.localAddress = localAddress
  }

  // A system has forgotten it as soon as the client has reset.
  get remoteAddress(): InetAddress | undefined {
    return this.transport.isReset ? undefined : this.#remoteAddress
  }
}

/** A client that dials. */
export interface Dialler {
  /** Makes the connection, of which the server gets its end. */
  connect(): MemoryClient
  refuse(error: Error): void
}

/** How a server is told. */
export interface MemoryListenerInit {
  readonly backlog: number
  readonly onAccept: (client: MemoryClient) => void
  readonly onClose: () => void
}

export class MemoryListener implements Gate {
  readonly kind = 'kernel'
  readonly fd = -1
  readonly parked = 0
  readonly #init: MemoryListenerInit
  // Connected as far as they can tell, and not accepted yet.
  readonly #queue: MemoryClient[] = []
  // Those that the queue has no room for: each of them tries until its timeout.
  readonly #turnedOff: Dialler[] = []
  // Of whoever listens, as with sockets: not of those who dial.
  readonly #context = new AsyncResource('IT_TCP_MEMORY', { requireManualDestroy: true })
  #isOpen = false
  #isClosed = false
  #isScheduled = false

  constructor(init: MemoryListenerInit) {
    this.#init = init
  }

  get isOpen(): boolean {
    return this.#isOpen
  }

  /** Clients in the queue. */
  get waiting(): number {
    return this.#queue.length
  }

  /** Takes a client into the queue, as soon as there is room. Returns what gives that up. */
  dial(dialler: Dialler): () => void {
    this.#turnedOff.push(dialler)
    this.#fillQueue()
    return () => {
      const index = this.#turnedOff.indexOf(dialler)
      if (index !== -1) this.#turnedOff.splice(index, 1)
    }
  }

  // No descriptors are taken.
  hasRoom(): boolean {
    return true
  }

  open(): boolean {
    if (this.#isClosed) return false
    this.#isOpen = true
    this.#schedule()
    return true
  }

  shut(): void {
    this.#isOpen = false
  }

  // Nothing in memory keeps a process alive.
  ref(): void {}
  unref(): void {}

  /** Resets the clients in the queue and refuses those that would like to be there, as a system does. */
  close(): Promise<void> {
    if (!this.#isClosed) {
      this.#isClosed = true
      this.#isOpen = false
      this.#init.onClose()
      for (const { transport } of this.#queue.splice(0)) transport.reset()
      for (const dialler of this.#turnedOff.splice(0)) dialler.refuse(refusal())
    }
    return Promise.resolve()
  }

  /** Accepts one client; the next one in a turn of its own, as Node.js does. */
  accept(): void {
    this.#isScheduled = false
    if (!this.#isOpen) return
    const client = this.#queue.shift()
    if (client === undefined) return
    this.#fillQueue()
    this.#context.runInAsyncScope(this.#init.onAccept, undefined, client)
    this.#schedule()
  }

  #fillQueue(): void {
    while (this.#queue.length < this.#init.backlog && this.#turnedOff.length > 0) {
      this.#queue.push((this.#turnedOff.shift() as Dialler).connect())
    }
    this.#schedule()
  }

  #schedule(): void {
    if (this.#isScheduled || !this.#isOpen || this.#queue.length === 0) return
    this.#isScheduled = true
    setImmediate(accept, this)
  }
}

/** What a system says where nobody listens. */
export function refusal(): Error {
  return systemErrorNamed('ECONNREFUSED', 'connect')
}

function accept(listener: MemoryListener): void {
  listener.accept()
}
