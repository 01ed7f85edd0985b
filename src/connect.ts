// Dialling: name resolution, attempts, timeout, signal, and a connection that lasts as long as a function.

import { lookup as dnsLookup } from 'node:dns/promises'
import { setMaxListeners } from 'node:events'
import { isIP, type NetConnectOpts, Socket } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import type { TLSSocket } from 'node:tls'
import { inspect } from 'node:util'
import { type HostAndPort, type InetAddress, inetAddress, type SocketAddress, UNNAMED, type UnixAddress } from './address.ts'
import { onceAborted, raceSignal } from './async/abort.ts'
import { startTimer } from './async/timer.ts'
import type { Connection } from './connection.ts'
import { ConnectError, ConnectTimeoutError } from './errors.ts'
import {
  type ConnectOptions,
  type ConnectSocketOptions,
  checkDuration,
  checkFunction,
  checkOptions,
  checkSignal,
  connectionSettings,
  DEFAULT_TIMEOUT
} from './options.ts'
import { openConnection } from './stream/connection-facade.ts'
import { createDialSocket, setKeepAlive, socketAddresses } from './stream/net-socket.ts'
import { NetTransport } from './stream/net-transport.ts'
import { clientTerms } from './tls/client-options.ts'
import { secureDialled, secureSocket } from './tls/secure-dialled.ts'
import { upgradeTo } from './tls/start-tls.ts'
import type { TlsClientOptions } from './tls.ts'
import type { BindOptions, WhereToConnect } from './where-to-connect.ts'

const ACTION = 'Cannot connect'
/** Milliseconds that an attempt is ahead of the next: RFC 8305's recommended Connection Attempt Delay. */
const ATTEMPT_DELAY = 250
/** Milliseconds before another try at a unix socket whose queue is full: doubled from the first to the last. */
const FIRST_RETRY = 1
const LAST_RETRY = 64

