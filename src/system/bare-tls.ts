// TLS of an accepted client directly over its libuv handle.
//
// Two of Node's sockets and their listeners would be most of what a short connection costs beside its cryptography. This does with the native side
// what a TLSSocket does, and nothing else. Where a name is missing, and where somebody wants what only a TLSSocket has (the keys in a file, a trace),
// there is a TLSSocket for each client.

import type { TLSSocketOptions } from 'node:tls'
import { doNothing } from '../async/do-nothing.ts'
import { nextTick } from '../async/platform.ts'
import { EALREADY, type NativeTls, type TlsSocketOwner, takeNextBuffer, type WriteCallback } from './native-tls.ts'
import { type HandleRequest, type StreamBinding, type StreamHandle, streamBinding } from './node-internals.ts'
import { systemError } from './system-error.ts'

const { WriteWrap, ShutdownWrap, streamBaseState, kReadBytesOrError } = (streamBinding ?? {}) as StreamBinding
// The same on every system that libuv knows.
const UV_EOF = -4095

/** The native side of a TLS socket, as it is used here. */
interface TlsWrap extends NativeTls, Omit<StreamHandle, 'writeQueueSize'> {
  /** The handle below, and the socket of it; for Node.js's own sockets. */
  _parent?: object
  _parentWrap?: null
  _secureContext?: object
  onhandshakedone?: () => void
  onerror?: (error: Error) => void
  setALPNProtocols(names: Uint8Array): void
  isSessionReused(): boolean
  getCipher(): { readonly name: string; readonly standardName: string; readonly version: string }
  getProtocol(): string
  getALPNNegotiatedProtocol(): string | false
  exportKeyingMaterial(length: number, label: string, context: undefined): Buffer<ArrayBuffer>
  destroySSL(): void
}

interface TlsBinding {
  wrap(handle: object, context: object, isServer: boolean, hasWrites: boolean): TlsWrap
}

// Requests for the next writes of any connection. One that has just come back is in use until its callback has returned: it waits for the next.
let spare: OwnedRequest | undefined
let comesBack: OwnedRequest | undefined

/** By which the callbacks of a TLSWrap find who owns it. */
const OWNER = Symbol('it-tcp.bare')

interface OwnedWrap extends TlsWrap {
  [OWNER]?: BareTls | undefined
}

interface OwnedRequest extends HandleRequest {
  callback: WriteCallback
}

const MEMBERS = [
  ...[
    'readStart',
    'readStop',
    'useUserBuffer',
    'writeBuffer',
    'writeUtf8String',
    'writeLatin1String',
    'writev',
    'shutdown',
    'receive',
    'destroySSL'
  ],
  ...['setALPNProtocols', 'isSessionReused', 'getCipher', 'getProtocol', 'getALPNNegotiatedProtocol', 'exportKeyingMaterial'],
  'getServername'
]

let binding: TlsBinding | null | undefined

/** Whether a server's side of TLS with these options can do without a socket. */
export function canBeBare({ isServer, requestCert }: TLSSocketOptions): boolean {
  // What is known of a client's certificate is told by documented means of a socket only.
  if (isServer !== true || requestCert === true) return false
  binding ??= findTlsBinding() ?? null
  return binding !== null
}

/** The server's side of TLS over a handle from which nobody else reads any more. It reads at once. */
export class BareTls {
  readonly raw: StreamHandle
  authorized = false
  #isDestroyed = false
  #heir: { readonly destroyed: boolean } | undefined
  #wrap: OwnedWrap | null
  readonly #owner: TlsSocketOwner

  constructor(raw: StreamHandle, { secureContext, ALPNProtocols }: TLSSocketOptions, owner: TlsSocketOwner, readInto: Uint8Array) {
    const wrap: OwnedWrap = (binding as TlsBinding).wrap(raw, (secureContext as { context: object }).context, true, false)
    this.raw = raw
    this.#wrap = wrap
    this.#owner = owner
    wrap[OWNER] = this
    wrap._parent = raw
    wrap._parentWrap = null
    wrap._secureContext = secureContext as object
    wrap.onread = onRead
    wrap.onhandshakedone = onHandshakeDone
    wrap.onerror = onError
    if (ALPNProtocols !== undefined) wrap.setALPNProtocols(inWireFormat(ALPNProtocols as readonly string[]))
    wrap.useUserBuffer(readInto)
    // libuv keeps its handle alive, and with that what reads from it.
    ;(raw as StreamHandle & { [OWNER]?: BareTls })[OWNER] = this
    this._read()
  }

  // The members of a TLSSocket that are asked for here -----------------------------------------------------------------

  get destroyed(): boolean {
    return this.#heir?.destroyed ?? this.#isDestroyed
  }

  get _handle(): TlsWrap | null {
    return this.#wrap
  }

  get alpnProtocol(): string | false | null {
    return this.#wrap?.getALPNNegotiatedProtocol() ?? null
  }

