// Whose fault it is that a handler failed: what clients of ours bring about, and what the library itself told, is excused.

import {
  BufferAgeLimitError,
  ConnectionClosedError,
  ConnectionResetError,
  DelimiterNotFoundError,
  HandshakeTimeoutError,
  IdleTimeoutError,
  LimitExceededError,
  originOf,
  ServerClosedError,
  UnexpectedEndError
} from '../errors.ts'
import { ByteConnection } from '../stream/byte-connection.ts'
import { Slot } from './slots.ts'

/** What a client can bring about by itself. */
const PEER_ERRORS = [
  ConnectionResetError,
  BufferAgeLimitError,
  IdleTimeoutError,
  UnexpectedEndError,
  DelimiterNotFoundError,
  LimitExceededError,
  HandshakeTimeoutError
]

/** Errors looked at in one chain: a getter may make a new one each time it is asked. */
const LONGEST_CHAIN = 100

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
  readonly #seen = new Set<unknown>()

  constructor(server: object | undefined) {
    this.#server = server
  }

  excuses(error: unknown): boolean {
    if (typeof error !== 'object' || error === null || this.#seen.has(error) || this.#seen.size === LONGEST_CHAIN) return false
    this.#seen.add(error)
    if (this.#excusesItself(error)) return true
    const parts = partsOf(error)
    if (parts !== undefined && parts.length > 0 && parts.every((part) => this.excuses(part))) return true
    return this.excuses(property(error, 'cause'))
  }

  #excusesItself(error: object): boolean {
    const origin = originOf(error)
    if (origin === undefined) return false
    if (error instanceof ServerClosedError) return this.#server === undefined || origin === this.#server
    if (!(origin instanceof ByteConnection && origin.init instanceof Slot)) return false
    const slot = origin.init
    if (this.#server !== undefined && slot.owner !== this.#server) return false
    if (error instanceof ConnectionClosedError) return slot.isCutOff || !origin.wasAborted
    // What is left is a read that an AbortSignal.timeout ended: the client was too slow.
    return PEER_ERRORS.some((Class) => error instanceof Class) || property(error, 'name') === 'TimeoutError'
  }
}

// By what they have, not by their class: another realm has classes of its own.
function partsOf(error: object): readonly unknown[] | undefined {
  const errors = property(error, 'errors')
  if (Array.isArray(errors)) return errors
  return property(error, 'name') === 'SuppressedError' ? [property(error, 'error'), property(error, 'suppressed')] : undefined
}

// An error is whatever the program has thrown, also one whose getters throw.
function property(object: object, name: string): unknown {
  try {
    return (object as Record<string, unknown>)[name]
  } catch {
    return undefined
  }
}
