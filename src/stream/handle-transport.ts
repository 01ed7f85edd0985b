// An accepted libuv handle as a transport, without a net.Socket: that would be most of what a short connection costs.
//
// A socket is made over the handle when somebody asks for it, and from then on carries the bytes.

import { Socket } from 'node:net'
import { nextTick } from '../async/platform.ts'
import { currentTurn } from '../async/turn.ts'
import { mayMistakeReset, readsOnceMore } from '../system/libuv-before-1-52.ts'
import { type HandleRequest, type StreamBinding, type StreamHandle, streamBinding } from '../system/node-internals.ts'
import { systemError } from '../system/system-error.ts'
import { createAcceptedSocket } from './net-socket.ts'
import { GATHER_SIZE, NetTransport } from './net-transport.ts'
import { lent, own, ownBuffers } from './read-buffer.ts'
import { isShort, pass, short } from './scratch.ts'
import type { Transport, TransportEvents, WriteEntry } from './transport.ts'

const { WriteWrap, ShutdownWrap, streamBaseState, kReadBytesOrError, kLastWriteWasAsync } = (streamBinding ?? {}) as StreamBinding
// The same on every system that libuv knows.
const UV_EOF = -4095

/** For the next write of any connection. */
let spare: HandleRequest | undefined

/** By which the callbacks of a handle find who owns it. */
const OWNER = Symbol('it-tcp.transport')

interface OwnedHandle extends StreamHandle {
  [OWNER]?: HandleTransport | undefined
}

/** An accepted connection, whose handle nobody else has. */
export class HandleTransport implements Transport {
  readonly gatherSize = GATHER_SIZE
  readonly mustEnd = false
  readonly taken = undefined
  readonly #handle: OwnedHandle
  readonly #keepAlive: number | false
  #events: TransportEvents | undefined
  /** What carries on once a socket was asked for. */
  #net: NetTransport | undefined
  #isEnded = false
  #lastReceived = 0
  #isDestroyed = false
  #isWriting = false
  #isEnding = false
  #wantsReset = false
  #writeError: Error | undefined
  #own: Uint8Array<ArrayBuffer> | undefined

  constructor(handle: StreamHandle, keepAlive: number | false) {
    this.#handle = handle
    this.#keepAlive = keepAlive
    this.#handle[OWNER] = this
    handle.onread = onRead
    handle.useUserBuffer(lent.bytes)
  }

  get isDestroyed(): boolean {
    return this.#net?.isDestroyed ?? this.#isDestroyed
  }

