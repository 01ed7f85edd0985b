// The gate that leaves clients in the kernel's queue while it is shut.

import { AsyncResource } from 'node:async_hooks'
// Not those of a fake clock, which keep no process alive.
import { clearInterval, setInterval } from 'node:timers'
import { Deferred } from '../async/deferred.ts'
import { adoptDuplicate, isDescriptorFree } from '../system/descriptors.ts'
import type { NodeHandle } from '../system/node-internals.ts'
import { systemError } from '../system/system-error.ts'
import type { Gate, GateOptions } from './gate.ts'

/**
 * Leaves the queue in the kernel. One duplicate of the listening descriptor is kept, and nobody polls it; the gate is open while there is
 * a second one that libuv polls. Only two steps are undocumented: listening on a handle and setting its `onconnection`.
 * `server.listen(socket)` would do the same, except for a unix socket with a second handle on the same descriptor.
 */
export class KernelGate implements Gate {
  readonly kind = 'kernel'
  readonly #kept: NodeHandle
  readonly #backlog: number
  readonly #onConnection: (status: number, client?: NodeHandle) => void
  // Handles take their async context from whoever makes them: connections must not see that of the handler that opened the gate.
  readonly #context = new AsyncResource('TCP_GATE', { requireManualDestroy: true })
  /** Keeps the process alive while nothing is polled. */
  readonly #keepAlive = setInterval(() => {}, 2 ** 31 - 1)
  #open: NodeHandle | undefined
  #isRef = true

  constructor(kept: NodeHandle, options: GateOptions) {
    this.#kept = kept
    this.#backlog = options.backlog
    const { onAccept, onAcceptError } = options
    this.#onConnection = (status, client) => {
      if (client === undefined || status !== 0) onAcceptError?.(systemError(status, 'accept'))
      else onAccept({ handle: client })
    }
  }

  get fd(): number {
    return this.#kept.fd
  }

  get parked(): number {
    return 0
  }

  get isOpen(): boolean {
    return this.#open !== undefined
  }

  hasRoom(): boolean {
    return isDescriptorFree(1)
  }

  open(): boolean {
    if (this.#open !== undefined) return true
    if (!isDescriptorFree(2)) return false
    let handle: NodeHandle
    try {
      handle = this.#context.runInAsyncScope(adoptDuplicate, undefined, this.#kept.fd)
    } catch (error) {
      // Another thread, such as one that opens a file, was faster.
      if ((error as NodeJS.ErrnoException).code === 'EMFILE') return false
      throw error
    }
    handle.onconnection = this.#onConnection
    const status = handle.listen(this.#backlog)
    if (status !== 0) {
      handle.close()
      throw systemError(status, 'listen')
    }
    if (!this.#isRef) handle.unref()
    this.#open = handle
    return true
  }

  shut(): void {
    const handle = this.#open
    this.#open = undefined
    handle?.close()
  }

  ref(): void {
    this.#isRef = true
    this.#keepAlive.ref()
    this.#open?.ref()
  }

  unref(): void {
    this.#isRef = false
    this.#keepAlive.unref()
    this.#open?.unref()
  }

  close(): Promise<void> {
    this.shut()
    clearInterval(this.#keepAlive)
    this.#context.emitDestroy()
    const closed = new Deferred()
    this.#kept.close(() => closed.resolve())
    return closed.promise
  }
}
