// TLS over any transport, by documented members only: slower than over a handle, and for where there is none.
//
// Node's TLS is given a stream of ours, which never tells it of the carrier's end. So an end that TLS tells of is a close_notify, and whether the
// carrier ends without one is seen here.

import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { nextTick, setImmediate } from '../async/platform.ts'
import { handedOver, RECORD_SIZE, type ReadBuffer } from '../stream/read-buffer.ts'
import type { EndKind, Transport, TransportEvents, WriteEntry } from '../stream/transport.ts'
import type { TlsSocketInternals } from '../system/tls-socket.ts'
import type { ConnectionTls } from '../tls.ts'
import { type Callback, CarriedWrites } from './carried-writes.ts'
import { RecordBoundary } from './record-boundary.ts'
import {
  carriedStream,
  chainError,
  endedWithPeer,
  endWhenQuiet,
  QUIRKS,
  secureStream,
  twoTurnsLater,
  whenDrained
} from './secure-stream.ts'
import { handshakeError, isOfOpenSsl, recordError } from './tls-error.ts'
import type { TlsInit } from './tls-init.ts'

/** Takes over `carrier`, whose owner it is from then on. `early` are bytes that came from it before: they belong to the handshake. */
export class StreamTlsTransport implements Transport, TransportEvents {
  readonly gatherSize = RECORD_SIZE
  readonly mustEnd = true
  readonly unsent = undefined
  tls: ConnectionTls | undefined
  readonly #carrier: Transport
  readonly #init: TlsInit
  readonly #early: readonly Uint8Array[]
  readonly #boundary = new RecordBoundary()
  readonly #writes: CarriedWrites
  readonly #under: Duplex
  #socket: TlsSocketInternals | undefined
  #events: TransportEvents | undefined
  #ending: Callback | undefined
  #isDestroyed = false
  #isStopped = false
  #isUnderFull = false
  #hasCarrierEnded = false
  #isLooking = false
  #hasEnded = false
  #isWriting = false
  #isEnding = false
  // What the carrier broke of, while what it brought before is still decrypted.
  #brokenBy: Error | undefined
  #isReleased = false

