// One end of a connection in memory as a transport: what a socket does, and what a system does for it.

import { AsyncResource } from 'node:async_hooks'
import { setImmediate } from '../async/platform.ts'
import { own } from '../stream/read-buffer.ts'
import type { Transport, TransportEvents, WriteEntry } from '../stream/transport.ts'
import type { Flow, FlowEnd } from './flow.ts'
import { resetError } from './system-error.ts'

/** As with a socket. */
const GATHER_SIZE = 524_288

/** Who is told when an end is released. */
export interface EndOwner {
  endReleased(end: MemoryTransport): void
}

export class MemoryTransport implements Transport, FlowEnd {
  readonly socket = undefined
  readonly gatherSize = GATHER_SIZE
  readonly mustEnd = false
  readonly taken = undefined
  readonly #inbound: Flow
  readonly #outbound: Flow
  readonly #owner: EndOwner | undefined
  #events: TransportEvents | undefined
  // Of whoever opened it, as with sockets: not of the one at the other end.
  #context: AsyncResource | undefined
  #isDestroyed = false
  #isReleased = false
  #isReading = false
  #isScheduled = false
  #isEndTold = false
  #isEnding = false
  // Of the write in flight: what has found no room yet, and how much that is.
  #waiting: Uint8Array[] = []
  #unsent = 0
  #isWriting = false
  #writeError: Error | undefined

  constructor(inbound: Flow, outbound: Flow, owner?: EndOwner) {
    this.#inbound = inbound
    this.#outbound = outbound
    this.#owner = owner
  }

  /** Who reads and writes here. */
  get events(): TransportEvents | undefined {
    return this.#events
  }

  get isDestroyed(): boolean {
    return this.#isDestroyed
  }

  get unsent(): number | undefined {
    return this.#writeError === undefined ? this.#unsent : undefined
  }

  /** Whether the peer has reset the connection: before it is opened, nobody but whoever accepts it can tell. */
  get isReset(): boolean {
    return this.#inbound.isReset
  }

  // Commands ----------------------------------------------------------------------------------------------------------

  open(events: TransportEvents): void {
    this.#events = events
    this.#context = new AsyncResource('IT_TCP_MEMORY', { requireManualDestroy: true })
    this.resume()
  }

  resume(): void {
    if (this.#isDestroyed) return
    this.#isReading = true
    this.#schedule()
  }

  write(entries: WriteEntry[]): boolean {
    if (this.#inbound.isReset) {
      this.#writeError ??= resetError('write')
    } else {
      for (const { chunk, encoding } of entries) {
        const bytes = typeof chunk === 'string' ? Buffer.from(chunk, encoding as BufferEncoding) : chunk
        this.#unsent += bytes.byteLength
        this.#waiting.push(bytes)
      }
      this.#fill()
      if (this.#unsent === 0) return true
    }
    this.#isWriting = true
    this.#schedule()
    return false
  }

  end(): void {
    this.#isEnding = true
    this.#outbound.end()
    this.#schedule()
  }

  destroy(): void {
    if (this.#isDestroyed) return
    // A system that gives up a socket with input that was not read says so: it resets.
    if (this.#inbound.available > 0) this.#outbound.reset()
    else this.#outbound.end()
    this.#giveUp()
  }

  reset(): void {
    if (this.#isDestroyed) return
    this.#outbound.reset()
    this.#giveUp()
  }

  // What the flows tell -----------------------------------------------------------------------------------------------

  drained(): void {
    this.#schedule()
  }

  arrived(): void {
    if (this.#isDestroyed) this.#refuse()
    else this.#schedule()
  }

  // News --------------------------------------------------------------------------------------------------------------

  /** Tells what there is to tell; a turn of the event loop later than it happened, as a system does. */
  run(): void {
    this.#isScheduled = false
    if (this.#context === undefined) this.#tell()
    else this.#context.runInAsyncScope(this.#tell, this)
  }

  #tell(): void {
    this.#read()
    this.#goOnWriting()
    if (this.#isEnding && !this.#isDestroyed) {
      this.#isEnding = false
      this.#events?.finished()
    }
    if (this.#isDestroyed && !this.#isReleased) {
      this.#isReleased = true
      this.#owner?.endReleased(this)
      this.#events?.released()
    }
  }

  #read(): void {
    if (this.#isDestroyed || !this.#isReading || this.#isEndTold) return
    const { available } = this.#inbound
    if (available > 0) {
      const bytes = this.#inbound.take()
      this.#isReading = (this.#events as TransportEvents).received(own(bytes), bytes.byteLength)
      // One piece for each turn.
      if (this.#isReading && this.#inbound.isDue) this.#schedule()
    } else if (this.#inbound.isEnded) {
      this.#isEndTold = true
      // An end that is read after a failed write is no end.
      if (this.#writeError !== undefined) this.#break(this.#writeError)
      else this.#events?.ended('orderly')
    } else if (this.#inbound.isReset) {
      this.#break(this.#writeError ?? resetError('read'))
    }
  }

  #goOnWriting(): void {
    if (this.#isDestroyed || !this.#isWriting) return
    if (this.#inbound.isReset) this.#writeError ??= resetError('write')
    if (this.#writeError === undefined) {
      this.#fill()
      if (this.#unsent > 0) return
    }
    const error = this.#writeError
    this.#isWriting = false
    this.#waiting = []
    this.#events?.written(error)
    if (error !== undefined && this.#isEndTold) this.#break(error)
  }

  // -------------------------------------------------------------------------------------------------------------------

  #fill(): void {
    let done = 0
    for (; done < this.#waiting.length; done++) {
      const bytes = this.#waiting[done] as Uint8Array
      const room = Math.min(this.#outbound.room, bytes.byteLength)
      if (room > 0) this.#outbound.put(room === bytes.byteLength ? bytes : bytes.subarray(0, room))
      this.#unsent -= room
      if (room < bytes.byteLength) {
        this.#waiting[done] = bytes.subarray(room)
        break
      }
    }
    this.#waiting.splice(0, done)
  }

  #break(error: Error): void {
    if (this.#isDestroyed) return
    this.#outbound.reset()
    this.#giveUp()
    this.#events?.broken(error)
  }

  #giveUp(): void {
    this.#isDestroyed = true
    this.#isWriting = false
    this.#waiting = []
    this.#refuse()
    this.#schedule()
  }

  // Nobody is there to read what comes: the peer's system is told so.
  #refuse(): void {
    if (this.#inbound.available === 0) return
    this.#inbound.clear()
    this.#outbound.reset()
  }

  #schedule(): void {
    // What is not open yet waits in the system, and needs no telling.
    if (this.#isScheduled || this.#isReleased || (this.#events === undefined && !this.#isDestroyed)) return
    this.#isScheduled = true
    setImmediate(run, this)
  }
}

function run(end: MemoryTransport): void {
  end.run()
}
