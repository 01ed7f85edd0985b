// TLS over any transport, by documented members only: slower than over a handle, and for where there is none.
//
// Node's TLS is given a stream of ours, which never tells it of the carrier's end. So an end that TLS tells of is a close_notify, and whether the
// carrier ends without one is seen here.

import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { nextTick, setImmediate } from '../async/platform.ts'
import { handedOver, type ReadBuffer } from '../stream/read-buffer.ts'
import type { EndKind, Transport, TransportEvents, WriteEntry } from '../stream/transport.ts'
import type { TlsSocketInternals } from '../system/tls-socket.ts'
import type { ConnectionTls } from '../tls.ts'
import { RecordBoundary } from './record-boundary.ts'
import { chainError, endedWithPeer, endWhenQuiet, entryOf, QUIRKS, secureStream, whenDrained } from './secure-stream.ts'
import { handshakeError, isOfOpenSsl, recordError } from './tls-error.ts'
import type { TlsInit } from './tls-transport.ts'

const GATHER_SIZE = 16_384

type Callback = (error?: Error | null) => void

/** Takes over `carrier`, whose owner it is from then on. `early` are bytes that came from it before: they belong to the handshake. */
export class StreamTlsTransport implements Transport, TransportEvents {
  readonly gatherSize = GATHER_SIZE
  readonly mustEnd = true
  readonly unsent = undefined
  tls: ConnectionTls | undefined
  readonly #carrier: Transport
  readonly #init: TlsInit
  readonly #early: readonly Uint8Array[]
  readonly #boundary = new RecordBoundary()
  readonly #under: Duplex
  #socket: TlsSocketInternals | undefined
  #events: TransportEvents | undefined
  #sent: Callback | undefined
  #ending: Callback | undefined
  #taken = 0
  #sending = 0
  #isDestroyed = false
  #isStopped = false
  #isUnderFull = false
  #hasCarrierEnded = false
  #isLooking = false
  #hasEnded = false
  #isWriting = false
  #isEnding = false

  constructor(carrier: Transport, init: TlsInit, early: readonly Uint8Array[] = []) {
    this.#carrier = carrier
    this.#init = init
    this.#early = early
    this.#under = new Duplex({
      allowHalfOpen: true,
      read: () => this.#readOn(),
      write: (chunk: Buffer, _encoding, callback) => this.#carry([entryOf(chunk)], callback),
      writev: (chunks, callback) =>
        this.#carry(
          chunks.map(({ chunk }) => entryOf(chunk as Buffer)),
          callback
        ),
      final: (callback) => {
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
    return this.#taken + this.#sending - (this.#carrier.unsent ?? this.#sending)
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

  // News of the carrier -----------------------------------------------------------------------------------------------

  received(buffer: ReadBuffer, length: number): boolean {
    return this.#pass(buffer.keep(length)) && !(QUIRKS.readsAhead && this.#isStopped)
  }

  written(error?: Error): void {
    const sent = this.#sent
    this.#sent = undefined
    this.#taken += this.#sending
    this.#sending = 0
    sent?.(error)
  }

  finished(error?: Error): void {
    this.#ending?.(error)
  }

  ended(kind: EndKind): void {
    this.#hasCarrierEnded = true
    // TLS in TLS: what was cut off below is cut off here.
    if (kind === 'orderly') this.#look()
    else this.#look('cut')
  }

  broken(cause: Error): void {
    this.#failed(cause)
  }

  released(): void {
    this.#isDestroyed = true
    this.#under.destroy()
    this.#socket?.destroy()
    // Of no consequence if it was told already.
    if (this.tls === undefined) this.#broke(new Error('the connection was closed'))
    this.#events?.released()
  }

  // -------------------------------------------------------------------------------------------------------------------

  #carry(entries: WriteEntry[], callback: Callback): void {
    if (this.#isDestroyed) {
      callback(new Error('the connection was closed'))
      return
    }
    this.#sending = entries.reduce((sum, { byteLength }) => sum + byteLength, 0)
    if (this.#isEnding) endWhenQuiet(this.#under)
    this.#sent = callback
    if (this.#carrier.write(entries)) this.written()
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
    this.#isStopped = !(this.#events as TransportEvents).received(handedOver(chunk), chunk.byteLength)
    return !this.#isStopped
  }

  // The carrier has ended: unless TLS tells of a close_notify behind what it has still to decrypt, that was the end.
  #look(kind?: EndKind): void {
    if (!this.#hasCarrierEnded || this.#isLooking) return
    this.#isLooking = true
    setImmediate(() =>
      setImmediate(() => {
        this.#isLooking = false
        // It is looked at again when the reader goes on, and when the stream is empty.
        if (this.#isStopped || this.#under.readableLength > 0) return
        const mayEnd = kind !== 'cut' && this.#init.handshake.closeNotify === 'optional' && this.#boundary.isReached
        this.#end(mayEnd ? 'orderly' : 'cut')
      })
    )
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
    if (!this.#isDestroyed) this.#events?.[news](error ? this.#causeOf(error) : undefined)
  }

  #wrote(error: Error | null | undefined): void {
    if (!this.#isWriting) return
    this.#isWriting = false
    this.#tell('written', error)
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
