// All that is used here of Node's TLSSocket and not documented there.
//
// TLSSocket takes `onread`, which saves an allocation for each record, only if it is given no socket: it then believes that it is to dial.
// So it is given none, and told what it is over when it asks for a handle to wrap. The names below are the same from Node.js 20 to 26; where one
// is missing, TLS runs over a stream of ours instead, by documented members only, and slower.

import type { OnReadOpts, Socket } from 'node:net'
import type { TLSSocket, TLSSocketOptions } from 'node:tls'
import type { BareTls } from './bare-tls.ts'
import { type NativeTls, readNextRecordInto, type TlsSocketOwner, takeNextBuffer, type WriteCallback } from './native-tls.ts'
import { nodeTls } from './node-tls.ts'

/** The native side of the socket under it. */
export interface CarrierHandle {
  /** Bytes that were written to it so far. */
  readonly bytesWritten: number
  /** Those of them that the system has not taken. */
  readonly writeQueueSize: number
  /** Starts to read: 0, or EALREADY if it does. */
  readStart(): number
  /** Closes with a RST; TCP only. Gives 0 if it does. */
  reset?(callback?: () => void): number
  close(callback?: () => void): void
}

/** A TLSSocket with the members that its implementers and Node itself use. */
export interface TlsSocketInternals extends TLSSocket {
  readonly _handle: NativeTls | null
  readonly _readableState: { autoDestroy: boolean }
  readonly _writableState: { autoDestroy: boolean }
  connecting: boolean
  _tlsOptions: { carrier?: Socket | BareTls }
  /** From now on every error is an 'error'. */
  _releaseControl(): void
  /** Names the host to ask for. */
  setServername(name: string): void
  /** Sends the ClientHello. */
  _start(): void
  /** Notes what the handshake found, when it is done. */
  _finishInit(): void
  _wrapHandle(wrap: Socket | null, handle: object | null, isActive: boolean): object
  _read(size: number): void
  _write(chunk: Uint8Array | string, encoding: string, callback: WriteCallback): void
  _writev(chunks: { chunk: Uint8Array | string; encoding: string }[] & { allBuffers?: boolean }, callback: WriteCallback): void
  _final(callback: WriteCallback): void
}

/** What Node.js says of the options that it sets itself: see the net.Socket of an accepted connection. */
const SET_BY_NODE = { emitClose: false, autoDestroy: true, decodeStrings: false }

type TlsSocketClass = new (
  carrier: Socket | BareTls,
  options: TLSSocketOptions,
  owner: TlsSocketOwner,
  readInto: Uint8Array
) => TlsSocketInternals

let Class: TlsSocketClass | undefined

/** TLS over a connected socket, from which nobody else may read, and with nothing in flight; or a socket for TLS that has none. */
export function createTlsSocket(
  carrier: Socket | BareTls,
  options: TLSSocketOptions,
  owner: TlsSocketOwner,
  readInto: Uint8Array
): TlsSocketInternals {
  Class ??= defineTlsSocket()
  return new Class(carrier, options, owner, readInto)
}

/** Makes it an ordinary TLSSocket, which nobody reads; its owner is told nothing any more. */
export function disown(socket: TlsSocketInternals): void {
  const owned = socket as Owned
  owned[OWNER] = undefined
  owned.off('secure', onSecure).off('error', onError).off('close', onClose)
  owned._readableState.autoDestroy = true
  owned._writableState.autoDestroy = true
  owned.readableFlowing = null
}

/** The native side of a socket; undefined where there is none, as on Bun, or it is closed. */
export function carrierHandle(socket: Socket): CarrierHandle | undefined {
  const handle = (socket as unknown as { _handle?: Partial<CarrierHandle> | null })._handle
  return typeof handle?.readStart === 'function' && typeof handle.close === 'function' ? (handle as CarrierHandle) : undefined
}

/** Whether TLS can be spoken over the very handle of a socket. Deno has handles too, of which `readStart` always gives 0. */
export function canWrapHandles(): boolean {
  canWrap ??= findWrapHandle()
  return canWrap
}

let canWrap: boolean | undefined

function findWrapHandle(): boolean {
  const isPlainNode = process.versions.bun === undefined && process.versions.deno === undefined
  return isPlainNode && typeof (nodeTls().TLSSocket.prototype as Partial<TlsSocketInternals>)._wrapHandle === 'function'
}

/**
 * Sees to it that the next close of `handle` is a RST, where there is one; a unix socket is just closed. Not while a shutdown is under way: libuv refuses
 * then, Node.js takes the handle for closed, and the descriptor is lost.
 */
export function closeByReset(handle: CarrierHandle): void {
  if (handle.reset === undefined) return
  const { close } = handle
  handle.close = (callback) => {
    if (handle.reset?.(callback) !== 0) close.call(handle, callback)
  }
}

const OWNER = Symbol('it-tcp.owner')

interface Owned extends Omit<TlsSocketInternals, 'readableFlowing'> {
  [OWNER]: TlsSocketOwner | undefined
  readableFlowing: boolean | null
}

function defineTlsSocket(): TlsSocketClass {
  const { TLSSocket } = nodeTls()
  const wrapHandle = (TLSSocket.prototype as TlsSocketInternals)._wrapHandle

  class CarriedTlsSocket extends TLSSocket {
    [OWNER]: TlsSocketOwner | undefined

    constructor(carrier: Socket | BareTls, options: TLSSocketOptions, owner: TlsSocketOwner, readInto: Uint8Array) {
      readNextRecordInto(readInto)
      super(undefined as never, { ...options, carrier, allowHalfOpen: true, onread, ...SET_BY_NODE } as TLSSocketOptions)
      this[OWNER] = owner
      const self = this as unknown as TlsSocketInternals
      self.connecting = false
      self._releaseControl()
      // When it is done is for its owner to say: half-open streams live on.
      self._readableState.autoDestroy = false
      self._writableState.autoDestroy = false
      if (owner.isSecured) self._finishInit()
      this.on('secure', onSecure).on('error', onError).on('close', onClose)
    }

    // Called by the constructor of TLSSocket.
    _wrapHandle(wrap: Socket | null, handle: object | null, isActive: boolean): object {
      const self = this as unknown as TlsSocketInternals
      const { carrier } = self._tlsOptions
      if (carrier === undefined) return wrapHandle.call(self, wrap, handle, isActive)
      if ('raw' in carrier) return carrier._handle as object
      return wrapHandle.call(self, carrier, (carrier as unknown as { _handle: object })._handle, false)
    }

    override push(chunk: Uint8Array | null): boolean {
      const { [OWNER]: owner } = this
      if (owner === undefined) return super.push(chunk)
      // Bytes come by onread.
      owner.sawEnd()
      return false
    }
  }

  return CarriedTlsSocket as unknown as TlsSocketClass
}

const onread: OnReadOpts = { buffer: takeNextBuffer as () => Uint8Array, callback: onRead }

// Shared by all sockets: a closure per connection and event would be memory for every idle one.

function onRead(this: unknown, length: number, buffer: Uint8Array): boolean {
  const { [OWNER]: owner } = this as Owned
  // A socket that was given up has stream buffers like any other.
  return owner === undefined ? (this as Owned).push(Buffer.from(buffer.slice(0, length).buffer)) : owner.arrived(length)
}

function onSecure(this: unknown): void {
  ;(this as Owned)[OWNER]?.shookHands()
}

function onError(this: unknown, error: Error): void {
  ;(this as Owned)[OWNER]?.failed(error)
}

function onClose(this: unknown): void {
  ;(this as Owned)[OWNER]?.wasClosed()
}
