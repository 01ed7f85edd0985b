// The options, their defaults with the reason for each, and the checks that come before anything happens.

import { inspect } from 'node:util'
import type { SocketAddress } from './address.ts'
import { isAbortSignal } from './async/abort.ts'
import type { ProxyHeaderInit } from './proxy/header.ts'
import type { TlsClientOptions, TlsContext } from './tls.ts'

/** Milliseconds before a connection attempt is given up: Async's value. */
export const DEFAULT_TIMEOUT = 30_000
/** Bytes read ahead of the consumer: what Node.js reads from the kernel at a time. */
export const DEFAULT_READER_BUFFER_SIZE = 65_536
/** Milliseconds from accept to the handler, for a PROXY header and a TLS handshake together: between ranch's 5 s and the 30 s of others. */
export const DEFAULT_HANDSHAKE_TIMEOUT = 10_000
/** Milliseconds that pending bytes may wait without the peer taking any: Async's two minutes. */
export const DEFAULT_BUFFER_AGE_LIMIT = 120_000
/** Milliseconds of silence before TCP keep-alive probes: below the idle limit of common NAT boxes and balancers. */
export const DEFAULT_KEEP_ALIVE = 60_000
/** Milliseconds for which `close()` tries to hand over what was written: Async's `Tcp` passes 30 s. */
export const DEFAULT_FORCE_AFTER = 30_000
/** Milliseconds for which `close()` waits for the peer's FIN, once its own is sent. */
export const DEFAULT_LINGER = 2_000
/** Clients that the kernel queues: what Node.js asks for; the system clamps it (`somaxconn`). */
export const DEFAULT_BACKLOG = 511
/** Bytes that a line or a delimited record may have: what `asyncio` and `bufio` allow too. */
export const DEFAULT_MAX_LENGTH = 65_536

/** How a connection is opened. */
export interface ConnectSocketOptions {
  /**
   * Milliseconds for everything before the connection exists, including name resolution and all attempts; `Infinity` for no limit.
   *
   * @default 30_000
   */
  timeout?: number
  /** Gives up the attempt when aborted. Once the connection exists, a later abort changes nothing. */
  signal?: AbortSignal
  /**
   * Uses TLS, and verifies that the server is the host dialled, or `serverName`; `true` for the defaults. `timeout` and `signal` cover the
   * handshake.
   *
   * @default no TLS
   */
  tls?: true | TlsClientOptions
  /**
   * The PROXY header to send first, as soon as it is connected and before a TLS handshake: it says on whose behalf this connection is made.
   * It is included in neither `bytesWritten` nor `bytesPending`.
   *
   * @default none
   */
  proxyHeader?: ProxyHeaderInit
}

/** How an established connection behaves; for clients and for servers. */
export interface ConnectionOptions {
  /**
   * Bytes that are read ahead while nobody reads, plus at most one chunk. At least 1.
   *
   * @default 65_536 (64 KiB)
   */
  readerBufferSize?: number
  /**
   * Milliseconds that pending bytes may wait without the peer taking any of them, before the connection is aborted with
   * `BufferAgeLimitError`; `Infinity` for no limit. Counted from the last progress, so a slow peer that keeps reading stays connected.
   *
   * On Linux, with libc, the kernel is told as well (TCP_USER_TIMEOUT): a TCP peer that acknowledges none of what was handed over for a quarter longer (2 s at
   * least), having vanished or taking nothing, is told as `ConnectionResetError` with an ETIMEDOUT. Where `keepAlive` is longer, it gets 10 s more than that.
   *
   * @default 120_000 (2 minutes)
   */
  bufferAgeLimit?: number
  /**
   * Milliseconds without a byte in either direction before the connection is aborted with `IdleTimeoutError`.
   *
   * @default Infinity
   */
  idleTimeout?: number
  /**
   * Milliseconds of silence after which TCP keep-alive probes start, rounded up to whole seconds and down to 32 767 s; `false` or
   * `Infinity` for none.
   * Unix sockets have none.
   *
   * @default 60_000, or `bufferAgeLimit` where that is less
   */
  keepAlive?: number | false
}

/** The options of `connect`. */
export interface ConnectOptions extends ConnectSocketOptions, ConnectionOptions {}

