// A node:net socket as a transport: the only place with socket events.
//
// A connection's bytes never pass through the socket's stream buffers. They would cost time, an error would discard
// what is in them, and a failed write would destroy the socket with unread bytes in the kernel. So this file uses the
// socket as its implementer does, by the members that every Duplex has: bytes come in through push(), which is replaced on
// the instance, and leave through _write(), _writev() and _final().

import type { Socket } from 'node:net'
import { nextTick } from '../async/platform.ts'
import { currentTurn } from '../async/turn.ts'
import { mayMistakeReset, readsOnceMore } from '../system/libuv-before-1-52.ts'
import { handleOf } from '../system/node-internals.ts'
import { unguard } from './guarded-socket.ts'
import { OWNER, readNextInto, type SocketInternals, type WriteCallback } from './net-socket.ts'
import { handedOver, lent, own, ownBuffers, type ReadBuffer } from './read-buffer.ts'
import { isShort, pass, short } from './scratch.ts'
import type { Transport, TransportEvents, WriteEntry } from './transport.ts'

/** Bytes handed over in one system call at most: enough to keep the kernel busy, and a bound. */
export const GATHER_SIZE = 524_288

/** A connected socket. */
export class NetTransport implements Transport {
  readonly socket: Socket
  readonly gatherSize = GATHER_SIZE
  readonly mustEnd = false
  readonly taken = undefined
  #events: TransportEvents | undefined
  #endsSeen = 0
  #lastReceived = 0
  #isDestroyed = false
  #isEnding = false
  #wantsReset = false
  // Whether the write that is being handed over is so already.
  #isWriting = false
  #isHandedOver = false
  #writeError: Error | undefined
  #own: Uint8Array<ArrayBuffer> | undefined

  /** `isEnded` if the peer's end was seen before. */
  constructor(socket: Socket, isEnded = false) {
    if (isEnded) this.#endsSeen = 1
    this.socket = socket
    const internals = socket as unknown as SocketInternals
    internals[OWNER] = this
    internals.push = push
    // The socket's own idea of when it is done is not ours: half-open sockets live, and failed writes leave the reader alone.
    if (internals._readableState !== undefined) internals._readableState.autoDestroy = false
    if (internals._writableState !== undefined) internals._writableState.autoDestroy = false
    socket.on('error', onError)
    socket.on('close', onClose)
  }

  get isDestroyed(): boolean {
    return this.#isDestroyed || this.socket.destroyed
  }

  get unsent(): number | undefined {
    // Of a write that failed libuv has forgotten what is left.
    return this.#writeError === undefined ? handleOf(this.socket)?.writeQueueSize : undefined
  }

  open(events: TransportEvents): void {
    this.#events = events
    this.resume()
  }