  isSessionReused(): boolean {
    return (this.#wrap as TlsWrap).isSessionReused()
  }

  getCipher(): ReturnType<TlsWrap['getCipher']> {
    return (this.#wrap as TlsWrap).getCipher()
  }

  getProtocol(): string {
    return (this.#wrap as TlsWrap).getProtocol()
  }

  exportKeyingMaterial(length: number, label: string): ReturnType<TlsWrap['exportKeyingMaterial']> {
    return (this.#wrap as TlsWrap).exportKeyingMaterial(length, label, undefined)
  }

  getPeerX509Certificate(): undefined {}

  _read(): void {
    const wrap = this.#wrap
    if (wrap === null || wrap.reading === true) return
    wrap.reading = true
    const status = wrap.readStart()
    // The handle may be read already, by whoever had it before.
    if (status < 0 && status !== EALREADY) nextTick(() => this.#owner.failed(systemError(status, 'read')))
  }

  _write(chunk: Uint8Array | string, encoding: string, callback: WriteCallback): void {
    const wrap = this.#wrap as TlsWrap
    const request = spare ?? requestOf(WriteWrap, onWritten, callback)
    spare = undefined
    request.callback = callback
    let status: number
    if (typeof chunk !== 'string') {
      request.buffer = chunk
      status = wrap.writeBuffer(request, chunk)
    } else {
      status = encoding === 'latin1' ? wrap.writeLatin1String(request, chunk) : wrap.writeUtf8String(request, chunk)
    }
    if (status !== 0) callback(systemError(status, 'write'))
  }

  _writev(entries: readonly { chunk: Uint8Array | string; encoding: string }[] & { allBuffers?: boolean }, callback: WriteCallback): void {
    const { allBuffers = false } = entries
    const request = requestOf(WriteWrap, onWritten, callback)
    const chunks = allBuffers ? entries.map(({ chunk }) => chunk) : entries.flatMap(({ chunk, encoding }) => [chunk, encoding])
    request.buffer = chunks
    const status = (this.#wrap as TlsWrap).writev(request, chunks, allBuffers)
    if (status !== 0) callback(systemError(status, 'write'))
  }

  _final(callback: WriteCallback): void {
    const request = requestOf(ShutdownWrap, onShutDown, callback)
    const status = (this.#wrap as TlsWrap).shutdown(request)
    // 1: done already.
    if (status !== 0) callback(status === 1 ? null : systemError(status, 'shutdown'))
  }

  destroy(): this {
    if (this.#isDestroyed) return this
    this.#isDestroyed = true
    const wrap = this.#wrap as TlsWrap
    this.raw.close(() => {
      this.#wrap = null
      wrap.destroySSL()
      this.#owner.wasClosed()
    })
    return this
  }

  /** Leaves the native side to a socket that was made over it. */
  surrender(heir: { readonly destroyed: boolean }): void {
    this.#heir = heir
    ;(this.#wrap as OwnedWrap)[OWNER] = undefined
  }

  // What the native side tells ----------------------------------------------------------------------------------------

  /** So many bytes were decrypted, or what kept more from arriving. Gives what to read into next, if that is another buffer. */
  read(length: number): Uint8Array | undefined {
    if (length === 0) return undefined
    if (length < 0) {
      if (length === UV_EOF) this.#owner.sawEnd()
      else this.#owner.failed(systemError(length, 'read'))
      return undefined
    }
    const goesOn = this.#owner.arrived(length)
    const wrap = this.#wrap
    if (!goesOn && wrap !== null && wrap[OWNER] === this) {
      wrap.reading = false
      wrap.readStop()
    }
    return takeNextBuffer()
  }

  handshakeDone(): void {
    this.#owner.shookHands()
  }

  failed(error: Error): void {
    this.#owner.failed(error)
  }
}

function requestOf(
  Request: new () => HandleRequest,
  oncomplete: (this: OwnedRequest, status: number) => void,
  callback: WriteCallback
): OwnedRequest {
  const request = new Request() as OwnedRequest
  request.oncomplete = oncomplete
  request.callback = callback
  return request
}

// Shared by all: a closure per connection and event would be memory for every idle one.

function onRead(this: OwnedWrap): Uint8Array | undefined {
  return this[OWNER]?.read(streamBaseState[kReadBytesOrError] as number)
}

function onHandshakeDone(this: OwnedWrap): void {
  this[OWNER]?.handshakeDone()
}

function onError(this: OwnedWrap, error: Error): void {
  this[OWNER]?.failed(error)
}

function onWritten(this: OwnedRequest, status: number): void {
  const { callback } = this
  this.callback = doNothing
  this.buffer = undefined
  spare = comesBack
  comesBack = this
  callback(status < 0 ? systemError(status, 'write') : null)
}

// As Node.js has it: what the peer makes of it is told by what is read.
function onShutDown(this: OwnedRequest): void {
  this.callback(null)
}

// Each name behind its length (RFC 7301).
function inWireFormat(names: readonly string[]): Uint8Array {
  return Buffer.concat(names.flatMap((name) => [Uint8Array.of(Buffer.byteLength(name)), Buffer.from(name)]))
}

function findTlsBinding(): TlsBinding | undefined {
  if (streamBinding === undefined || wantsSockets()) return undefined
  try {
    const found = (process as unknown as { binding(name: string): unknown }).binding('tls_wrap') as TlsBinding & {
      TLSWrap: { prototype: object }
    }
    const isKnown = typeof found.wrap === 'function' && MEMBERS.every((name) => name in found.TLSWrap.prototype)
    return isKnown ? found : undefined
  } catch {
    return undefined
  }
}

// Node.js tells of keys, and traces, by way of its own sockets.
function wantsSockets(): boolean {
  const { NODE_OPTIONS = '' } = process.env
  return [...process.execArgv, ...NODE_OPTIONS.split(' ')].some((option) => /^--(?:tls-keylog|trace-tls)/.test(option))
}
