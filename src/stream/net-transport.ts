// The seam to a node:net socket: pull reads, writes with completion, FIN, RST, closed. The only place with socket events.
//
// A connection's bytes never pass through the socket's stream buffers. They would cost time, an error would discard
// what is in them, and a failed write would destroy the socket with unread bytes in the kernel. So this file uses the
// socket as its implementer does, by the members that every Duplex has: bytes come in through push(), which is replaced on
// the instance, and leave through _write(), _writev() and _final().

import { type OnReadOpts, Socket } from 'node:net'
import { currentTurn } from '../async/turn.ts'
import { keepAliveSeconds } from '../options.ts'

/** What the owner of a {@link ByteSocket} is told. Every call comes from the event loop, none from inside a method called. */
export interface SocketEvents {
  /**
   * `length` bytes arrived at the start of `bytes`. If `lent`, they are overwritten after the call and must be copied.
   * Returns whether to go on reading; if not, `resume()` does.
   */
  received(bytes: Uint8Array, length: number, lent: boolean): boolean
  /** Whether bytes that arrive now are kept as they are, so that lent ones would be copied. */
  readonly keepsChunks: boolean
  /** The peer's FIN arrived: all bytes have been received. */
  peerEnded(): void
  /** The connection broke: no byte will be received any more, and the descriptor is closed or about to be. */
  broken(cause: Error): void
  /** The descriptor is closed. The last call. */
  released(): void
}

/** Called when what was written is with the operating system, or could not be handed over. May be called before the write returns. */
export type WriteCallback = (error?: Error | null) => void

/** How what is written becomes bytes: as Node.js streams name it for their implementers. */
export type WriteEncoding = 'buffer' | 'utf8' | 'latin1'

/** One buffer or string of a gathered write; the form in which Node.js streams pass them on. */
export interface WriteEntry {
  readonly chunk: Uint8Array | string
  readonly encoding: WriteEncoding
}

// What this file uses of a libuv handle (net.Socket#_handle). Undocumented, the same in Node.js 20 to 26; every use is
// conditional, since Bun and Deno have other handles or none.
interface Handle {
  readonly writeQueueSize?: number
  readStart?(): number
}

// The members of a Duplex that its implementer has, and the internal parts of a net.Socket, as used here.
interface SocketInternals {
  _handle?: Handle | null
  _readableState?: { autoDestroy?: boolean }
  _writableState?: { autoDestroy?: boolean }
  push(chunk: Uint8Array | null): boolean
  _read(size: number): void
  _write(chunk: Uint8Array | string, encoding: WriteEncoding, callback: WriteCallback): void
  _writev(chunks: WriteEntry[] & { allBuffers?: boolean }, callback: WriteCallback): void
  _final(callback: WriteCallback): void
  [OWNER]?: ByteSocket
}

const OWNER = Symbol('it-tcp.owner')

const isPlainNode = process.versions.bun === undefined && process.versions.deno === undefined

// All connections read into one buffer, one after the other: Node.js would otherwise allocate 64 KiB for every read. What is kept of it has to be
// copied, which is dear in bulk: a connection that fills it reads into a larger buffer of its own next, hands that over and takes another, until
// one is not filled. The static buffer of `onread`, and the function that gives the next one, are documented for net.connect(); that the
// constructor takes them for an accepted handle too is not, and is so since 12. Without it, and with IT_TCP_READ=push, Node.js allocates and
// push() gets its buffers.
const readBuffer = new Uint8Array(65_536)
const OWN_BUFFER_SIZE = 131_072
// A bound for connections that fall silent just after a full buffer: they keep the next one. Others copy meanwhile.
const MAX_OWN_BUFFERS = 64
let ownBuffers = 0
let spare: Uint8Array | undefined
// What the socket that is being read reads into next; undefined for the buffer that it has. A socket that is new begins with the shared one.
let nextBuffer: Uint8Array | undefined = readBuffer
const onread: OnReadOpts | undefined =
  isPlainNode && process.env.IT_TCP_READ !== 'push'
    ? {
        callback(this: unknown, length: number): boolean {
          nextBuffer = undefined
          return (this as SocketInternals)[OWNER]?.arrived(length) ?? false
        },
        // Called right after the callback.
        buffer(): Uint8Array {
          const next = nextBuffer
          nextBuffer = readBuffer
          return next as Uint8Array
        }
      }
    : undefined

