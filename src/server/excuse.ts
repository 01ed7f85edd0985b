// Whose fault it is that a handler failed: what clients of ours bring about, and what the library itself told, is excused.

import {
  BufferAgeLimitError,
  ConnectionClosedError,
  ConnectionResetError,
  DelimiterNotFoundError,
  HandshakeTimeoutError,
  IdleTimeoutError,
  isDeliberate,
  LimitExceededError,
  originOf,
  ProxyHeaderError,
  ReadTimeoutError,
  ServerClosedError,
  TlsError,
  TruncatedError,
  UnexpectedEndError
} from '../errors.ts'
import { ByteConnection } from '../stream/byte-connection.ts'
import { ByteReader } from '../stream/byte-reader.ts'
import { Slot } from './slots.ts'

/** What a client can bring about by itself. */
const PEER_ERRORS = [
  ConnectionResetError,
  BufferAgeLimitError,
  IdleTimeoutError,
  UnexpectedEndError,
  DelimiterNotFoundError,
  LimitExceededError,
  ReadTimeoutError,
  TlsError,
  TruncatedError,
  ProxyHeaderError,
  HandshakeTimeoutError
]

// A getter may make a new error each time it is asked. A broadcast may fail for a great many clients, and not deep.
const DEEPEST = 100
const MOST = 100_000

/**
 * Whether a handler failed of what a client of `server` brought about, or of what the library told it: the reason of such a connection's
 * `signal` or of the server's, an error about a connection that neither `abort()` nor the program's own mistake has closed. That may stand
 * anywhere in the chain of causes; of several errors at once (`AggregateError`, `SuppressedError`) every one has to be excused, since the others
 * are the program's. Without `server`, any server's clients count.
 */
export function isExcused(error: unknown, server?: object): boolean {
  return new Inquiry(server).excuses(error)
}

class Inquiry {
  readonly #server: object | undefined
  /** What was found of each error; of one that is still looked at, nothing. */
  readonly #verdicts = new Map<object, boolean>()

  constructor(server: object | undefined) {
    this.#server = server
  }

  excuses(error: unknown, depth = 0): boolean {
    if (typeof error !== 'object' || error === null) return false
    const known = this.#verdicts.get(error)
    if (known !== undefined || depth === DEEPEST || this.#verdicts.size === MOST) return known ?? false
    this.#verdicts.set(error, false)
    const verdict = this.#excusesItself(error) || this.#excusesParts(error, depth) || this.excuses(property(error, 'cause'), depth + 1)
    this.#verdicts.set(error, verdict)
    return verdict
  }

  #excusesParts(error: object, depth: number): boolean {
    const parts = partsOf(error)
    return parts.length > 0 && parts.every((part) => this.excuses(part, depth + 1))
  }

  #excusesItself(error: object): boolean {
    const noted = originOf(error)
    if (noted === undefined) return false
    const origin = ByteReader.originOf(noted)
    if (error instanceof ServerClosedError) return this.#server === undefined || origin === this.#server
    if (!(origin instanceof ByteConnection && origin.init instanceof Slot)) return false
    const slot = origin.init
    if (this.#server !== undefined && slot.owner !== this.#server) return false
    if (error instanceof ConnectionClosedError) return slot.isCutOff || !isDeliberate(error)
    // What is left is a read that an AbortSignal.timeout ended: the client was too slow.
    return PEER_ERRORS.some((Class) => error instanceof Class) || property(error, 'name') === 'TimeoutError'
  }
}

// By what they have, not by their class: another realm has classes of its own.
function partsOf(error: object): readonly unknown[] {
  const errors = property(error, 'errors')
  if (Array.isArray(errors)) return errors
  return property(error, 'name') === 'SuppressedError' ? [property(error, 'error'), property(error, 'suppressed')] : []
}

// An error is whatever the program has thrown, also one whose getters throw.
function property(object: object, name: string): unknown {
  try {
    return (object as Record<string, unknown>)[name]
  } catch {
    return undefined
  }
}
