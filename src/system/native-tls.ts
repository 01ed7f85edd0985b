// What TLS on a libuv handle has in common, with a socket of Node's over it and without one.

import type { TLSSocketOptions } from 'node:tls'
import { getSystemErrorMap } from 'node:util'

/** Called when what was written is with the carrier, or could not be. */
export type WriteCallback = (error?: Error | null) => void

/** The native side of TLS. */
export interface NativeTls {
  /** Bytes of what was written that are not with the carrier. */
  readonly writeQueueSize: number
  /** Whether it is being read, as its owner sees it. */
  reading?: boolean
  readStop(): number
  /** The host that the client asked for; false if none. */
  getServername(): string | false
  /** What is wrong with the chain of the peer's certificate; null if nothing is. */
  verifyError(): Error | null
  /** Takes bytes as if the carrier had read them. */
  receive(bytes: Uint8Array): void
  /** Offers a session, by itself: what the option `session` takes is wrapped with a name of Node's own since 22. */
  setSession(session: Buffer): void
  /** Sees to it that `onnewsession` is called. */
  enableSessionCallbacks(): void
  onnewsession?: (id: Buffer, session: Buffer) => void
  /** The context to go on with once a client has asked for a host. */
  sni_context?: object
}

/**
 * Has the name that a client asks for acknowledged, which takes a context to go on with: the same. OpenSSL otherwise does not keep it with a session of TLS 1.2, and
 * does not tell it when that is taken up.
 */
export function rememberName(tls: NativeTls, { secureContext }: TLSSocketOptions): void {
  tls.sni_context = (secureContext as unknown as { context: object }).context
}

/** What TLS on a handle tells whom it belongs to. */
export interface TlsSocketOwner {
  /** Whether it was told that the handshake is done, and the peer is verified. */
  readonly isSecured: boolean
  /** `length` bytes were decrypted to the start of the buffer that it has. Gives whether to go on. */
  arrived(length: number): boolean
  /** Nothing more comes: close_notify, or the end of the carrier. */
  sawEnd(): void
  /** The handshake is done; the peer is not verified. */
  shookHands(): void
  failed(error: Error): void
  /** The descriptor is closed. */
  wasClosed(): void
}

/** What `readStart` gives while the handle is being read. */
export const EALREADY = [...getSystemErrorMap()].find(([, [name]]) => name === 'EALREADY')?.[0]

// Into what goes on reading that has just read; undefined for the buffer that it has.
let nextBuffer: Uint8Array | undefined

/** Names the memory for what is decrypted next, from inside of `arrived`. */
export function readNextRecordInto(bytes: Uint8Array): void {
  nextBuffer = bytes
}

/** Gives what was named. Called by the constructor of a socket, and right after each read. */
export function takeNextBuffer(): Uint8Array | undefined {
  const next = nextBuffer
  nextBuffer = undefined
  return next
}