  constructor(carrier: Transport, init: TlsInit, early: readonly Uint8Array[] = []) {
    this.#carrier = carrier
    this.#init = init
    this.#early = early
    this.#writes = new CarriedWrites(carrier)
    this.#under = carriedStream({
      readOn: () => this.#readOn(),
      carry: (entries, callback) => this.#carry(entries, callback),
      end: (callback) => {
        this.#ending = callback
        carrier.end()
      }
    })
  }

  get socket(): Socket | undefined {
    return this.#carrier.socket === undefined ? undefined : this.#socket
  }

  get isDestroyed(): boolean {
    return this.#isDestroyed
  }

  get taken(): number {
    return this.#writes.taken
  }

  open(events: TransportEvents): void {
    this.#events = events
    const under = this.#under.on('error', (error) => this.#failed(error))
    const { handshake } = this.#init
    const tls = secureStream(under, handshake) as TlsSocketInternals
    this.#socket = tls
    tls.push = (chunk: Uint8Array | null): boolean => this.#pushed(chunk)
    const { _readableState: readable, _writableState: writable } = tls as Partial<TlsSocketInternals>
    if (readable !== undefined) readable.autoDestroy = false
    if (writable !== undefined) writable.autoDestroy = false
    tls.on(handshake.isServer ? 'secure' : 'secureConnect', () => this.#secure())
    tls.on('_tlsError', (error: Error) => this.#failed(error))
    tls.on('error', (error) => this.#failed(error))
    this.#carrier.open(this)
    tls._read(0)
    // Before anything else can come. Deno fails the process if a handshake is over before the tick in which it begins.
    nextTick(() => {
      if (!this.#isDestroyed) for (const chunk of this.#early) this.#pass(chunk)
    })
  }

  resume(): void {
    this.#isStopped = false
    if (this.#isDestroyed || this.#hasEnded) return
    if (QUIRKS.readsAhead && !this.#isUnderFull) this.#carrier.resume()
    this.#socket?._read(0)
    this.#look()
  }

  write(entries: WriteEntry[]): boolean {
    const tls = this.#socket as TlsSocketInternals
    const { 0: first, length } = entries
    // Never from inside the command: how soon a runtime calls back is its own affair.
    const callback: Callback = (error) => nextTick(() => whenDrained(this.#under, () => this.#wrote(error)))
    this.#isWriting = true
    if (QUIRKS.endsWithPeer && this.#hasEnded) {
      callback(endedWithPeer())
      return false
    }
    if (length === 1) tls._write((first as WriteEntry).chunk, (first as WriteEntry).encoding, callback)
    else tls._writev(Object.assign(entries, { allBuffers: false }), callback)
    return false
  }

  // See the transport over a handle.
  end(): void {
    setImmediate(() => {
      if (!this.#isDestroyed) this.#socket?._final((error) => this.#finish(error))
    })
  }

  destroy(): void {
    this.#giveUp('destroy')
  }

  reset(): void {
    this.#giveUp('reset')
  }

  received(buffer: ReadBuffer, length: number): boolean {
    return this.#pass(buffer.keep(length)) && !(QUIRKS.readsAhead && this.#isStopped)
  }

  written(error?: Error): void {
    // The stream is not told, which would throw away what it has to read.
    if (error !== undefined && this.tls !== undefined) this.#wrote(error)
    else this.#writes.settle(error)
  }

  finished(error?: Error): void {
    if (error !== undefined && this.tls !== undefined) this.#tell('finished', error)
    else this.#ending?.(error)
  }

  ended(kind: EndKind): void {
    this.#hasCarrierEnded = true
    // TLS in TLS: what was cut off below is cut off here.
    this.#look(kind)
  }

  /** What has arrived is delivered first, whether or not the reader has room for it. */
  broken(cause: Error): void {
    this.#brokenBy = cause
    this.#hasCarrierEnded = true
    if (this.tls === undefined) this.#failed(cause)
    else this.resume()
    this.#look()
  }

  released(): void {
    this.#isReleased = true
    if (this.#brokenBy !== undefined && !this.#isDestroyed) return
    this.#isDestroyed = true
    this.#under.destroy()
    this.#socket?.destroy()
    // Of no consequence if it was told already.
    if (this.tls === undefined) this.#broke(new Error('the connection was closed'))
    this.#events?.released()
  }

  #carry(entries: WriteEntry[], callback: Callback): void {
    if (this.#isDestroyed) {
      callback(new Error('the connection was closed'))
      return
    }
    if (this.#isEnding) endWhenQuiet(this.#under)
    this.#writes.send(entries, callback)
  }

  // Gives whether more can be taken.
  #pass(chunk: Uint8Array): boolean {
    this.#boundary.push(chunk)
    this.#isUnderFull = !this.#under.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength))
    return !this.#isUnderFull
  }

  // The stream has room again, so that all that was passed on before is with TLS.
  #readOn(): void {
    if (this.#isDestroyed) return
    if (this.#isUnderFull) {
      this.#isUnderFull = false
      this.#carrier.resume()
    }
    this.#look()
  }

  #pushed(chunk: Uint8Array | null): boolean {
    if (this.#isDestroyed) return false
    if (chunk === null) {
      this.#end('orderly')
      return false
    }
    const goesOn = (this.#events as TransportEvents).received(handedOver(chunk), chunk.byteLength)
    this.#isStopped = !goesOn && this.#brokenBy === undefined
    return !this.#isStopped
  }

  // The carrier has ended: unless TLS tells of a close_notify behind what it has still to decrypt, that was the end.
  #look(kind?: EndKind): void {
    if (!this.#hasCarrierEnded || this.#isLooking) return
    this.#isLooking = true
    twoTurnsLater(() => {
      this.#isLooking = false
      // It is looked at again when the reader goes on, and when the stream is empty.
      if (this.#isStopped || this.#under.readableLength > 0) return
      const mayEnd = kind !== 'cut' && this.#init.handshake.closeNotify === 'optional' && this.#boundary.isReached
      if (this.#brokenBy !== undefined) this.#failed(this.#brokenBy)
      else this.#end(mayEnd ? 'orderly' : 'cut')
    })
  }

  #end(kind: EndKind): void {
    if (this.#isDestroyed || this.#hasEnded) return
    this.#hasEnded = true
    if (QUIRKS.endsWithPeer) nextTick(() => this.#wrote(endedWithPeer()))
    if (this.tls !== undefined) this.#events?.ended(kind)
    else this.#failed(new Error('the peer ended the connection during the handshake'))
  }

  #secure(): void {
    if (this.#isDestroyed || this.tls !== undefined) return
    const { handshake, secured } = this.#init
    const socket = this.#socket as TlsSocketInternals
    let tls: ConnectionTls
    try {
      tls = handshake.conclude({ socket, chainError: () => chainError(socket, handshake.isServer) })
    } catch (error) {
      this.reset()
      this.#broke(error as Error)
      return
    }
    this.tls = tls
    secured()
  }

  #tell(news: 'written' | 'finished', error: Error | null | undefined): void {
    if (news === 'written') this.#isWriting = false
    if (!this.#isDestroyed) this.#events?.[news](error ? this.#causeOf(error) : undefined)
  }

  #wrote(error: Error | null | undefined): void {
    if (this.#isWriting) this.#tell('written', error)
  }

  #finish(error: Error | null | undefined): void {
    if (!QUIRKS.leavesCarrierOpen || error || this.#under.writableFinished) this.#tell('finished', error)
    else {
      this.#isEnding = true
      endWhenQuiet(this.#under.once('finish', () => this.#tell('finished', undefined)))
    }
  }

  #failed(error: Error): void {
    if (this.#isDestroyed) return
    this.destroy()
    this.#broke(error)
  }

  #broke(error: Error): void {
    if (this.tls !== undefined) this.#events?.broken(this.#causeOf(error))
    else this.#init.failed(handshakeError(this.#init.peer, error))
  }

  #giveUp(how: 'destroy' | 'reset'): void {
    if (this.#isDestroyed) return
    this.#isDestroyed = true
    this.#carrier[how]()
    if (this.#isReleased) nextTick(() => this.released())
    // Deno fails the process if what is about to begin a handshake is gone by then.
    setImmediate(() => {
      this.#under.destroy()
      this.#socket?.destroy()
    })
  }

  #causeOf(error: Error): Error {
    return isOfOpenSsl(error) ? recordError(this.#init.peer, error) : error
  }
}
