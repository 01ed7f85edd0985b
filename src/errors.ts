// The error classes, by who is at fault, and the words for the operating system's codes.

import { getSystemErrorMap, types } from 'node:util'
import { formatAddress, type HostAndPort, type SocketAddress } from './address.ts'

/**
 * The class of all errors of this library: a `name`, a stable `code`, and the operating system's error, where there is one, as `cause`. Two
 * kinds are not of this class: wrong arguments are a `TypeError` or a `RangeError`, and what a signal aborts rejects with the signal's
 * reason.
 */
export abstract class ItTcpError extends Error {
  /** The name of the class; part of the API. */
  abstract override readonly name: string
  /** Identifies the class where `instanceof` can't, as across two copies of the package; part of the API. */
  abstract readonly code: string
}

/** Thrown when a connection cannot be made: refused, unreachable, no such name or path. */
export class ConnectError extends ItTcpError {
  override readonly name = 'ConnectError'
  readonly code: string = 'ERR_CONNECT'
  /** Where the connection was to go. */
  readonly address: SocketAddress | HostAndPort
  /** One error for every address that was tried, in order; present when there were several. */
  declare readonly errors?: readonly unknown[]

  /** @internal */
  constructor(address: SocketAddress | HostAndPort, cause: unknown, errors?: readonly unknown[]) {
    super(`Cannot connect to ${formatAddress(address)}: ${describeSystemError(cause)}`, { cause })
    this.address = address
    if (errors !== undefined) this.errors = errors
  }
}

/** Thrown when `timeout` passed before a connection was made. */
export class ConnectTimeoutError extends ItTcpError {
  override readonly name = 'ConnectTimeoutError'
  readonly code = 'ERR_CONNECT_TIMEOUT'
  /** Where the connection was to go. */
  readonly address: SocketAddress | HostAndPort

  /** @internal */
  constructor(address: SocketAddress | HostAndPort, timeout: number, options?: ErrorOptions) {
    super(`Cannot connect to ${formatAddress(address)}: no connection within ${timeout} ms`, options)
    this.address = address
  }
}

/** Thrown when an address cannot be listened on. */
export class ListenError extends ItTcpError {
  override readonly name = 'ListenError'
  readonly code = 'ERR_LISTEN'
  /** The address asked for; for a descriptor that could not be adopted, `{ fd }`. */
  readonly address: SocketAddress | { readonly fd: number }

  /** @internal */
  constructor(address: SocketAddress | { readonly fd: number }, cause: unknown) {
    const where = 'fd' in address ? `descriptor ${address.fd}` : formatAddress(address)
    super(`Cannot listen on ${where}: ${describeSystemError(cause)}`, { cause })
    this.address = address
  }
}

/** Thrown when you use something that you closed. */
export class ConnectionClosedError extends ItTcpError {
  override readonly name = 'ConnectionClosedError'
  readonly code = 'ERR_CONNECTION_CLOSED'
}

/** Thrown when the peer or the network broke the connection. */
export class ConnectionResetError extends ItTcpError {
  override readonly name = 'ConnectionResetError'
  readonly code = 'ERR_CONNECTION_RESET'
}

/** Thrown when an encrypted stream ended without a close_notify: what was read may not be all that was sent. */
export class TruncatedError extends ItTcpError {
  override readonly name = 'TruncatedError'
  readonly code = 'ERR_TRUNCATED'
}

/** Thrown when bytes were pending and the peer took none of them for `bufferAgeLimit`. */
export class BufferAgeLimitError extends ItTcpError {
  override readonly name = 'BufferAgeLimitError'
  readonly code = 'ERR_BUFFER_AGE_LIMIT'
}

/** Thrown when no byte went in either direction for `idleTimeout`. */
export class IdleTimeoutError extends ItTcpError {
  override readonly name = 'IdleTimeoutError'
  readonly code = 'ERR_IDLE_TIMEOUT'
}

/** Thrown when a read did not get what it asked for within its `timeout`. It has taken nothing. */
export class ReadTimeoutError extends ItTcpError {
  override readonly name = 'ReadTimeoutError'
  readonly code = 'ERR_READ_TIMEOUT'
}

/** Thrown when there is more to read than `maxLength` allows. */
export class LimitExceededError extends ItTcpError {
  override readonly name = 'LimitExceededError'
  readonly code = 'ERR_LIMIT_EXCEEDED'
}