/**
 * Opens a socket to `where`, for those who want to use `node:net` itself. Async: `connect_sock`.
 *
 * Resolves with a socket that is connected and paused: no byte has been read, `resume()`, `pipe()` or iterating starts
 * that. It stays open for writing after the peer's FIN (`allowHalfOpen`), and TCP_NODELAY is on.
 *
 * Ownership: from then on the socket is the caller's, with its events, errors and closing; no listener is left on it.
 * Cancellation: if `signal` aborts or `timeout` passes first, every attempt is destroyed and nothing stays open. Later
 * neither has an effect. A name that is being looked up can't be called back: its answer is ignored.
 * May be called any number of times at once. In Async only the first address of a name is tried.
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
  const limits = dialLimits(options)
  const terms = options.tls === undefined ? undefined : clientTerms(ACTION, options.tls, hostOf(where.target))
  const startedAt = performance.now()
  const socket = await dial(where, limits, () => new Socket({ allowHalfOpen: true }))
  return terms === undefined ? socket : await secureSocket(socket, terms, where.target, limits, startedAt)
}

/**
 * Opens a connection to `where`. Async: `connect`.
 *
 * Resolves once it is connected. A host name is resolved here, and its addresses are tried as RFC 8305 says: IPv6 and IPv4
 * take turns, each attempt has a head start of 250 ms, the first that connects wins and the others are destroyed. A
 * unix socket whose queue is full is tried again until `timeout`.
 *
 * Ownership: the connection is the caller's to close; hold it with `await using`, or use {@link withConnection}.
 * Cancellation: if `signal` aborts or `timeout` passes first, every attempt is destroyed and nothing stays open. Once the
 * connection exists neither has an effect. A name that is being looked up can't be called back: its answer is ignored.
 * May be called any number of times at once.
 *
 * Differs from Async: `timeout` and `signal` cover name resolution and all attempts together, and every address is
 * tried, not only the first.
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
  const terms = options.tls === undefined ? undefined : clientTerms(ACTION, options.tls, hostOf(where.target))
  const startedAt = performance.now()
  const settings = connectionSettings(ACTION, options)
  const socket = await dial(where, limits, createDialSocket)
  if (!isUnix(where.target)) setKeepAlive(socket, settings.keepAlive)
  const upgrade = upgradeTo(hostOf(where.target))
  const connection = openConnection<A>(new NetTransport(socket), settings, { ...addressesOf(where, socket), isAccepted: false, upgrade })
  if (terms !== undefined) await secureDialled(connection, terms, where.target, limits, startedAt)
  return connection.facade
}

/**
 * Opens a connection to `where`, calls `fn` with it, and closes it. Async: `with_connection`.
 *
 * Resolves with what `fn` returns, or rejects, after `fn` has ended and the descriptor is closed.
 *
 * Ownership: the connection is closed as `connection.close()` does, also when `fn` throws: what was written is handed over
 * first, for up to 30 s. A function that does not want its peer to take half a message for a whole one calls `connection.abort()`.
 * Cancellation: `timeout` and `signal` are for connecting, as in {@link connect}; they never end `fn`. A connection that
 * breaks meanwhile is told by `connection.signal`; `fn` is always awaited.
 * May be called any number of times at once.
 *
 * @throws Whatever `fn` throws.
 * @throws {ConnectionResetError} If `fn` succeeded, but the connection broke before what it wrote was handed over.
 * @throws {ConnectionClosedError} If `fn` succeeded, but the peer did not take what it wrote within 30 s, or `fn` aborted the
 * connection before.
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
  options: ConnectOptions,
  fn: (connection: Connection<A>) => T | Promise<T>
): Promise<T>
export function withConnection<T>(where: WhereToConnect<SocketAddress>, fn: (connection: Connection) => T | Promise<T>): Promise<T>
export function withConnection<T>(
  where: WhereToConnect<SocketAddress>,
  options: ConnectOptions,
  fn: (connection: Connection) => T | Promise<T>
): Promise<T>
export async function withConnection<A extends SocketAddress, T>(
  where: WhereToConnect<A>,
  ...rest:
    | [fn: (connection: Connection<A>) => T | Promise<T>]
    | [options: ConnectOptions, fn: (connection: Connection<A>) => T | Promise<T>]
): Promise<T> {
  const [options, fn] = rest.length === 1 ? [{}, rest[0]] : rest
  checkFunction(ACTION, 'fn', fn)
  const connection = await connect(where, options)
  try {
    const result = await fn(connection)
    await connection.close()
    return result
  } catch (error) {
    await connection.close().catch(ignore)
    throw error
  }
}

/** Every address of a host name, in the order in which the resolver would have them tried. */
export type Lookup = (host: string) => Promise<{ address: string; family: number }[]>

const systemLookup: Lookup = (host) => dnsLookup(host, { all: true, order: 'verbatim' })

/** {@link ConnectSocketOptions} with the default filled in. */
export interface DialLimits {
  readonly timeout: number
  readonly signal: AbortSignal | undefined
}

/** Connects one of the sockets that `createSocket` makes to `where`: paused, and with no listener left on it. */
export async function dial(
  { target, bind }: WhereToConnect<SocketAddress>,
  { timeout, signal }: DialLimits,
  createSocket: () => Socket,
  lookup: Lookup = systemLookup
): Promise<Socket> {
  signal?.throwIfAborted()
  const ended = new AbortController()
  let lastFailure: Error | undefined
  const stopTimer = startTimer(timeout, () => ended.abort(TIMED_OUT))
  const unhook = onceAborted(signal, (reason) => ended.abort(reason))
  try {
    const endpoints = isUnix(target) ? [{ path: target.path }] : await resolve(target, bind, lookup, ended.signal)
    const attempts = endpoints.map((endpoint) => (isLost: AbortSignal) => {
      return attempt(endpoint, createSocket, isLost, (error) => {
        lastFailure = error
      })
    })
    const outcome = await race(attempts, ended.signal)
    if (outcome instanceof Socket) return outcome
    throw attemptsFailed(target, endpoints, outcome)
  } catch (error) {
    // Made here and not in the timer, so that the stack shows who called.
    if (error === TIMED_OUT) throw new ConnectTimeoutError(target, timeout, lastFailure && { cause: lastFailure })
    throw error
  } finally {
    stopTimer()
    unhook()
  }
}

