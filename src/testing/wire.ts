// What joins two ends in memory, and what a test can do to it.

import { inspect } from 'node:util'
import { checkCount } from '../options.ts'
import { Flow } from './flow.ts'
import { type EndOwner, MemoryTransport } from './memory-transport.ts'

/** Which way bytes go: to the side that listened, or to the side that dialled. */
export type Direction = 'toServer' | 'toClient'

/** Bytes that a direction takes while its receiver does not read. */
export const DEFAULT_CAPACITY = 65_536

/**
 * The link between the two sides of a connection in memory, for whatever happens on networks. What it does it does at once; the two sides notice in
 * the next turns of the event loop.
 */
export interface Link {
  /**
   * Lets nothing pass any more: no byte, no end, no reset. What is sent is taken up to the capacity, so that the sender notices nothing until that
   * is reached.
   *
   * @throws {TypeError} If `direction` is none.
   */
  hold(direction?: 'both' | Direction): void
  /**
   * Lets `bytes` more bytes pass in each direction that is held, of those that wait or are sent later, and holds on. Without a number the hold is over.
   *
   * @throws {TypeError | RangeError} If `bytes` is not a whole number above 0.
   */
  release(bytes?: number): void
  /**
   * Lets bytes arrive in pieces of at most `size`, one for each turn of the event loop, in both directions; `Infinity` ends that.
   *
   * @throws {TypeError | RangeError} If `size` is not a whole number above 0 or `Infinity`.
   */
  cutInto(size: number): void
  /**
   * Sends an end as if the other side had done so, behind what it sent so far. It does not notice; what it sends later is lost.
   *
   * @throws {TypeError} If `direction` is none.
   */
  end(direction: Direction): void
  /** Resets both sides, also where it holds. What has arrived can be read before the error; what is on its way is lost. */
  reset(): void
}

/** Two flows, and an end on each side. */
export class Wire implements Link {
  readonly client: MemoryTransport
  readonly server: MemoryTransport
  readonly #toServer: Flow
  readonly #toClient: Flow

  constructor(capacity: number, owner: EndOwner) {
    this.#toServer = new Flow(capacity)
    this.#toClient = new Flow(capacity)
    this.client = new MemoryTransport(this.#toClient, this.#toServer, owner)
    this.server = new MemoryTransport(this.#toServer, this.#toClient, owner)
    this.#toServer.connect(this.client, this.server)
    this.#toClient.connect(this.server, this.client)
  }

  hold(direction: 'both' | Direction = 'both'): void {
    for (const flow of this.#flows('hold', direction)) flow.hold()
  }

  release(bytes?: number): void {
    if (bytes !== undefined) checkCount('Cannot release', 'bytes', bytes)
    for (const flow of this.#flows('release', 'both')) flow.release(bytes)
  }

  cutInto(size: number): void {
    if (size !== Number.POSITIVE_INFINITY) checkCount('Cannot cut', 'size', size)
    for (const flow of this.#flows('cut', 'both')) flow.cutInto(size)
  }

  end(direction: Direction): void {
    if ((direction as string) === 'both') throw wrongDirection('end', direction)
    for (const flow of this.#flows('end', direction)) flow.end()
  }

  reset(): void {
    for (const flow of this.#flows('reset', 'both')) {
      flow.reset()
      flow.release()
    }
  }

  #flows(action: string, direction: 'both' | Direction): readonly Flow[] {
    if (direction === 'both') return [this.#toServer, this.#toClient]
    if (direction === 'toServer') return [this.#toServer]
    if (direction === 'toClient') return [this.#toClient]
    throw wrongDirection(action, direction)
  }
}

function wrongDirection(action: string, direction: unknown): TypeError {
  const choices = action === 'end' ? `'toServer' or 'toClient'` : `'both', 'toServer' or 'toClient'`
  return new TypeError(`Cannot ${action} as 'direction' must be ${choices}: received ${inspect(direction)}`)
}