  get unsent(): number | undefined {
    if (this.#net !== undefined && !this.#isWriting) return this.#net.unsent
    return this.#writeError === undefined && !this.#isDestroyed ? this.#handle.writeQueueSize : undefined
  }

  get descriptor(): number {
    return this.#handle.fd
  }

  get socket(): Socket {
    if (this.#net === undefined && this.#isDestroyed) return new Socket().destroy()
    return this.net.socket
  }

  /** The same over a socket, from now on. */
  get net(): NetTransport {
    if (this.#net === undefined) {
      this.#leaveOwn(this.#own)
      this.#handle.readStop()
      this.#handle.reading = false
      this.#handle[OWNER] = undefined
      this.#net = new NetTransport(createAcceptedSocket(this.#handle, this.#keepAlive), this.#isEnded)
      if (this.#events !== undefined) this.#net.open(this.#events)
    }
    return this.#net
  }

  /** The handle, for whoever reads and writes it from now on; it may be read in this moment. Undefined once a socket carries. */
  surrender(): StreamHandle | undefined {
    if (this.#net !== undefined || this.#isDestroyed) return undefined
    this.#isDestroyed = true
    this.#leaveOwn(this.#own)
    this.#handle[OWNER] = undefined
    return this.#handle
  }

  open(events: TransportEvents): void {
    this.#events = events
    if (this.#net !== undefined) this.#net.open(events)
    else this.resume()
  }

  resume(): void {
    if (this.#net !== undefined) {
      this.#net.resume()
      return
    }
    if (this.#isDestroyed || this.#isEnded || this.#handle.reading === true) return
    this.#handle.reading = true
    const status = this.#handle.readStart()
    if (status !== 0) nextTick(() => this.#fail(systemError(status, 'read')))
  }

  write(entries: WriteEntry[]): boolean {
    if (this.#net !== undefined) return this.#net.write(entries)
    const request = spare ?? new WriteWrap()
    const status = dispatch(this.#handle, request, entries)
    // A write that is done at once has not touched its request.
    const isDone = status === 0 && streamBaseState[kLastWriteWasAsync] === 0
    spare = isDone ? request : undefined
    if (isDone) return true
    this.#isWriting = true
    request.oncomplete = (outcome) => this.#written(outcome)
    if (status !== 0) {
      this.#writeError ??= systemError(status, 'write')
      // Not from inside the command.
      nextTick(() => this.#written(status))
    }
    return false
  }

  pass(bytes: Uint8Array): boolean | undefined {
    return pass(this, bytes)
  }

  end(): void {
    if (this.#net !== undefined) {
      this.#net.end()
      return
    }
    const request = new ShutdownWrap()
    this.#isEnding = true
    request.oncomplete = (status) => this.#finished(status)
    const status = this.#handle.shutdown(request)
    // 1: done already.
    if (status !== 0) nextTick(() => this.#finished(Math.min(status, 0)))
  }

  destroy(): void {
    if (this.#net !== undefined) this.#net.destroy()
    else if (!this.#isDestroyed) this.#close()
  }

  reset(): void {
    // While shutdown(2) is pending, libuv refuses to reset and the descriptor would be lost: wait for it.
    if (this.#isEnding) {
      this.#wantsReset = true
    } else if (this.#net !== undefined) {
      this.#net.reset()
    } else if (!this.#isDestroyed) {
      if (this.#handle.reset?.(() => this.#released()) === 0) this.#isDestroyed = true
      else this.#close()
    }
  }

  release(unread: readonly Uint8Array[]): Socket {
    return this.net.release(unread)
  }

  // What the handle tells ---------------------------------------------------------------------------------------------

  /** So many bytes arrived, or what kept more from arriving. Gives the memory for the next ones, if it is not the same. */
  read(length: number): Uint8Array | undefined {
    if (length > 0) return this.#received(length)
    if (length === UV_EOF) this.#endSeen()
    else if (length < 0) this.#fail(systemError(length, 'read'))
    return undefined
  }

  #received(length: number): Uint8Array | undefined {
    if (mayMistakeReset) this.#lastReceived = currentTurn()
    if (this.#isDestroyed) return undefined
    const had = this.#own
    const buffer = had === undefined ? lent.refill() : own(had)
    const goesOn = (this.#events as TransportEvents).received(buffer, length)
    // Whoever was told may have asked for the socket, or given all up.
    if (this.#net !== undefined || this.#isDestroyed) return undefined
    if (!goesOn) {
      this.#handle.reading = false
      this.#handle.readStop()
    }
    const next = goesOn && buffer.isKept && length === buffer.bytes.byteLength ? ownBuffers.take(had !== undefined) : undefined
    if (next === undefined && had === undefined) return undefined
    if (next === undefined) this.#leaveOwn(buffer.isGiven ? undefined : had)
    else this.#own = next
    return next ?? lent.bytes
  }

  #endSeen(): void {
    if (this.#isDestroyed) return
    const isFirst = !this.#isEnded
    this.#isEnded = true
    if (this.#writeError !== undefined) this.#break(this.#writeError)
    else if (!(mayMistakeReset && isFirst && readsOnceMore(this.#handle, this.#lastReceived))) {
      this.#events?.ended('orderly')
    }
  }

  #written(status: number): void {
    this.#isWriting = false
    if (this.isDestroyed) return
    this.#tell('written', status === 0 ? undefined : systemError(status, 'write'))
  }

  #finished(status: number): void {
    this.#isEnding = false
    if (this.#wantsReset) this.reset()
    else if (!this.isDestroyed) this.#tell('finished', status === 0 ? undefined : systemError(status, 'shutdown'))
  }

  #tell(news: 'written' | 'finished', error: Error | undefined): void {
    // An end that is read after a failed write is no end.
    if (error !== undefined) this.#writeError ??= error
    this.#events?.[news](error === undefined ? undefined : this.#writeError)
    if (error !== undefined && this.#isEnded) this.#break(this.#writeError as Error)
  }

  #fail(error: Error): void {
    if (this.#isDestroyed) return
    this.#close()
    this.#events?.broken(this.#writeError ?? error)
  }

  #break(error: Error): void {
    if (this.isDestroyed) return
    this.reset()
    this.#events?.broken(error)
  }

  #close(): void {
    this.#isDestroyed = true
    this.#handle.close(() => this.#released())
  }

  #released(): void {
    this.#leaveOwn(this.#own)
    this.#events?.released()
  }

  #leaveOwn(unused?: Uint8Array<ArrayBuffer>): void {
    if (this.#own === undefined) return
    this.#own = undefined
    ownBuffers.leave(unused)
  }
}

// What it returns is read into next. To call useUserBuffer() again instead would take memory until the handle is closed.
function onRead(this: OwnedHandle): Uint8Array | undefined {
  return this[OWNER]?.read(streamBaseState[kReadBytesOrError] as number)
}

function dispatch(handle: StreamHandle, request: HandleRequest, entries: readonly WriteEntry[]): number {
  const { chunk, encoding } = entries[0] as WriteEntry
  if (entries.length > 1) {
    const allBuffers = entries.every((entry) => typeof entry.chunk !== 'string')
    const chunks = allBuffers ? entries.map((entry) => entry.chunk) : entries.flatMap((entry) => [entry.chunk, entry.encoding])
    const status = handle.writev(request, chunks, allBuffers)
    if (streamBaseState[kLastWriteWasAsync] !== 0) request.buffer = chunks
    return status
  }
  if (typeof chunk === 'string') {
    return encoding === 'latin1' ? handle.writeLatin1String(request, chunk) : handle.writeUtf8String(request, chunk)
  }
  const bytes = isShort(chunk) ? short.copy(chunk) : chunk
  const status = handle.writeBuffer(request, bytes)
  if (streamBaseState[kLastWriteWasAsync] !== 0) {
    request.buffer = bytes
    if (bytes !== chunk) short.keep()
  }
  return status
}