const TIMED_OUT = Symbol('timed out')

/** Where a single attempt goes. */
type Endpoint = { path: string } | { host: string; port: number; localAddress?: string; localPort?: number }

/** The addresses of `target`, those of IPv6 and IPv4 taking turns (RFC 8305, section 4). */
async function resolve(target: HostAndPort | InetAddress, bind: BindOptions, lookup: Lookup, signal: AbortSignal): Promise<Endpoint[]> {
  const host = 'host' in target ? target.host : target.address
  const family = isIP(host)
  let found = [{ address: host, family }]
  if (family === 0) {
    try {
      found = await raceSignal(lookup(host), signal)
    } catch (error) {
      signal.throwIfAborted()
      throw new ConnectError(target, error)
    }
  }
  const { localAddress } = bind
  const usable = localAddress === undefined ? found : found.filter((address) => address.family === isIP(localAddress))
  if (usable.length === 0) throw new ConnectError(target, new Error(`no address of it can be reached from ${localAddress}`))
  const firsts = usable.filter((address) => address.family === usable[0]?.family)
  const others = usable.filter((address) => address.family !== usable[0]?.family)
  const inTurns = usable.flatMap((_, index) => [...firsts.slice(index, index + 1), ...others.slice(index, index + 1)])
  return inTurns.map(({ address }) => ({ ...bind, host: address, port: target.port }))
}

/**
 * Runs the attempts as RFC 8305 (section 5) says: the next one starts when the latest has failed, or has had its head start. Resolves
 * with the first socket, the other attempts given up, or with the error of every attempt; rejects if `signal` aborts.
 */
function race(attempts: readonly ((isLost: AbortSignal) => Promise<Socket>)[], signal: AbortSignal): Promise<Socket | Error[]> {
  const lost = new AbortController()
  // One listener for each attempt that is under way: a name may have any number of addresses.
  setMaxListeners(0, lost.signal)
  const errors: Error[] = []
  let numFailed = 0
  let latest = -1
  let headStart: NodeJS.Timeout | undefined
  return new Promise<Socket | Error[]>((settle, reject) => {
    signal.throwIfAborted()
    onceAborted(signal, (reason) => {
      giveUp()
      reject(reason)
    })
    startNext()

    function startNext(): void {
      clearTimeout(headStart)
      const index = ++latest
      const start = attempts[index]
      if (start === undefined) return
      if (index + 1 < attempts.length) headStart = setTimeout(startNext, ATTEMPT_DELAY)
      start(lost.signal).then(
        (socket) => {
          // Two can connect before either is told.
          if (lost.signal.aborted) return void socket.destroy()
          giveUp()
          settle(socket)
        },
        (error: Error) => {
          if (lost.signal.aborted) return
          errors[index] = error
          if (++numFailed === attempts.length) settle(errors)
          else if (index === latest) startNext()
        }
      )
    }

    function giveUp(): void {
      clearTimeout(headStart)
      lost.abort()
    }
  })
}

/** Connects one socket to `endpoint`, again while that fails only for the moment. */
async function attempt(
  endpoint: Endpoint,
  createSocket: () => Socket,
  isLost: AbortSignal,
  onFailure: (error: Error) => void
): Promise<Socket> {
  for (let delay = FIRST_RETRY; ; delay = Math.min(2 * delay, LAST_RETRY)) {
    try {
      const socket = await open(endpoint, createSocket, isLost)
      if (!isSelfConnected(socket, endpoint)) return socket
      // RST, so that the port is free again for whoever is to listen there.
      socket.on('error', ignore).resetAndDestroy()
    } catch (error) {
      if (isLost.aborted) throw error
      onFailure(error as Error)
      if (!('path' in endpoint && (error as NodeJS.ErrnoException).code === 'EAGAIN')) throw error
    }
    await wait(delay, undefined, { signal: isLost })
  }
}

