// Node's TLS over a stream of ours, by documented members, and what it says of the peer's certificate.

import { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import { setImmediate } from '../async/platform.ts'
import type { WriteEntry } from '../stream/transport.ts'
import { nodeTls } from '../system/node-tls.ts'
import { canWrapHandles, type TlsSocketInternals } from '../system/tls-socket.ts'
import type { Callback } from './carried-writes.ts'
import type { Handshake } from './handshake.ts'

const isBun = process.versions.bun !== undefined
const isDeno = process.versions.deno !== undefined

/** What TLS over a stream does otherwise on other runtimes. */
export const QUIRKS = Object.freeze({
  /** Bun answers a close_notify with its own at once: what is written behind it is dropped, and nobody is told. */
  endsWithPeer: isBun,
  /** Deno says that it has ended before its close_notify is on its way, and does not end what is under it. */
  leavesCarrierOpen: isDeno,
  /** Deno reads on, and decrypts, while nobody reads from it. */
  readsAhead: isDeno
})

/** What a write fails of where {@link QUIRKS.endsWithPeer}. */
export function endedWithPeer(): Error {
  return new Error('over TLS, this runtime ends its own side with the peer, and sends nothing more')
}

/** Calls `done` when `under` has room: Bun takes writes that it has no room for. */
export function whenDrained(under: Duplex, done: () => void): void {
  if (under.writableNeedDrain && !under.destroyed) under.once('drain', done)
  else done()
}

/** Ends `under`, where {@link QUIRKS.leavesCarrierOpen}, once it has taken the last that TLS had for it. */
export function endWhenQuiet(under: Duplex): void {
  twoTurnsLater(() => {
    if (under.writableLength === 0) under.end()
  })
}

/** Behind whatever the streams under and over TLS have still to tell each other. */
export function twoTurnsLater(then: () => void): void {
  setImmediate(() => setImmediate(then))
}

/** What carries the bytes of a stream. */
export interface StreamCarrier {
  readOn(): void
  carry(entries: WriteEntry[], callback: Callback): void
  end(callback: Callback): void
}

/** A stream whose bytes somebody else carries. */
export function carriedStream({ readOn, carry, end }: StreamCarrier): Duplex {
  return new Duplex({
    allowHalfOpen: true,
    read: readOn,
    write: (chunk: Buffer, _encoding, callback) => carry([entryOf(chunk)], callback),
    writev: (chunks, callback) =>
      carry(
        chunks.map(({ chunk }) => entryOf(chunk as Buffer)),
        callback
      ),
    final: end
  })
}

function entryOf(chunk: Buffer): WriteEntry {
  return { chunk, encoding: 'buffer', byteLength: chunk.byteLength }
}

/** Begins a handshake over `under`. */
export function secureStream(under: Duplex, handshake: Handshake): TLSSocket {
  const { options, askFor, isServer } = handshake
  if (isServer) return new (nodeTls().TLSSocket)(under, options)
  // Only where it is known that a session taken up is the one that was offered.
  const session = canWrapHandles() ? handshake.takeSession() : undefined
  const offered = session === undefined ? {} : { session }
  const checks = { rejectUnauthorized: false, checkServerIdentity: accept }
  const tls = nodeTls().connect({ ...options, ...checks, ...offered, socket: under, servername: askFor ?? '' })
  return tls.on('session', (session) => handshake.keep(session))
}

/** What is wrong with the peer's chain. */
export function chainError(socket: TLSSocket, isServer: boolean): Error | undefined {
  return isServer ? serverChainError(socket as TlsSocketInternals) : clientChainError(socket)
}

/** What is wrong with a server's chain: documented, but for being a mere code. */
export function clientChainError({ authorizationError }: TLSSocket): Error | undefined {
  if (!authorizationError) return undefined
  return Object.assign(new Error(String(authorizationError)), { code: String(authorizationError) })
}

function serverChainError({ _handle }: TlsSocketInternals): Error | undefined {
  if (typeof _handle?.verifyError !== 'function') return new Error('this runtime does not say whether a client certificate holds')
  return _handle.verifyError() ?? undefined
}

// The name is checked by whoever knows it, when the handshake is done.
function accept(): undefined {}
