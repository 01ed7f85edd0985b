// Who takes the clients of a server: those that pull, each for one, or a handler, for all of them.

import type { SocketAddress } from '../address.ts'
import { onceAborted } from '../async/abort.ts'
import { Deferred } from '../async/deferred.ts'
import type { Connection } from '../connection.ts'
import type { ByteConnection } from '../stream/byte-connection.ts'

/** Who takes a client. */
export interface Consumer {
  take(connection: ByteConnection<SocketAddress>): void
}

/** The server, as those who wait for its clients know it. */
export interface ConsumersOwner {
  /** The number of those who wait has changed. */
  appetiteChanged(): void
  /** A client is being handed out. False: it has broken off in this moment, and nobody gets it. */
  handsOut(connection: ByteConnection<SocketAddress>): boolean
}

/** One `accept()` or `next()`. */
class Pull extends Deferred<Connection> implements Consumer {
  take(connection: ByteConnection<SocketAddress>): void {
    this.resolve(connection.facade)
  }
}

/** Brings clients that are ready and consumers together, both in their order. */
export class Consumers {
  /** There from the start to the end, beside whom nobody pulls. */
  readonly #standing: Consumer | undefined
  readonly #owner: ConsumersOwner
  readonly #pulls: Pull[] = []
  // The first of those that are ready stands apart: an array that is filled and emptied for each client would be allocated each time.
  #first: ByteConnection<SocketAddress> | undefined
  readonly #rest: ByteConnection<SocketAddress>[] = []

  constructor(standing: Consumer | undefined, owner: ConsumersOwner) {
    this.#standing = standing
    this.#owner = owner
  }

  /** Whether somebody waits for a client that is not there yet. */
  get areWaiting(): boolean {
    return this.#standing !== undefined || this.#pulls.length > this.#numReady
  }

  /** Takes the next client. */
  pull(): Promise<Connection> {
    return this.#start(new Pull())
  }

  /** Takes the next client. If `signal` aborts first, no client is lost. */
  async pullUntil(signal: AbortSignal): Promise<Connection> {
    const pull = new Pull()
    // Before anything else: the signal may be aborted by what follows.
    const unhook = onceAborted(signal, (reason) => {
      const index = this.#pulls.indexOf(pull)
      // Not there: a client was handed over in this very turn, and the caller has it.
      if (index === -1) return
      this.#pulls.splice(index, 1)
      pull.reject(reason)
      this.#owner.appetiteChanged()
    })
    try {
      return await this.#start(pull)
    } finally {
      unhook()
    }
  }

  /** A client is there for whoever comes first; `handOut` follows. */
  add(connection: ByteConnection<SocketAddress>): void {
    if (this.#first === undefined) this.#first = connection
    else this.#rest.push(connection)
  }

  /** It broke off while it waited. */
  remove(connection: ByteConnection<SocketAddress>): void {
    if (this.#first === connection) this.#first = this.#rest.shift()
    else this.#rest.splice(this.#rest.indexOf(connection), 1)
  }

  /** The one place where clients meet consumers. */
  handOut(): void {
    while (this.#first !== undefined && (this.#standing !== undefined || this.#pulls.length > 0)) {
      const connection = this.#first
      this.#first = this.#rest.shift()
      if (!this.#owner.handsOut(connection)) continue
      const consumer = this.#standing ?? (this.#pulls.shift() as Pull)
      consumer.take(connection)
    }
  }

  /** No client comes any more: those who wait are told with an error each. */
  close(error: () => Error): void {
    this.#first = undefined
    this.#rest.length = 0
    for (const pull of this.#pulls.splice(0)) pull.reject(error())
  }

  get #numReady(): number {
    return this.#first === undefined ? 0 : this.#rest.length + 1
  }

  #start(pull: Pull): Promise<Connection> {
    this.#pulls.push(pull)
    this.handOut()
    this.#owner.appetiteChanged()
    return pull.promise
  }

  invariant(check: (holds: boolean, what: string) => void, isClosed: boolean): void {
    check(this.#pulls.length === 0 || this.#first === undefined, 'a consumer waits though a client is ready')
    check(this.#standing === undefined || this.#pulls.length === 0, 'a consumer waits beside the handler')
    check(!isClosed || this.#pulls.length === 0, 'a consumer waits for a closed server')
  }
}