// libuv before 1.52 reports data and a RST that arrive before one poll as data and an end (libuv/libuv#4997). An end in the turn
// of the last data may be such a one: reading once more tells the truth.
const [uvMajor = 0, uvMinor = 0] = (process.versions.uv ?? '').split('.').map(Number)
const mayMistakeReset = isPlainNode && uvMajor === 1 && uvMinor < 52

// What the constructor of net.Socket sets in its copy of the options, whatever they were. Where they are there already the copy keeps its
// shape; on Node.js 20 to give each copy a new one is most of what a net.Socket costs: 4 of 5 µs.
const SET_BY_NODE = { emitClose: false, autoDestroy: true, decodeStrings: false }

/** A socket that is not connected yet, for a {@link ByteSocket} to take over once it is. */
export function createDialSocket(): Socket {
  // Paused, since Node.js would start to read when it is connected, before anyone has taken it over.
  return new Socket({ allowHalfOpen: true, ...(onread !== undefined && { onread }), ...SET_BY_NODE }).pause()
}

/** A socket over an accepted libuv handle that has TCP_NODELAY on, and keep-alive if `keepAlive` is not false. */
export function createAcceptedSocket(handle: object, keepAlive: number | false): Socket {
  // `handle`, `manualStart` are not documented; in use since Node.js 0.10. `noDelay` and `keepAlive` only note what holds for
  // the handle: without them setNoDelay(false) would do nothing.
  const seconds = keepAliveSeconds(keepAlive)
  const options = {
    handle,
    manualStart: true,
    allowHalfOpen: true,
    noDelay: true,
    keepAlive: seconds !== undefined,
    keepAliveInitialDelay: (seconds ?? 0) * 1000,
    onread,
    ...SET_BY_NODE
  }
  return new Socket(options as object)
}

/** Sets TCP keep-alive as the option says. */
export function setKeepAlive(socket: Socket, keepAlive: number | false): void {
  const seconds = keepAliveSeconds(keepAlive)
  if (seconds !== undefined) socket.setKeepAlive(true, seconds * 1000)
}

/** A connected socket as bytes in, bytes out, FIN, RST and closed. */
export class ByteSocket {
  readonly socket: Socket
  readonly #events: SocketEvents
  #endsSeen = 0
  #lastReceived = 0
  #isDestroyed = false
  #isShuttingDown = false
  #wantsReset = false
  #writeError: Error | undefined
  #ownBuffer: Uint8Array | undefined

  constructor(socket: Socket, events: SocketEvents) {
    this.socket = socket
    this.#events = events
    const internals = socket as unknown as SocketInternals
    internals[OWNER] = this
    internals.push = push
    // The socket's own idea of when it is done is not ours: half-open sockets live, and failed writes leave the reader alone.
    if (internals._readableState !== undefined) internals._readableState.autoDestroy = false
    if (internals._writableState !== undefined) internals._writableState.autoDestroy = false
    socket.on('error', onError)
    socket.on('close', onClose)
  }

  /** Whether the descriptor is given up: closed, or in the act. */
  get isDestroyed(): boolean {
    return this.#isDestroyed || this.socket.destroyed
  }

  /** Bytes of the write in flight that the operating system has not taken yet, as far as it is known. */
  get unsent(): number | undefined {
    return (this.socket as unknown as SocketInternals)._handle?.writeQueueSize
  }

