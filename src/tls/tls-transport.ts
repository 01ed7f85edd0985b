// TLS over a libuv handle as a transport.
//
// On the handle of a connected net.Socket it is a TLSSocket, used by the members of its implementer; on that of an accepted client the same without any
// socket, until somebody asks for one.

import { Socket } from 'node:net'
import { nextTick, setImmediate } from '../async/platform.ts'
import { lent, RECORD_SIZE, type ReadBuffer } from '../stream/read-buffer.ts'
import { isShort, short } from '../stream/scratch.ts'
import type { Transport, TransportEvents, WriteEntry } from '../stream/transport.ts'
import { BareTls } from '../system/bare-tls.ts'
import { EALREADY, rememberName, type TlsSocketOwner } from '../system/native-tls.ts'
import type { StreamHandle } from '../system/node-internals.ts'
import { systemErrorNamed } from '../system/system-error.ts'
import { type CarrierHandle, carrierHandle, closeByReset, createTlsSocket, disown, type TlsSocketInternals } from '../system/tls-socket.ts'
import type { ConnectionTls } from '../tls.ts'
import type { Judged } from './handshake.ts'
import { RecordMemory, type RecordMemoryOwner } from './record-memory.ts'
import { sayHello } from './say-hello.ts'
import { ifStalled } from './stalled.ts'
import { handshakeError, isOfOpenSsl, recordError } from './tls-error.ts'
import type { TlsInit } from './tls-init.ts'

/** What TLSWrap gathers is copied, and a record has no more; a longer buffer goes as it is. */
const GATHER_SIZE = RECORD_SIZE
/** What TLSWrap hands over in one go: ten buffers of 16 KiB are the most. */
const AT_ONCE = 131_072

/**
 * Takes over `carrier`, which must be connected, with nothing in flight and nobody else reading from it; a handle must suit {@link canBeBare}. `early`
 * are bytes that came from it before: they belong to the handshake.
 */
export class TlsTransport implements Transport, TlsSocketOwner, RecordMemoryOwner {
  readonly gatherSize = GATHER_SIZE
  readonly mustEnd = true
  tls: ConnectionTls | undefined
  readonly #carrier: Socket | StreamHandle
  readonly #init: TlsInit
  #early: readonly Uint8Array[]
  #raw: CarrierHandle | undefined
  #tls: TlsSocketInternals | BareTls | undefined
  #events: TransportEvents | undefined
  #isDestroyed = false
  // Whether we told Node.js to read no more: libuv can't have seen FIN then.
  #isStopped = false
  #hasEnded = false
  // Whether the write that is being handed over is so already.
  #isWriting = false
  #isHandedOver = false
  #isShortWrite = false
  #isInFlight = false
  #endsBehindWrite = false
  #isEnding = false
  // Behind it a FIN is no mere truncation.
  #writeError: Error | undefined
  readonly #memory = new RecordMemory(this)
  readonly #onWritten = (error?: Error | null): void => this.#written(error ?? undefined)

  constructor(carrier: Socket | StreamHandle, init: TlsInit, early: readonly Uint8Array[] = []) {
    this.#carrier = carrier
    this.#init = init
    this.#early = early
  }