/** Connects one socket to `endpoint`, once. Destroys it when `isLost` aborts. */
function open(endpoint: Endpoint, createSocket: () => Socket, isLost: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createSocket()
    const unhook = onceAborted(isLost, (reason) => {
      // Its error listener stays: an error may be on its way.
      socket.removeListener('connect', onConnect).destroy()
      reject(reason)
    })
    socket.on('connect', onConnect).on('error', onError)
    // Paused, since Node.js would start to read when it is connected.
    socket.pause()
    // Node.js's own Happy Eyeballs gives each address 250 ms and no more (https://github.com/nodejs/node/issues/54359).
    socket.connect({ ...endpoint, autoSelectFamily: false } as NetConnectOpts)

    function onConnect(): void {
      unhook()
      socket.removeListener('connect', onConnect).removeListener('error', onError)
      if (!('path' in endpoint)) socket.setNoDelay(true)
      resolve(socket)
    }

    function onError(error: Error): void {
      unhook()
      reject(error)
    }
  })
}

/**
 * Whether `socket` is connected to itself. If nobody listens on a port of this machine that is one of those the system chooses
 * from, it may choose that very port for our end, and TCP's simultaneous open makes a connection of it. Another try, as in
 * Go, gets another port and with it the truth: connection refused.
 */
function isSelfConnected(socket: Socket, endpoint: Endpoint): boolean {
  // Who asks for the port by number may want just that.
  if ('path' in endpoint || endpoint.localPort) return false
  return socket.localPort === endpoint.port && socket.localAddress === socket.remoteAddress
}

function attemptsFailed(target: HostAndPort | SocketAddress, endpoints: readonly Endpoint[], causes: readonly Error[]): ConnectError {
  if (causes.length === 1) return new ConnectError(target, causes[0])
  const errors = endpoints.map((endpoint, index) => {
    return 'path' in endpoint ? causes[index] : new ConnectError(inetAddress(endpoint.host, endpoint.port), causes[index])
  })
  // The first address is the one that the resolver thinks best.
  return new ConnectError(target, causes[0], errors)
}

function addressesOf<A extends SocketAddress>(where: WhereToConnect<A>, socket: Socket): { remoteAddress: A; localAddress: A } {
  const { target } = where
  const addresses = isUnix(target) ? { remoteAddress: target, localAddress: UNNAMED } : socketAddresses(socket)
  return addresses as { remoteAddress: SocketAddress; localAddress: SocketAddress } as { remoteAddress: A; localAddress: A }
}

function isUnix(target: HostAndPort | SocketAddress): target is UnixAddress {
  return 'path' in target
}

function dialLimits(options: ConnectSocketOptions): DialLimits {
  checkOptions(ACTION, options)
  const { timeout = DEFAULT_TIMEOUT, signal } = options
  checkDuration(ACTION, 'timeout', timeout)
  checkSignal(ACTION, signal)
  return { timeout, signal }
}

function checkWhere(where: unknown): void {
  const { target, bind } = (where ?? {}) as Partial<WhereToConnect<SocketAddress>>
  if (target === null || typeof target !== 'object' || bind === null || typeof bind !== 'object') {
    throw new TypeError(
      `${ACTION} as 'where' must be made by toHostAndPort, toInetAddress, toFile or toUnixAddress: received ${inspect(where)}`
    )
  }
}

function ignore(): void {}

/** The host or the address that is dialled; undefined for a path. */
function hostOf(target: SocketAddress | HostAndPort): string | undefined {
  if ('host' in target) return target.host
  return 'address' in target ? target.address : undefined
}
