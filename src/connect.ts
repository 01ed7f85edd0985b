// Dialling: name resolution, attempts, timeout, signal, and a connection that lasts as long as a function.

import { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { inspect } from 'node:util'
import { type SocketAddress, UNNAMED } from './address.ts'
import { now } from './async/clock.ts'
import { doNothing } from './async/do-nothing.ts'
import { type DialLimits, type Dialled, dial, inetAddresses, isUnix, type Step } from './client/dial.ts'
import { dialCustom } from './client/dial-custom.ts'
import { sendFirst } from './client/send-first.ts'
import type { Connection } from './connection.ts'
import {
  type ConnectionSettings,
  type ConnectOptions,
  type ConnectSocketOptions,
  checkDelay,
  checkDuration,
  checkFunction,
  checkOptions,
  checkSignal,
  connectionSettings,
  DEFAULT_TIMEOUT,
  type WithConnectionOptions
} from './options.ts'
import { headerToSend } from './proxy/format-header.ts'
import { openConnection } from './stream/connection-facade.ts'
import { createDialSocket, setSilenceLimits } from './stream/net-socket.ts'
import { NetTransport } from './stream/net-transport.ts'
import type { Transport } from './stream/transport.ts'
import { type ClientTerms, clientTerms } from './tls/client-options.ts'
import { secureDialled, secureSocket } from './tls/secure-dialled.ts'
import { upgradeTo } from './tls/start-tls.ts'
import type { TlsClientOptions } from './tls.ts'
import type { Carried, WhereToConnect } from './where-to-connect.ts'

const ACTION = 'Cannot connect'

/**
 * Opens a socket to `where`, for use with `node:net` itself. Async: `connect_sock`.
 *
 * Resolves with a socket that is connected and otherwise just as `net.connect` leaves it: a `'data'` listener, `pipe()` or iterating starts
 * the flow, and drivers that take a socket can use it. Unlike that of `net.connect` it stays open for writing after the peer's FIN: set
 * `socket.allowHalfOpen = false` for a driver that leaves closing to the server, as mysql2 does. TCP_NODELAY is on.
 *
 * Ownership: from then on the socket, its events, errors and closing belong to the caller; no listener is left on it.
 * Cancellation: if `signal` aborts or `timeout` passes first, every attempt is destroyed and nothing stays open. Later neither has an
 * effect. A name lookup can't be cancelled: its answer is ignored. May be called any number of times at once. Async tries only the first
 * address of a name.
 *
 * @throws {TypeError} If an argument has the wrong type.
 * @throws {RangeError} If `timeout` is not above 0.
 * @throws {ConnectError} If the name can't be resolved, or all of its addresses refuse or can't be reached.
 * @throws {ConnectTimeoutError} If `timeout` passes first.
 * @throws `signal.reason` if `signal` aborts first.
 * @example
 * ```ts
 * const socket = await connectSocket(toHostAndPort('localhost', 7), { timeout: 5_000 })
 * socket.end('hello')
 * for await (const chunk of socket) console.log(`${chunk}`)
 * ```
 */
export function connectSocket(
  where: WhereToConnect<SocketAddress>,
  options: ConnectSocketOptions & { readonly tls: true | TlsClientOptions }
): Promise<TLSSocket>
export function connectSocket(where: WhereToConnect<SocketAddress>, options?: ConnectSocketOptions): Promise<Socket>
export async function connectSocket(where: WhereToConnect<SocketAddress>, options: ConnectSocketOptions = {}): Promise<Socket> {
  checkWhere(where)
  if (where.dial !== undefined) throw new TypeError(`${ACTION} as 'where' has no socket: received ${inspect(where)}`)
  const limits = dialLimits(options)
  const terms = tlsTerms(options, where)
  const steps = stepsOf(options)
  const secure: Step = (socket) => secureSocket(socket, terms as ClientTerms, where.target)
  const { socket } = await dial(where, limits, createSocket, terms === undefined ? steps : [...steps, secure])
  return socket
}

/**
 * Opens a connection to `where`. Async: `connect`.
 *
 * Resolves once it is connected. A host name is resolved, and its addresses are tried as RFC 8305 describes: IPv6 and IPv4 alternate, each
 * attempt gets a head start of 250 ms, the first to connect wins and the others are destroyed. A Unix socket whose queue is full is retried
 * until `timeout`.
 *
 * Ownership: the connection is the caller's to close; hold it with `await using`, or use {@link withConnection}.
 * Cancellation: if `signal` aborts or `timeout` passes first, every attempt is destroyed and nothing stays open. Once the connection
 * exists, neither has an effect. A name lookup can't be cancelled: its answer is ignored. May be called any number of times at once.
 *
 * Differs from Async: `timeout` and `signal` cover name resolution and all attempts together, and every address is tried, not just the
 * first.
 *
 * @throws {TypeError} If an argument has the wrong type.
 * @throws {RangeError} If an option is out of range.
 * @throws {ConnectError} If the name can't be resolved, or all of its addresses refuse or can't be reached; `errors` then has
 * one error for each.
 * @throws {ConnectTimeoutError} If `timeout` passes first.
 * @throws `signal.reason` if `signal` aborts first.
 * @example
 * ```ts
 * await using connection = await connect(toHostAndPort('localhost', 7))
 * connection.writer.write('hello\n')
 * console.log(await connection.reader.readLine())
 * ```
 */
export function connect<A extends SocketAddress>(where: WhereToConnect<A>, options?: ConnectOptions): Promise<Connection<A>>
// Which kind it is may be decided at run time: a type parameter is not inferred from a union.
export function connect(where: WhereToConnect<SocketAddress>, options?: ConnectOptions): Promise<Connection>
export async function connect<A extends SocketAddress>(where: WhereToConnect<A>, options: ConnectOptions = {}): Promise<Connection<A>> {
  checkWhere(where)
  const limits = dialLimits(options)
  const terms = tlsTerms(options, where)
  const startedAt = now()
  const settings = connectionSettings(ACTION, options)
  const { transport, ...ends } = await carry(where, limits, settings, stepsOf(options))
  const upgrade = upgradeTo(hostOf(where))
  const connection = openConnection<A>(transport, settings, { ...ends, isAccepted: false, upgrade })
  if (terms !== undefined) await secureDialled(connection, terms, where.target, limits, startedAt)
  return connection.facade
}

/**
 * Opens a connection to `where`, calls `fn` with it, and closes it. Async: `with_connection`.
 *
 * Resolves with what `fn` returns, or rejects, once `fn` has ended and the descriptor is closed. That takes up to 2 s longer than `fn` if
 * the peer does not close its side when it sees our end: for a health check, pass `linger: 0`.
 *
 * Ownership: the connection is closed as `connection.close()` does, even if `fn` throws: what was written is handed over first, for up to
 * `forceAfter`, then the peer's end is awaited, for up to `linger`. If the peer must not mistake half a message for a whole one, call
 * `connection.abort()`. Cancellation: `timeout` and `signal` are for connecting, as in {@link connect}; they never end `fn`. If the
 * connection breaks meanwhile, `connection.signal` is aborted; `fn` is always awaited. May be called any number of times at once.
 *
 * @throws Whatever `fn` throws.
 * @throws {ConnectionResetError} If `fn` succeeded, but the connection broke before what it wrote was handed over.
 * @throws {ConnectionClosedError} If `fn` succeeded, but the peer did not take what it wrote within `forceAfter`, or `fn` aborted the
 * connection.
 * @throws {TypeError} If an argument has the wrong type.
 * @throws {RangeError} If an option is out of range.
 * @throws {ConnectError} If the name can't be resolved, or all of its addresses refuse or can't be reached.
 * @throws {ConnectTimeoutError} If `timeout` passes before the connection exists.
 * @throws `signal.reason` if `signal` aborts before the connection exists.
 * @example
 * ```ts
 * const reply = await withConnection(toHostAndPort('localhost', 7), { timeout: 5_000 }, async ({ reader, writer }) => {
 *   writer.write('hello\n')
 *   return await reader.readLine()
 * })
 * console.log(reply)
 * ```
 */
export function withConnection<A extends SocketAddress, T>(
  where: WhereToConnect<A>,
  fn: (connection: Connection<A>) => T | Promise<T>
): Promise<T>
export function withConnection<A extends SocketAddress, T>(
  where: WhereToConnect<A>,
  options: WithConnectionOptions,
  fn: (connection: Connection<A>) => T | Promise<T>
): Promise<T>
export function withConnection<T>(where: WhereToConnect<SocketAddress>, fn: (connection: Connection) => T | Promise<T>): Promise<T>
export function withConnection<T>(
  where: WhereToConnect<SocketAddress>,
  options: WithConnectionOptions,
  fn: (connection: Connection) => T | Promise<T>
): Promise<T>
export async function withConnection<A extends SocketAddress, T>(
  where: WhereToConnect<A>,
  ...rest:
    | [fn: (connection: Connection<A>) => T | Promise<T>]
    | [options: WithConnectionOptions, fn: (connection: Connection<A>) => T | Promise<T>]
): Promise<T> {
  const [options = {}, fn] = rest.length === 1 ? [{}, rest[0]] : rest
  checkFunction(ACTION, 'fn', fn)
  const closeOptions = closeOptionsOf(options)
  const connection = await connect(where, options)
  try {
    const result = await fn(connection)
    await connection.close(closeOptions)
    return result
  } catch (error) {
    await connection.close(closeOptions).catch(doNothing)
    throw error
  }
}

function createSocket(): Socket {
  // What the constructor sets in its copy of the options anyway: where they are there already Node.js 20 makes the copy much faster.
  const options = { allowHalfOpen: true, emitClose: false, autoDestroy: true, decodeStrings: false }
  return new Socket(options)
}

// What comes between the connected socket and the connection, within the same deadline: what is sent ahead of everything, then what secures it.
function stepsOf({ proxyHeader }: ConnectSocketOptions): readonly Step[] {
  const header = headerToSend(proxyHeader)
  return header === undefined ? NO_STEPS : [sendFirst(header)]
}

const NO_STEPS: readonly Step[] = []

function tlsTerms({ tls }: ConnectSocketOptions, where: WhereToConnect<SocketAddress>): ClientTerms | undefined {
  return tls === undefined ? undefined : clientTerms(ACTION, tls, hostOf(where))
}

/** The host or the address that is dialled; undefined for a path. */
function hostOf({ target }: WhereToConnect<SocketAddress>): string | undefined {
  if ('host' in target) return target.host
  return 'address' in target ? target.address : undefined
}

interface Ends<A> {
  readonly remoteAddress: A
  readonly localAddress: A
}

// What carries the bytes, and between whom.
async function carry<A extends SocketAddress>(
  where: WhereToConnect<A>,
  limits: DialLimits,
  settings: ConnectionSettings,
  steps: readonly Step[]
): Promise<Ends<A> & { transport: Transport }> {
  if (where.dial !== undefined) {
    if (steps.length > 0)
      throw new TypeError(`${ACTION} as 'proxyHeader' needs a socket, which 'where' does not have: received ${inspect(where)}`)
    return (await dialCustom(where.dial, where, limits)) as Carried & Ends<SocketAddress> as { transport: Transport } & Ends<A>
  }
  const dialled = await dial(where, limits, createDialSocket, steps)
  if (!isUnix(where.target)) setSilenceLimits(dialled.socket, settings)
  return { transport: new NetTransport(dialled.socket), ...addressesOf(where, dialled) }
}

function addressesOf<A extends SocketAddress>(where: WhereToConnect<A>, dialled: Dialled): Ends<A> {
  const { target } = where
  const addresses = isUnix(target) ? { remoteAddress: target, localAddress: UNNAMED } : inetAddresses(dialled)
  return addresses as { remoteAddress: SocketAddress; localAddress: SocketAddress } as { remoteAddress: A; localAddress: A }
}

function dialLimits(options: ConnectSocketOptions): DialLimits {
  checkOptions(ACTION, options)
  const { timeout = DEFAULT_TIMEOUT, signal } = options
  checkDuration(ACTION, 'timeout', timeout)
  checkSignal(ACTION, signal)
  return { timeout, signal }
}

function closeOptionsOf(options: WithConnectionOptions): Pick<WithConnectionOptions, 'forceAfter' | 'linger'> {
  checkOptions(ACTION, options)
  const { forceAfter, linger } = options
  if (forceAfter !== undefined) checkDelay(ACTION, 'forceAfter', forceAfter)
  if (linger !== undefined) checkDelay(ACTION, 'linger', linger)
  return { ...(forceAfter !== undefined && { forceAfter }), ...(linger !== undefined && { linger }) }
}

function checkWhere(where: unknown): void {
  const { target, bind } = (where ?? {}) as Partial<WhereToConnect<SocketAddress>>
  if (target === null || typeof target !== 'object' || bind === null || typeof bind !== 'object') {
    throw new TypeError(
      `${ACTION} as 'where' must be made by toHostAndPort, toInetAddress, toFile or toUnixAddress: received ${inspect(where)}`
    )
  }
}