  get socket(): Socket {
    // Behind it comes what the socket reads.
    this.#memory.flush()
    if (this.#tls instanceof BareTls) return this.#tls.destroyed ? new Socket().destroy() : this.#socketOver(this.#tls)
    return this.#tls ?? (this.#carrier as Socket)
  }

  get isSecured(): boolean {
    return this.tls !== undefined
  }

  get isDestroyed(): boolean {
    return this.#isDestroyed
  }

  // In steps of whole writes, since nobody knows how many bytes of a record the carrier has taken: but all, if nothing is left of what TLSWrap has made
  // of a short one at once.
  get unsent(): number | undefined {
    return this.#isShortWrite && this.#raw?.writeQueueSize === 0 ? 0 : undefined
  }

  get taken(): number | undefined {
    return this.#raw && this.#raw.bytesWritten - this.#raw.writeQueueSize
  }

  open(events: TransportEvents): void {
    this.#events = events
    const carrier = this.#carrier
    const { handshake } = this.#init
    if (carrier instanceof Socket) {
      this.#raw = carrierHandle(carrier)
      carrier.on('error', (error) => this.failed(error))
      if (this.#raw === undefined) {
        // It was destroyed a moment before.
        carrier.on('close', () => this.wasClosed())
        return
      }
      const tls = createTlsSocket(carrier, handshake.options, this, lent.bytes)
      this.#tls = tls
      if (!handshake.isServer) sayHello(tls, handshake)
    } else {
      this.#raw = carrier
      this.#tls = new BareTls(carrier, handshake.options, this, lent.bytes)
    }
    if (handshake.readsName && this.#tls._handle !== null) rememberName(this.#tls._handle, handshake.options)
    // Before whatever else comes from the carrier, which is not read in this turn.
    for (const bytes of this.#early) if (!this.#isDestroyed) this.#tls._handle?.receive(bytes)
    this.#early = []
  }

  resume(): void {
    this.#isStopped = false
    if (!this.#isDestroyed && !this.#hasEnded) this.#tls?._read(0)
  }

  write(entries: WriteEntry[]): boolean {
    this.#isWriting = true
    this.#isHandedOver = false
    const tls = this.#tls as TlsSocketInternals | BareTls
    const { chunk, encoding, byteLength } = entries[0] as WriteEntry
    this.#isShortWrite = byteLength <= AT_ONCE
    if (entries.length > 1) tls._writev(Object.assign(entries, { allBuffers: entries.every(isBuffer) }), this.#onWritten)
    // A short copy need not be kept: TLSWrap encrypts it, or copies it, before it returns.
    else tls._write(isShort(chunk) ? short.copy(chunk) : chunk, encoding, this.#onWritten)
    this.#isWriting = false
    this.#isInFlight = !this.#isHandedOver
    if (this.#hasEnded) this.#breakIfStalled()
    return this.#isHandedOver
  }

  // For the same reason.
  pass(bytes: Uint8Array): boolean {
    return this.write([{ chunk: bytes, encoding: 'buffer', byteLength: bytes.byteLength }])
  }

  // Not inside a read callback, nor in a microtask or tick of one: SSL_shutdown would meet records that are not decrypted, and fail the session.
  end(): void {
    setImmediate(endNow, this)
  }

  destroy(): void {
    if (this.#isDestroyed) return
    this.#isDestroyed = true
    ;(this.#tls ?? (this.#carrier as Socket)).destroy()
  }

  reset(): void {
    if (this.#isDestroyed) return
    // While shutdown(2) is pending, libuv refuses to reset and the descriptor would be lost. All is said by then: a mere close will do.
    if (this.#raw !== undefined && !this.#isEnding) closeByReset(this.#raw)
    this.destroy()
  }

  /**
   * Gives the TLS socket up as an ordinary one, to whoever reads and writes it from now on: `unread` comes first from it. Nothing may be in
   * flight.
   */
  release(unread: readonly Uint8Array[]): Socket {
    const tls = this.socket as TlsSocketInternals
    this.#isDestroyed = true
    // One of its own stays the socket's, which is to read into it next.
    this.#memory.leave(false)
    disown(tls)
    for (const chunk of unread) tls.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength))
    if (this.#hasEnded) tls.push(null)
    return tls
  }

  // What the socket tells ---------------------------------------------------------------------------------------------

  arrived(length: number): boolean {
    return this.#memory.arrived(length)
  }

  received(buffer: ReadBuffer, length: number): boolean {
    if (this.#isDestroyed) return false
    this.#isStopped = !(this.#events as TransportEvents).received(buffer, length)
    return !this.#isStopped
  }

  pause(): void {
    const handle = this.#tls?._handle
    if (!handle || this.#isDestroyed) return
    handle.reading = false
    handle.readStop()
  }

  /**
   * TLSWrap tells of close_notify and of a mere FIN in the same way. But libuv stops reading at FIN before it tells of it, and goes on at
   * close_notify, which is told from within the read of its bytes.
   */
  sawEnd(): void {
    if (this.#isDestroyed || this.#hasEnded) return
    // Asked first: a reader that has no room for what was gathered stops reading behind the FIN.
    const isOrderly = this.#isStopped || this.#raw?.readStart() === EALREADY
    this.#memory.flush()
    this.#hasEnded = true
    const error = this.#writeError
    if (this.tls === undefined) this.failed(new Error('the peer ended the connection during the handshake'))
    else if (error === undefined || isOrderly) this.#events?.ended(isOrderly ? 'orderly' : 'cut')
    if (error !== undefined) this.#break(error)
    this.#breakIfStalled()
  }

  shookHands(): void {
    if (this.#isDestroyed) return
    const socket = this.#tls as TlsSocketInternals | BareTls
    let tls: ConnectionTls
    try {
      tls = this.#init.handshake.conclude(judged(socket))
    } catch (error) {
      // OpenSSL sends no alert for what it does not know: a reset is all that the peer can be told.
      this.reset()
      this.#broke(error as Error)
      return
    }
    socket.authorized = tls.isAuthorized
    this.tls = tls
    this.#init.secured()
  }

  failed(error: Error): void {
    this.#memory.flush()
    if (this.#isDestroyed) return
    this.destroy()
    this.#broke(error)
  }

  wasClosed(): void {
    this.#isDestroyed = true
    this.#memory.leave(true)
    // Of no consequence if it was told already.
    if (this.tls === undefined) this.#broke(new Error('the connection was closed'))
    this.#events?.released()
  }

  // It carries the bytes from now on.
  #socketOver(bare: BareTls): TlsSocketInternals {
    this.#memory.leave(true)
    const socket = createTlsSocket(bare, this.#init.handshake.options, this, lent.bytes)
    bare.surrender(socket)
    socket.authorized = this.tls?.isAuthorized === true
    this.#tls = socket
    // It reads on, whether our reader has room or not.
    this.#isStopped = false
    return socket
  }

  #written(error: Error | undefined): void {
    if (this.#isWriting && error === undefined) {
      this.#isHandedOver = true
      return
    }
    this.#isInFlight = false
    if (this.#isWriting) nextTick(() => this.#tell('written', error))
    else this.#tell('written', error)
    if (this.#endsBehindWrite && !this.#isInFlight) this.end()
  }

  // FIN would overtake close_notify while TLSWrap has something in flight: an empty write comes back behind it.
  endNow(): void {
    const tls = this.#tls
    if (this.#isDestroyed || tls === undefined || tls._handle === null) return
    // TLSWrap ends the process if it is given another write.
    this.#endsBehindWrite = this.#isInFlight
    if (this.#isInFlight) return
    const finished = (error?: Error | null): void => {
      this.#isEnding = false
      this.#tell('finished', error ?? undefined)
    }
    this.#isEnding = tls._handle.writeQueueSize === 0
    if (this.#isEnding) tls._final(finished)
    else tls._write('', 'latin1', (error) => (error ? finished(error) : this.end()))
  }

  #tell(news: 'written' | 'finished', error: Error | undefined): void {
    if (this.#isDestroyed) return
    if (error !== undefined) this.#writeError ??= this.#causeOf(error)
    this.#events?.[news](error && this.#writeError)
    // Nobody reads any more, who would notice that the peer is gone.
    if (error !== undefined && this.#hasEnded) this.#break(this.#writeError as Error)
  }

  // Whoever has not ended is told by what is read.
  #breakIfStalled(): void {
    if (!this.#isDestroyed) ifStalled(this.#tls?._handle, this.#raw, () => this.#break(systemErrorNamed('ECONNRESET', 'write')))
  }

  #break(error: Error): void {
    if (this.#isDestroyed) return
    this.reset()
    this.#events?.broken(error)
  }

  #broke(error: Error): void {
    if (this.tls !== undefined) this.#events?.broken(this.#causeOf(error))
    else this.#init.failed(handshakeError(this.#init.peer, error))
  }

  #causeOf(error: Error): Error {
    return isOfOpenSsl(error) ? recordError(this.#init.peer, error) : error
  }
}

function endNow(transport: TlsTransport): void {
  transport.endNow()
}

function judged(socket: TlsSocketInternals | BareTls): Judged {
  const { _handle: handle } = socket
  return { socket, chainError: () => handle?.verifyError() ?? undefined, askedFor: () => handle?.getServername() || undefined }
}

function isBuffer(entry: WriteEntry): boolean {
  return typeof entry.chunk !== 'string'
}
