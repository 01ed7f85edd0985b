// The gate where no listening descriptor can be duplicated: clients are accepted and parked while it is shut.

import { AsyncResource } from 'node:async_hooks'
import type net from 'node:net'
import { Deferred } from '../async/deferred.ts'
import { setImmediate } from '../async/platform.ts'
import { isDescriptorFree } from '../system/descriptors.ts'
import { handleOf, hasNodeHandles } from '../system/node-internals.ts'
import { systemError } from '../system/system-error.ts'
import { type Accepted, discard, type Gate, type GateOptions } from './gate.ts'

/** Accepts all the time, as `net.Server` does, and parks clients while the gate is shut. */
export class UserlandGate implements Gate {
  readonly kind = 'userland'
  readonly #server: net.Server
  readonly #onAccept: (client: Accepted) => void
  readonly #backlog: number
  readonly #context = new AsyncResource('TCP_GATE', { requireManualDestroy: true })
  readonly #parked: Accepted[] = []
  /** Whether clients come as handles, not as sockets. */
  readonly #hasHandles: boolean
  #isOpen = false
  #delivery: NodeJS.Immediate | undefined

  constructor(server: net.Server, options: GateOptions) {
    this.#server = server
    this.#onAccept = options.onAccept
    this.#backlog = options.backlog
    const handle = hasNodeHandles() ? handleOf(server) : undefined
    this.#hasHandles = handle?.onconnection != null
    if (handle !== undefined && this.#hasHandles) {
      handle.onconnection = (status, client) => {
        if (client === undefined || status !== 0) options.onAcceptError?.(systemError(status, 'accept'))
        else this.#take({ handle: client })
      }
    } else {
      server.on('connection', (socket) => this.#take({ socket }))
      server.on('error', (error) => options.onAcceptError?.(error))
    }
  }

  get fd(): number {
    return handleOf(this.#server)?.fd ?? -1
  }

  get parked(): number {
    return this.#parked.length
  }

  get isOpen(): boolean {
    return this.#isOpen
  }

  hasRoom(): boolean {
    return isDescriptorFree(1)
  }

  open(): boolean {
    this.#isOpen = true
    this.#deliverLater()
    return true
  }

  shut(): void {
    this.#isOpen = false
  }

  ref(): void {
    this.#server.ref()
  }

  unref(): void {
    this.#server.unref()
  }

  close(): Promise<void> {
    this.shut()
    clearImmediate(this.#delivery)
    const closed = new Deferred()
    this.#server.close(() => closed.resolve())
    // A server that made the connections itself waits for them, while the descriptor is closed already.
    if (!this.#hasHandles) setImmediate(() => closed.resolve())
    for (const client of this.#parked.splice(0)) discard(client)
    this.#context.emitDestroy()
    return closed.promise
  }

  #take(client: Accepted): void {
    // Where 'connection' events are all there is, several may come in one turn, without a microtask between them.
    if (this.#isOpen && this.#parked.length === 0 && 'handle' in client) {
      this.#onAccept(client)
    } else if (this.#parked.length < this.#backlog && this.#server.listening) {
      if ('socket' in client) client.socket.on('error', ignoreWhileParked)
      this.#parked.push(client)
      if (this.#isOpen) this.#deliverLater()
    } else {
      discard(client)
    }
  }

  /** One client per turn, as the kernel's gate has it: whoever takes one can shut the gate before the next. */
  #deliverLater(): void {
    if (this.#delivery !== undefined || this.#parked.length === 0) return
    this.#delivery = setImmediate(() => {
      this.#delivery = undefined
      this.#context.runInAsyncScope(this.#deliver, this)
    })
  }

  #deliver(): void {
    if (!this.#isOpen) return
    const client = this.#parked.shift()
    if (client === undefined) return
    this.#deliverLater()
    if ('socket' in client) client.socket.off('error', ignoreWhileParked)
    this.#onAccept(client)
  }
}

function ignoreWhileParked(): void {}