/** Thrown when the stream ended inside what was asked for. */
export class UnexpectedEndError extends ItTcpError {
  override readonly name = 'UnexpectedEndError'
  readonly code = 'ERR_UNEXPECTED_END'
}

/** Thrown when `maxLength` bytes passed without the delimiter. */
export class DelimiterNotFoundError extends ItTcpError {
  override readonly name = 'DelimiterNotFoundError'
  readonly code = 'ERR_DELIMITER_NOT_FOUND'
}

/** Thrown when two readers, or two sinks, use one connection at once. */
export class BusyError extends ItTcpError {
  override readonly name = 'BusyError'
  readonly code = 'ERR_BUSY'
}

/** Thrown by an `accept()` that is pending when its server closes. */
export class ServerClosedError extends ItTcpError {
  override readonly name = 'ServerClosedError'
  readonly code = 'ERR_SERVER_CLOSED'
}

/** Thrown when a handshake fails, the peer is not who it should be, a record is forged, or a certificate of yours is unusable. */
export class TlsError extends ItTcpError {
  override readonly name = 'TlsError'
  readonly code = 'ERR_TLS'
}

/** Thrown when a handshake took longer than allowed. */
export class HandshakeTimeoutError extends ItTcpError {
  override readonly name = 'HandshakeTimeoutError'
  readonly code = 'ERR_HANDSHAKE_TIMEOUT'
}

/** Thrown when a connection does not start with a valid PROXY header, or when its sender may not send one: the message says which. */
export class ProxyHeaderError extends ItTcpError {
  override readonly name = 'ProxyHeaderError'
  readonly code = 'ERR_PROXY_HEADER'
}

/** The operating system's own words for an error, such as 'connection refused'; otherwise the error's message. Never throws. */
export function describeSystemError(error: unknown): string {
  try {
    // Under jest Node.js's errors are of another realm than this one.
    if (!types.isNativeError(error) && !(error instanceof Error)) return String(error)
    const { code, errno, message } = error as NodeJS.ErrnoException
    if (code === 'ENOTFOUND') return 'no such host name'
    // Negative on Node.js; Bun has both kinds.
    const words = typeof errno === 'number' ? getSystemErrorMap().get(-Math.abs(errno))?.[1] : undefined
    return words ?? String(message)
  } catch {
    return 'an error that cannot be read'
  }
}

// Which connection an error belongs to. A server must tell a reset of the client it serves, which is no fault of the
// handler, from a reset of some other connection that the handler uses.
const origins = new WeakMap<Error, object>()

/** Notes that `error` happened on `origin`, and returns it. */
export function withOrigin<E extends Error>(error: E, origin: object): E {
  origins.set(error, origin)
  return error
}

/** Whether `error` happened on `origin`. */
export function isFrom(error: Error, origin: object): boolean {
  return origins.get(error) === origin
}

/** What `error` happened on: a connection or a server of ours; undefined if it is not known. */
export function originOf(error: object): object | undefined {
  return origins.get(error as Error)
}

/**
 * Notes that it was `origin` that was waited for too long, if `reason` is that of an `AbortSignal.timeout`, and returns it. Of the
 * program's other reasons nothing is noted.
 */
export function withTimeoutOrigin(reason: unknown, origin: object): unknown {
  try {
    if ((reason as { name?: unknown } | null)?.name === 'TimeoutError' && typeof reason === 'object') origins.set(reason as Error, origin)
  } catch {
    // A getter of the program's own that throws.
  }
  return reason
}

// A connection that its own program has aborted is no client's fault.
const deliberate = new WeakSet<Error>()

/** Notes that `error` is what an `abort()` left to those who go on using the connection, and returns it. */
export function asDeliberate<E extends Error>(error: E): E {
  deliberate.add(error)
  return error
}

/** Whether an `abort()` is what `error` tells of. */
export function isDeliberate(error: Error): boolean {
  return deliberate.has(error)
}

// A bad certificate or key of one's own is no peer's fault.
const ownFaults = new WeakSet<Error>()

/** Notes that `error` tells of what its own program has given, and returns it. */
export function asOwnFault<E extends Error>(error: E): E {
  ownFaults.add(error)
  return error
}

/** Whether `error` tells of what its own program has given. */
export function isOwnFault(error: Error): boolean {
  return ownFaults.has(error)
}