  /** Starts reading, or goes on after `received` returned false. */
  resume(): void {
    if (!this.#isDestroyed && this.#endsSeen === 0) (this.socket as unknown as SocketInternals)._read(0)
  }

  /** Hands one buffer or string to the operating system. One write at a time: the next goes after the callback. */
  write(data: Uint8Array | string, encoding: WriteEncoding, callback: WriteCallback): void {
    const internals = this.socket as unknown as SocketInternals
    internals._write(data, encoding, callback)
  }

  /** Hands several over as one write. */
  writev(entries: WriteEntry[], allBuffers: boolean, callback: WriteCallback): void {
    const internals = this.socket as unknown as SocketInternals
    internals._writev(Object.assign(entries, { allBuffers }), callback)
  }

  /** Tells the socket that a write failed: an end that is read after that is no end. */
  writeFailed(error: Error): void {
    this.#writeError ??= error
    if (this.#endsSeen > 0) this.#break(this.#writeError)
  }

  /** Sends FIN. */
  shutdown(callback: WriteCallback): void {
    this.#isShuttingDown = true
    ;(this.socket as unknown as SocketInternals)._final((error) => {
      this.#isShuttingDown = false
      if (this.#wantsReset) this.reset()
      else if (!this.#isDestroyed) callback(error)
    })
  }

  /** Closes the descriptor. */
  destroy(): void {
    if (this.#isDestroyed) return
    this.#isDestroyed = true
    this.socket.destroy()
  }

  /** Closes the descriptor with a RST on TCP; a unix socket is just closed. */
  reset(): void {
    if (this.#isDestroyed) return
    // While shutdown(2) is pending, libuv refuses to reset and the descriptor would be lost: wait for it.
    if (this.#isShuttingDown) {
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

  /** Called when `length` bytes were read into the buffer that this socket has. Chooses the one for the next read. */
  arrived(length: number): boolean {
    const own = this.#ownBuffer
    const buffer = own ?? readBuffer
    // Half of a buffer may go to waste; less is copied.
    const isKept = length >= buffer.byteLength / 2 && this.#events.keepsChunks
    const goesOn = this.received(buffer, length, own === undefined || !isKept)
    if (goesOn && isKept && length === buffer.byteLength) this.#takeOwnBuffer()
    else if (own !== undefined) this.#leaveOwnBuffer(isKept ? undefined : own)
    return goesOn
  }

  #takeOwnBuffer(): void {
    if (this.#ownBuffer === undefined) {
      if (ownBuffers === MAX_OWN_BUFFERS) return
      ownBuffers++
    }
    // Not zeroed first: only what was read into it is seen.
    this.#ownBuffer = nextBuffer = spare ?? new Uint8Array(Buffer.allocUnsafeSlow(OWN_BUFFER_SIZE).buffer)
    spare = undefined
  }

  #leaveOwnBuffer(unused: Uint8Array | undefined): void {
    this.#ownBuffer = undefined
    ownBuffers--
    nextBuffer = readBuffer
    spare ??= unused
  }

  received(bytes: Uint8Array, length: number, lent: boolean): boolean {
    if (mayMistakeReset) this.#lastReceived = currentTurn()
    return !this.#isDestroyed && this.#events.received(bytes, length, lent)
  }

  ended(): void {
    if (this.#isDestroyed) return
    this.#endsSeen++
    if (this.#writeError !== undefined) {
      this.#break(this.#writeError)
      return
    }
    if (mayMistakeReset && this.#endsSeen === 1 && this.#lastReceived === currentTurn()) {
      // libuv stops reading at an end, and Node.js does not know it: only the handle itself can be started again.
      const handle = (this.socket as unknown as SocketInternals)._handle
      if (handle?.readStart?.() === 0) return
    }
    this.#events.peerEnded()
  }

  failed(error: Error): void {
    if (this.#isDestroyed) return
    this.#isDestroyed = true
    this.#events.broken(this.#writeError ?? error)
  }

  released(): void {
    this.#isDestroyed = true
    if (this.#ownBuffer !== undefined) this.#leaveOwnBuffer(this.#ownBuffer)
    this.#events.released()
  }

  #break(error: Error): void {
    if (this.#isDestroyed) return
    // On Deno a write to a peer that has ended may fail though the peer still reads: it must not take a part for the whole.
    this.reset()
    this.#events.broken(error)
  }
}

// Shared by all sockets: a closure per connection and event would be memory for every idle one.

function push(this: SocketInternals, chunk: Uint8Array | null): boolean {
  const owner = this[OWNER]
  if (owner === undefined) return false
  if (chunk !== null) return owner.received(chunk, chunk.byteLength, false)
  owner.ended()
  return false
}

function onError(this: Socket, error: Error): void {
  ;(this as unknown as SocketInternals)[OWNER]?.failed(error)
}

function onClose(this: Socket): void {
  ;(this as unknown as SocketInternals)[OWNER]?.released()
}
