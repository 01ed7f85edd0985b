// Whether an error is the peer's or the network's fault alone.

import {
  BufferAgeLimitError,
  ConnectError,
  ConnectionResetError,
  ConnectTimeoutError,
  DelimiterNotFoundError,
  HandshakeTimeoutError,
  IdleTimeoutError,
  isOwnFault,
  LimitExceededError,
  ProxyHeaderError,
  ReadTimeoutError,
  TlsError,
  TruncatedError,
  UnexpectedEndError
} from './errors.ts'

/** What the peer or the network alone can bring about. */
export const PEER_ERRORS = [
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

// A getter may make a new error each time it is asked. A broadcast may fail for a great many clients, and not deep.
const DEEPEST = 1_000
const MOST = 100_000

/**
 * Whether the peer or the network alone is at fault for `error`: a reset, a limit of age, idleness, time or length, an end inside what was
 * asked for, a failed dial or TLS handshake, a bad PROXY header. A server should at most log such an error; any other is a fault of the program, or
 * something you did yourself, such as using a closed connection.
 *
 * It is recognized by its class, not by its code, at any depth of `cause`. Where an error holds several, as an `AggregateError` or a
 * `SuppressedError` does, all of them have to be the peer's fault: a fault of the program does not hide behind a reset. A dial that failed
 * for lack of descriptors, or because of your `localAddress`, is not the peer's fault, nor is a certificate or key of yours that is
 * unusable. Accepts anything and never throws.
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
  return holds(error, isOfPeerClass)
}

/**
 * Whether `error` is one that `is` is true of, or comes of such a one: as the `cause`, at whatever depth, or as all of the several errors that it holds. By
 * what errors have and not by their class, since another realm has classes of its own. Takes whatever a program may throw, getters that throw included.
 */
export function holds(error: unknown, is: (error: object) => boolean): boolean {
  return new Inquiry(is).isTrueOf(error, 0)
}

class Inquiry {
  readonly #is: (error: object) => boolean
  /** What was found of each error; of one that is still looked at, as in a circle, it is false. */
  readonly #verdicts = new Map<object, boolean>()

  constructor(is: (error: object) => boolean) {
    this.#is = is
  }

  isTrueOf(error: unknown, depth: number): boolean {
    if (typeof error !== 'object' || error === null) return false
    const known = this.#verdicts.get(error)
    if (known !== undefined || depth === DEEPEST || this.#verdicts.size === MOST) return known ?? false
    this.#verdicts.set(error, false)
    const verdict = this.#is(error) || this.#isTrueOfParts(error, depth) || this.isTrueOf(property(error, 'cause'), depth + 1)
    this.#verdicts.set(error, verdict)
    return verdict
  }

  #isTrueOfParts(error: object, depth: number): boolean {
    const parts = partsOf(error)
    return parts.length > 0 && parts.every((part) => this.isTrueOf(part, depth + 1))
  }
}

function isOfPeerClass(error: object): boolean {
  try {
    if (error instanceof TlsError && isOwnFault(error)) return false
    if (error instanceof ConnectError) return !LOCAL_CODES.has((property(error.cause, 'code') as string) ?? '')
    return PEER_ERRORS.some((Class) => error instanceof Class)
  } catch {
    // A proxy whose trap throws.
    return false
  }
}

// The errors that an AggregateError or a SuppressedError holds.
function partsOf(error: object): readonly unknown[] {
  try {
    const errors = property(error, 'errors')
    // A copy: its elements may be getters that throw.
    if (Array.isArray(errors)) return errors.slice(0, MOST)
  } catch {
    // A proxy.
    return []
  }
  const suppressed = property(error, 'suppressed')
  return suppressed === undefined ? [] : [property(error, 'error'), suppressed]
}

/** What `object` has by that name; undefined where asking throws. */
export function property(object: unknown, name: string): unknown {
  try {
    return (object as Record<string, unknown> | null | undefined)?.[name]
  } catch {
    return undefined
  }
}
