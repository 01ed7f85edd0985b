// Descriptors of where to connect to.

import { isIPv4, isIPv6 } from 'node:net'
import { inspect } from 'node:util'
import { checkUnixPath, type HostAndPort, type InetAddress, type SocketAddress, type UnixAddress } from './address.ts'
import { checkOptions, checkPort, checkString } from './options.ts'
import type { Transport } from './stream/transport.ts'

/** Where a connection comes from. */
export interface BindOptions {
  /**
   * Numeric local address to connect from.
   *
   * @default the system's choice
   */
  localAddress?: string
  /**
   * Local port to connect from, 0 to 65535; 0 lets the system choose.
   *
   * @default 0
   */
  localPort?: number
}

declare const addressType: unique symbol

/**
 * Where to connect: a value to pass to `connect`, `withConnection` or `connectSocket`. Created by {@link toHostAndPort},
 * {@link toInetAddress}, {@link toFile} and {@link toUnixAddress}. The type parameter is the kind of address, so that an internet socket
 * and a Unix socket can't be mixed up. Async: `where_to_connect`.
 */
export interface WhereToConnect<out A extends SocketAddress> {
  /** What to reach: a name and a port, or an address. */
  readonly target: HostAndPort | SocketAddress
  /** Where to connect from. */
  readonly bind: BindOptions
  /** How to get there without a socket, as `it-tcp/testing` does; absent where the operating system connects. */
  readonly dial?: CustomDial
  /** Carries the kind of address for the type checker; never there at run time. */
  readonly [addressType]?: A
}

/**
 * Starts to connect, and calls one of the functions once: with what carries the bytes, or with what the operating system would fail with. Returns the
 * function that gives up.
 */
export type CustomDial = (succeed: (carried: Carried) => void, fail: (error: Error) => void) => () => void

/** What is connected without a socket. */
export interface Carried {
  readonly transport: Transport
  readonly remoteAddress: InetAddress
  readonly localAddress: InetAddress
}

/** Where to connect over TCP. */
export type InetWhereToConnect = WhereToConnect<InetAddress>
/** Where to connect through a unix-domain socket. */
export type UnixWhereToConnect = WhereToConnect<UnixAddress>

/**
 * Describes a TCP endpoint by host name, or numeric address, and port. Async: `to_host_and_port`.
 *
 * An IPv6 address may be in brackets, as in URLs, and a link-local one needs its zone: `fe80::1%eth0`.
 *
 * @throws {TypeError} If an argument has the wrong type.
 * @throws {RangeError} If `host` is empty, has a NUL in it, or has brackets or a zone without an IPv6 address, or if `port` is not a whole
 * number from 1 to 65535.
 * @example
 * ```ts
 * await using connection = await connect(toHostAndPort('localhost', 7))
 * ```
 */
export function toHostAndPort(host: string, port: number, options: BindOptions = {}): WhereToConnect<InetAddress> {
  const action = 'Cannot describe where to connect'
  const bare = checkHost(action, host)
  checkPort(action, 'port', port, 1)
  return Object.freeze({ target: Object.freeze({ host: bare, port }), bind: bindOptions(action, options) })
}

/**
 * Describes a TCP endpoint by its numeric address. Async: `to_inet_address`.
 *
 * @throws {TypeError} If `address` is not an {@link InetAddress}.
 * @throws {RangeError} If its port is not a whole number from 1 to 65535.
 * @example
 * ```ts
 * const server = await listen(onPortChosenByOs({ host: '127.0.0.1' }))
 * await using connection = await connect(toInetAddress(server.address))
 * ```
 */
export function toInetAddress(address: InetAddress, options: BindOptions = {}): WhereToConnect<InetAddress> {
  const action = 'Cannot describe where to connect'
  checkInetAddress(action, address, 1)
  const { family, address: host, port } = address
  return Object.freeze({ target: Object.freeze({ family, address: host, port }), bind: bindOptions(action, options) })
}

/**
 * Describes a Unix-domain socket by its path; on Linux `'\0name'` is an abstract name. Async: `to_file`.
 *
 * @throws {TypeError} If `path` is not a string.
 * @throws {RangeError} If `path` is empty or longer than the system allows.
 * @example
 * ```ts
 * await using connection = await connect(toFile('/run/app.sock'))
 * ```
 */
export function toFile(path: string): WhereToConnect<UnixAddress> {
  checkUnixPath('Cannot describe where to connect', path)
  return Object.freeze({ target: Object.freeze({ family: 'unix', path }), bind: Object.freeze({}) })
}

/**
 * Describes a Unix-domain socket by its address. Async: `to_unix_address`.
 *
 * @throws {TypeError} If `address` is not a {@link UnixAddress}.
 * @throws {RangeError} If its path is empty or longer than the system allows.
 * @example
 * ```ts
 * const server = await listen(onFile('/run/app.sock'))
 * await using connection = await connect(toUnixAddress(server.address))
 * ```
 */
export function toUnixAddress(address: UnixAddress): WhereToConnect<UnixAddress> {
  if (address?.family !== 'unix') {
    throw new TypeError(`Cannot describe where to connect as 'address' must be a UnixAddress: received ${inspect(address)}`)
  }
  return toFile(address.path)
}

/** Checks an {@link InetAddress} whose port is `minimumPort` or more. */
export function checkInetAddress(action: string, address: InetAddress, minimumPort: number): void {
  const is = address?.family === 'IPv4' ? isIPv4 : address?.family === 'IPv6' ? isIPv6 : undefined
  if (is === undefined || typeof address.address !== 'string' || !is(address.address)) {
    throw new TypeError(`${action} as 'address' must be an InetAddress: received ${inspect(address)}`)
  }
  checkPort(action, 'port', address.port, minimumPort)
}

/** Checks a host name or numeric address, and gives it without the brackets that an IPv6 address has in URLs. */
function checkHost(action: string, host: string): string {
  checkString(action, 'host', host)
  const bare = host.startsWith('[') && host.endsWith(']') ? host.slice(1, -1) : host
  const isWrong = bare === host ? /[[\]]/.test(host) || (host.includes('%') && !isIPv6(host)) : !isIPv6(bare)
  if (isWrong) {
    throw new RangeError(
      `${action} as 'host' must be a name or a numeric address, without a port, such as 'localhost', '127.0.0.1', '::1' or '[::1]': received ${inspect(host)}`
    )
  }
  return bare
}

function bindOptions(action: string, options: BindOptions): BindOptions {
  checkOptions(action, options)
  const { localAddress, localPort } = options
  if (localAddress !== undefined && !(typeof localAddress === 'string' && (isIPv4(localAddress) || isIPv6(localAddress)))) {
    throw new TypeError(`${action} as 'localAddress' must be a numeric address: received ${inspect(localAddress)}`)
  }
  if (localPort !== undefined) checkPort(action, 'localPort', localPort, 0)
  return Object.freeze({ ...(localAddress !== undefined && { localAddress }), ...(localPort !== undefined && { localPort }) })
}
