// An end of a link that is a plain `node:net` socket: the foreign peer.

import type { Socket } from 'node:net'
import type { Direction } from './direction.ts'
import { law } from './violation.ts'
import type { World } from './world.ts'

export class RawEnd {
  readonly name: string
  readonly socket: Socket
  readonly incoming: Direction
  readonly outgoing: Direction
  readonly #world: World
  #position = 0
  #handedOver = 0
  #isReading = false
  #isGone = false
  #told: 'end' | 'reset' | undefined

  constructor(world: World, name: string, socket: Socket, directions: { incoming: Direction; outgoing: Direction }) {
    this.#world = world
    this.name = name
    this.socket = socket
    this.incoming = directions.incoming
    this.outgoing = directions.outgoing
    socket.on('data', (chunk: Buffer) => world.hold(`${name} data`, () => this.#received(chunk)))
    socket.on('end', () => world.hold(`${name} end`, () => this.#ended()))
    socket.on('error', (error) => world.hold(`${name} error`, () => this.#failed(error)))
    socket.pause()
    // Otherwise the system keeps small writes back, and a reset throws them away.
    socket.setNoDelay(true)
  }

  get isReleased(): boolean {
    return this.socket.closed
  }

  /** Whether the program has not let go of it rudely. */
  get isOpen(): boolean {
    return !this.#isGone
  }

  /** How far it is, in a few words. */
  get state(): string {
    return `${this.name} has ${this.#position} of ${this.incoming.length} bytes`
  }

  get isSettled(): boolean {
    const isOver = this.#isGone || this.#told !== undefined || this.incoming.cut !== 'no' || !this.#isReading
    return isOver || (this.#position === this.incoming.length && !this.incoming.isFinished)
  }

  #received(chunk: Buffer): void {
    law(this.#told === undefined, 'data after the end')
    const sent = this.incoming.from(this.#position).subarray(0, chunk.byteLength)
    law(sent.equals(chunk), `other bytes than were sent, between ${this.#position} and ${this.#position + chunk.byteLength}`)
    this.#position += chunk.byteLength
  }

  #ended(): void {
    this.#world.note(`  ${this.name}: end`)
    this.#told = 'end'
    // Node.js before 24 reports some resets as an end (libuv/libuv#4997).
    const { incoming } = this
    law(
      incoming.mayEnd(this.#position) || incoming.cut !== 'no',
      `an end after ${this.#position} of ${incoming.length} bytes, ${incoming.isFinished ? '' : 'not '}finished`
    )
  }

  #failed(error: Error): void {
    this.#world.note(`  ${this.name}: ${error}`)
    if (this.#isGone) return
    this.#told = 'reset'
    law(this.incoming.mayBreak(Number.POSITIVE_INFINITY), `failed of ${error.message} although the library did not reset`, error)
  }

  write(size: number): void {
    if (this.#isGone || this.outgoing.isFinished || !this.socket.writable) return
    const bytes = this.outgoing.next(size)
    this.outgoing.sent(bytes)
    this.socket.write(bytes, (error) => {
      if (error == null) this.#handedOver += bytes.byteLength
    })
  }

  /** Starts or stops reading. */
  toggle(): void {
    this.#isReading = !this.#isReading
    if (this.#isReading) this.socket.resume()
    else this.socket.pause()
  }

  halfClose(): void {
    if (this.#isGone || this.outgoing.isFinished || !this.socket.writable) return
    this.outgoing.isFinished = true
    this.socket.end()
  }

  /** Lets go with a reset, where there is one. */
  reset(): void {
    // While shutdown(2) is pending, libuv refuses to reset, and Node.js loses the descriptor.
    if (this.outgoing.isFinished && !this.socket.writableFinished) {
      this.destroy()
      return
    }
    if (this.#leave(this.outgoing.isTcp ? 'reset' : 'close')) return
    if (this.outgoing.isTcp) this.socket.resetAndDestroy()
    else this.socket.destroy()
  }

  /** Closes the descriptor, whatever waits in either direction. */
  destroy(): void {
    if (this.#leave('close')) return
    this.socket.destroy()
  }

  #leave(how: 'reset' | 'close'): boolean {
    if (this.socket.destroyed) return true
    this.outgoing.cutOff(how, this.#handedOver)
    this.#isGone = true
    return false
  }

  async drain(): Promise<void> {
    if (!this.#isGone) {
      this.#isReading = true
      this.socket.resume()
      this.halfClose()
    }
    await this.#world.until(`${this.name} is closed`, () => this.socket.closed)
    if (this.isOpen) law(this.#told !== undefined, `${this.name} was not told of the end`)
  }

  async release(): Promise<void> {
    this.socket.destroy()
    if (!this.socket.closed) await new Promise((resolve) => this.socket.once('close', resolve))
  }
}