  resume(): void {
    if (!this.#isDestroyed && this.#endsSeen === 0) (this.socket as unknown as SocketInternals)._read(0)
  }

  write(entries: WriteEntry[]): boolean {
    const internals = this.socket as unknown as SocketInternals
    this.#isWriting = true
    this.#isHandedOver = false
    // Made for each write: a callback that is kept would be memory for every idle connection.
    const callback: WriteCallback = (error) => this.#written(error ?? undefined)
    const { chunk, encoding } = entries[0] as WriteEntry
    if (entries.length > 1) {
      internals._writev(Object.assign(entries, { allBuffers: entries.every(isBuffer) }), callback)
    } else if (isShort(chunk)) {
      internals._write(short.copy(chunk), encoding, callback)
      if (!this.#isHandedOver) short.keep()
    } else {
      internals._write(chunk, encoding, callback)
    }
    this.#isWriting = false
    return this.#isHandedOver
  }

  pass(bytes: Uint8Array): boolean | undefined {
    return pass(this, bytes)
  }

  end(): void {
    this.#isEnding = true
    ;(this.socket as unknown as SocketInternals)._final((error) => {
      this.#isEnding = false
      if (this.#wantsReset) this.reset()
      else if (!this.#isDestroyed) this.#tell('finished', error ?? undefined)
    })
  }

  destroy(): void {
    if (this.#isDestroyed) return
    this.#isDestroyed = true
    this.socket.destroy()
  }

  /** A RST on TCP; a unix socket is just closed. */
  reset(): void {
    if (this.#isDestroyed) return
    // While shutdown(2) is pending, libuv refuses to reset and the descriptor would be lost: wait for it.
    if (this.#isEnding) {
      this.#wantsReset = true
      return
    }
    this.#isDestroyed = true
    try {
      this.socket.resetAndDestroy()
    } catch {
      // A unix socket: ERR_INVALID_HANDLE_TYPE.
      this.socket.destroy()
    }
  }

  release(unread: readonly Uint8Array[]): Socket {
    const socket = this.carry()
    const internals = socket as unknown as SocketInternals
    delete internals[OWNER]
    delete (internals as Partial<SocketInternals>).push
    for (const chunk of unread) socket.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength))
    if (this.#endsSeen > 0) socket.push(null)
    return socket
  }

  /** Gives the socket up to whoever uses its handle, and tells nothing of it any more. Nothing is deleted, which would make the rest of it slow. */
  carry(): Socket {
    const internals = this.socket as unknown as SocketInternals
    this.#isDestroyed = true
    unguard(this.socket)
    // One of its own stays the socket's, which is to read into it next.
    this.#leaveOwn()
    internals[OWNER] = undefined
    ;(this.socket as { readableFlowing: boolean | null }).readableFlowing = null
    // Neither is it paused by hand, as one that was dialled is until it is taken over: a 'data' listener starts it.
    if (internals._readableState !== undefined) Object.assign(internals._readableState, { autoDestroy: true, paused: false })
    if (internals._writableState !== undefined) internals._writableState.autoDestroy = true
    return this.socket.off('error', onError).off('close', onClose)
  }

  // What the socket tells ---------------------------------------------------------------------------------------------

  /** `length` bytes were read into the buffer that this socket has. Chooses the one for the next read. */
  arrived(length: number): boolean {
    const had = this.#own
    const buffer = had === undefined ? lent.refill() : own(had)
    const goesOn = this.received(buffer, length)
    if (goesOn && buffer.isKept && length === buffer.bytes.byteLength) {
      const next = ownBuffers.take(had !== undefined)
      if (next !== undefined) {
        this.#own = next
        readNextInto(next)
      }
    } else if (had !== undefined) {
      this.#leaveOwn(buffer.isGiven ? undefined : had)
      readNextInto(lent.bytes)
    }
    return goesOn
  }

  received(buffer: ReadBuffer, length: number): boolean {
    if (mayMistakeReset) this.#lastReceived = currentTurn()
    return !this.#isDestroyed && (this.#events as TransportEvents).received(buffer, length)
  }

  ended(): void {
    if (this.#isDestroyed) return
    this.#endsSeen++
    if (this.#writeError !== undefined) {
      this.#break(this.#writeError)
      return
    }
    if (mayMistakeReset && this.#endsSeen === 1 && readsOnceMore(handleOf(this.socket), this.#lastReceived)) return
    this.#events?.ended('orderly')
  }

  failed(error: Error): void {
    if (this.#isDestroyed) return
    this.#isDestroyed = true
    this.#events?.broken(this.#writeError ?? error)
  }

  released(): void {
    this.#isDestroyed = true
    this.#leaveOwn(this.#own)
    this.#events?.released()
  }

  // -------------------------------------------------------------------------------------------------------------------

  #written(error: Error | undefined): void {
    if (!this.#isWriting) {
      this.#tell('written', error)
    } else if (error === undefined) {
      this.#isHandedOver = true
    } else {
      this.#writeError ??= error
      // Not from inside the command.
      nextTick(() => this.#tell('written', error))
    }
  }

  #tell(news: 'written' | 'finished', error: Error | undefined): void {
    // An end that is read after a failed write is no end.
    if (error !== undefined) this.#writeError ??= this.socket.errored ?? error
    this.#events?.[news](error === undefined ? undefined : this.#writeError)
    if (error !== undefined && this.#endsSeen > 0) this.#break(this.#writeError as Error)
  }

  #break(error: Error): void {
    // Nor of a write that was cancelled since somebody destroyed the socket.
    if (this.isDestroyed) return
    // On Deno a write to a peer that has ended may fail though the peer still reads: it must not take a part for the whole.
    this.reset()
    this.#events?.broken(error)
  }

  #leaveOwn(unused?: Uint8Array<ArrayBuffer>): void {
    if (this.#own === undefined) return
    this.#own = undefined
    ownBuffers.leave(unused)
  }
}

function isBuffer(entry: WriteEntry): boolean {
  return typeof entry.chunk !== 'string'
}

// Shared by all sockets: a closure per connection and event would be memory for every idle one.

function push(this: SocketInternals, chunk: Uint8Array | null): boolean {
  const owner = this[OWNER] as NetTransport | undefined
  if (owner === undefined) return false
  if (chunk !== null) return owner.received(handedOver(chunk), chunk.byteLength)
  owner.ended()
  return false
}

function onError(this: Socket, error: Error): void {
  ;((this as unknown as SocketInternals)[OWNER] as NetTransport | undefined)?.failed(error)
}

function onClose(this: Socket): void {
  ;((this as unknown as SocketInternals)[OWNER] as NetTransport | undefined)?.released()
}