/** The options of `withConnection`: of connecting, and of closing as `connection.close()` takes them. */
export interface WithConnectionOptions extends ConnectOptions {
  /**
   * Milliseconds to hand over what was written once the function has ended, after which the connection is aborted; 0 aborts at once unless
   * the operating system has everything already.
   *
   * @default 30_000
   */
  forceAfter?: number
  /**
   * Milliseconds to wait for the peer's end after ours before the descriptor is closed; 0 closes right after ours, and the system sends a
   * RST if input is unread. The wait is over as soon as the peer closes.
   *
   * @default 2_000
   */
  linger?: number
}

/** From whom a server takes PROXY headers. */
export interface ProxyProtocolOptions {
  /**
   * The IP addresses and CIDR ranges that may send a header, `'unix'` for the peers of a unix socket, or `'anybody'`, who can then claim to be
   * anybody. Others are turned away before a byte of theirs is read.
   *
   * @default none: it must be given
   */
  from: readonly string[] | 'anybody'
  /**
   * Bytes that a header of version 2 may announce behind its first 16.
   *
   * @default 4096
   */
  maxLength?: number
}

/** The options of `listen`. */
export interface ListenOptions<A = SocketAddress> extends ConnectionOptions {
  /**
   * Connections that may be open or in a handler at once; further clients wait in the kernel's queue. At least 1.
   *
   * @default 90 % of the soft limit on open descriptors, which Node.js raises to the hard limit when it starts
   */
  maxConnections?: number
  /**
   * Clients that the kernel queues until they are accepted (Async's `max_pending_connections`). The system clamps it.
   * Beyond it, Linux lets TCP clients retry until their own timeout and fails Unix clients with EAGAIN; other systems refuse them; where
   * `acceptGate` is `'userland'` they are closed.
   *
   * @default 511
   */
  backlog?: number
  /** Closes the server when aborted. */
  signal?: AbortSignal
  /**
   * Decides by a client's address whether to let it in; false resets it at once, before it takes a slot. With a PROXY header it is called
   * once that has been read, with the client's own address. It must be quick and return true or false: if it throws, the client is turned
   * away and the error goes to `onHandlerError`.
   *
   * @default every client is let in
   */
  admit?: (address: A) => boolean
  /**
   * Connections from one IP address that may be open or in a handler at once; any more are reset at once, before they take a slot. IPv6
   * clients are counted by the first 64 bits of their address, clients behind a PROXY header by their own address. Unix clients have no
   * address and are not counted. At least 1.
   *
   * @default no limit
   */
  maxConnectionsPerAddress?: number
  /**
   * Takes the client's address from a PROXY header, of either version, which every connection must then start with: for servers behind a
   * balancer. Senders that are not listed are turned away before a byte from them is read.
   *
   * @default none: no header is looked for
   */
  proxyProtocol?: ProxyProtocolOptions
  /**
   * Uses TLS with every client, from the first byte (after a PROXY header): the handler is called when the handshake is done. A client
   * whose handshake fails is turned away.
   *
   * @default no TLS
   */
  tls?: TlsContext
  /**
   * Milliseconds from accept within which a client must send its PROXY header and complete its TLS handshake, or it is reset. Arriving
   * bytes do not extend it. `Infinity` for no limit.
   *
   * @default 10_000
   */
  handshakeTimeout?: number
  /**
   * Whether a warning is emitted, at most once a minute, when `maxConnections` is reached.
   *
   * @default true
   */
  warnAtLimit?: boolean
}

/** The options of `Server.create`. */
export interface ServerOptions<A> extends ListenOptions<A> {
  /**
   * What happens when a handler throws or rejects: `'raise'` stops the server and rejects `finished`, `'ignore'` goes on, a function is
   * called with the client's address and the error once that connection is closed. The function is also called for clients that were turned
   * away over a PROXY header or a TLS handshake, for which `'raise'` raises nothing.
   *
   * @default 'raise'
   */
  onHandlerError?: 'raise' | 'ignore' | ((address: A, error: unknown) => unknown)
}

/** {@link ConnectionOptions} with every default filled in. */
export type ConnectionSettings = Required<ConnectionOptions>

/** Seconds of silence before TCP keep-alive probes; undefined for none. */
export function keepAliveSeconds(keepAlive: number | false): number | undefined {
  if (keepAlive === false || keepAlive === Number.POSITIVE_INFINITY) return undefined
  // Linux refuses a longer TCP_KEEPIDLE, and would then wait for its own two hours.
  return Math.min(32_767, Math.ceil(keepAlive / 1000))
}

