// Whether an error is the peer's or the network's fault alone.

import {
  BufferAgeLimitError,
  ConnectError,
  ConnectionResetError,
  ConnectTimeoutError,
  DelimiterNotFoundError,
  HandshakeTimeoutError,
  IdleTimeoutError,
  LimitExceededError,
  ProxyHeaderError,
  ReadTimeoutError,
  TlsError,
  TruncatedError,
  UnexpectedEndError
} from './errors.ts'

// What the peer or the network alone can bring about.
const PEER_ERRORS = [
  BufferAgeLimitError,
  ConnectError,
  ConnectionResetError,
  ConnectTimeoutError,
  DelimiterNotFoundError,
  HandshakeTimeoutError,
  IdleTimeoutError,
  LimitExceededError,
  ProxyHeaderError,
  ReadTimeoutError,
  TlsError,
  TruncatedError,
  UnexpectedEndError
]

// Why dialling failed on this side: no descriptors, no memory, no such local address, not allowed to.
const LOCAL_CODES = new Set([
  'EMFILE',
  'ENFILE',
  'ENOBUFS',
  'ENOMEM',
  'EADDRINUSE',
  'EADDRNOTAVAIL',
  'EACCES',
  'EPERM',
  'ERR_ACCESS_DENIED'
])

// Nobody wraps an error so often; a getter may make a new one each time.
const MOST_ERRORS = 1_000

/**
 * Whether the peer or the network alone is at fault for `error`: a reset, a limit of age, idleness, time or length, an end inside what was
 * asked for, a failed dial, a bad PROXY header. A server logs such an error at most; any other is a fault of the program, or something that you did yourself,
 * such as using a closed connection.
 *
 * It is found by its class, not by its code, through `cause`, at whatever depth. Where an error holds several, as an `AggregateError` or a
 * `SuppressedError` does, all of them have to be the peer's: a fault of the program does not hide behind a reset. A dial that failed for want
 * of descriptors, or because of your `localAddress`, is not the peer's. Takes anything, never throws.
 *
 * @example
 * ```ts
 * try {
 *   await withConnection(toHostAndPort('localhost', 7), async ({ reader }) => await reader.readLine())
 * } catch (error) {
 *   if (!isPeerError(error)) throw error
 *   console.error(`try again later: ${error}`)
 * }
 * ```
 */
export function isPeerError(error: unknown): boolean {
  return isPeers(error, new Map())
}

// `known` has the verdicts so far; of an error that is being looked at, as in a circle, it is false.
function isPeers(error: unknown, known: Map<unknown, boolean>): boolean {
  if (error === null || typeof error !== 'object') return false
  const before = known.get(error)
  if (before !== undefined || known.size >= MOST_ERRORS) return before ?? false
  known.set(error, false)
  const verdict = isOfPeerClass(error) || isPeers(get(error, 'cause'), known) || areAllPeers(partsOf(error), known)
  known.set(error, verdict)
  return verdict
}

function areAllPeers(errors: readonly unknown[], known: Map<unknown, boolean>): boolean {
  return errors.length > 0 && errors.every((error) => isPeers(error, known))
}

function isOfPeerClass(error: object): boolean {
  try {
    if (error instanceof ConnectError) return !LOCAL_CODES.has((get(error.cause, 'code') as string) ?? '')
    return PEER_ERRORS.some((Class) => error instanceof Class)
  } catch {
    // A proxy whose trap throws.
    return false
  }
}

// The errors that an AggregateError or a SuppressedError holds.
function partsOf(error: object): readonly unknown[] {
  const errors = get(error, 'errors')
  if (Array.isArray(errors)) return errors.slice(0, MOST_ERRORS)
  const suppressed = get(error, 'suppressed')
  return suppressed === undefined ? [] : [get(error, 'error'), suppressed]
}

function get(from: unknown, key: string): unknown {
  try {
    return (from as Record<string, unknown> | null | undefined)?.[key]
  } catch {
    return undefined
  }
}