/** Checks the options of a connection and fills in the defaults. `action` begins the message: 'Cannot connect'. */
export function connectionSettings(action: string, options: ConnectionOptions): ConnectionSettings {
  const {
    readerBufferSize = DEFAULT_READER_BUFFER_SIZE,
    bufferAgeLimit = DEFAULT_BUFFER_AGE_LIMIT,
    idleTimeout = Number.POSITIVE_INFINITY,
    keepAlive = Math.min(DEFAULT_KEEP_ALIVE, bufferAgeLimit)
  } = options
  checkCount(action, 'readerBufferSize', readerBufferSize)
  checkDuration(action, 'bufferAgeLimit', bufferAgeLimit)
  checkDuration(action, 'idleTimeout', idleTimeout)
  if (keepAlive !== false) checkDuration(action, 'keepAlive', keepAlive)
  return { readerBufferSize, bufferAgeLimit, idleTimeout, keepAlive }
}

/** Checks that `options` is an object: anything else in its place would otherwise be no options at all. */
export function checkOptions(action: string, options: unknown): void {
  // Of a list or a signal nothing would be taken, and what was meant would not hold.
  if (options === null || typeof options !== 'object' || Array.isArray(options) || isAbortSignal(options)) {
    throw new TypeError(`${action} as 'options' must be an object: received ${inspect(options)}`)
  }
}

export function checkFunction(action: string, name: string, value: unknown): void {
  if (typeof value !== 'function') throw new TypeError(`${action} as '${name}' must be a function: received ${inspect(value)}`)
}

export function checkBoolean(action: string, name: string, value: unknown): void {
  if (typeof value !== 'boolean') throw new TypeError(`${action} as '${name}' must be true or false: received ${inspect(value)}`)
}

/** Checks that a value is one of a few words. */
export function checkChoice(action: string, name: string, value: unknown, choices: readonly string[]): void {
  if (choices.includes(value as string)) return
  const words = choices.map((choice) => `'${choice}'`).join(' or ')
  throw new TypeError(`${action} as '${name}' must be ${words}: received ${inspect(value)}`)
}

/** Checks a string that is neither empty nor cut off by a NUL where it becomes a C string. */
export function checkString(action: string, name: string, value: unknown): void {
  if (typeof value !== 'string') throw new TypeError(`${action} as '${name}' must be a string: received ${inspect(value)}`)
  if (value === '') throw new RangeError(`${action} as '${name}' must not be empty: received ''`)
  if (value.includes('\0')) throw new RangeError(`${action} as '${name}' must not contain a NUL: received ${inspect(value)}`)
}

/** Checks a duration in milliseconds: above 0, `Infinity` allowed. */
export function checkDuration(action: string, name: string, value: unknown): void {
  checkNumber(action, name, value)
  if (!((value as number) > 0)) {
    throw new RangeError(`${action} as '${name}' must be milliseconds above 0, or Infinity for no limit: received ${inspect(value)}`)
  }
}

/** Checks a duration in milliseconds that may be 0, meaning at once. */
export function checkDelay(action: string, name: string, value: unknown): void {
  checkNumber(action, name, value)
  if (!((value as number) >= 0)) {
    throw new RangeError(`${action} as '${name}' must be milliseconds, 0 or more: received ${inspect(value)}`)
  }
}

/** Checks a whole number of at least `minimum`; `Infinity` is not one. */
export function checkCount(action: string, name: string, value: unknown, minimum = 1): void {
  checkNumber(action, name, value)
  if (!Number.isSafeInteger(value) || (value as number) < minimum) {
    throw new RangeError(`${action} as '${name}' must be a whole number, ${minimum} or more: received ${inspect(value)}`)
  }
}

/** Checks a limit in bytes: a whole number of at least 1, or `Infinity`. */
export function checkMaxLength(action: string, value: unknown): void {
  if (value !== Number.POSITIVE_INFINITY) checkCount(action, 'maxLength', value)
}

export function checkPort(action: string, name: string, value: unknown, minimum: number): void {
  checkNumber(action, name, value)
  if (!Number.isInteger(value) || (value as number) < minimum || (value as number) > 65_535) {
    throw new RangeError(`${action} as '${name}' must be a whole number from ${minimum} to 65535: received ${inspect(value)}`)
  }
}

export function checkSignal(action: string, signal: unknown): void {
  if (signal !== undefined && !isAbortSignal(signal)) {
    throw new TypeError(`${action} as 'signal' must be an AbortSignal: received ${inspect(signal)}`)
  }
}

function checkNumber(action: string, name: string, value: unknown): void {
  if (typeof value !== 'number') throw new TypeError(`${action} as '${name}' must be a number: received ${inspect(value)}`)
}
