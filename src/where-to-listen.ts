// Descriptors of where to listen.

import { inspect } from 'node:util'
import { checkUnixPath, type InetAddress, type SocketAddress, type UnixAddress } from './address.ts'
import { checkBoolean, checkCount, checkFunction, checkOptions, checkPort, checkString } from './options.ts'
import { checkInetAddress } from './where-to-connect.ts'

/** How a TCP listener is bound. */
export interface OnPortOptions {
  /**
   * Name or numeric address of the interface.
   *
   * @default all addresses: dual-stack `::`, or `0.0.0.0` where there is no IPv6
   */
  host?: string
  /**
   * Whether an IPv6 listener leaves IPv4 clients alone.
   *
   * @default false
   */
  ipv6Only?: boolean
  /**
   * Whether several processes may bind the port, each with a queue of its own (SO_REUSEPORT). A server whose gate is shut
   * strands the clients that the kernel has put into its share.
   *
   * @default false
   */
  reusePort?: boolean
}

/** What the listener is bound to. */
export type ListenTarget =
  | ({ readonly kind: 'inet'; readonly port: number } & OnPortOptions)
  | { readonly kind: 'unix'; readonly path: string; readonly mode?: number }
  | { readonly kind: 'descriptor'; readonly fd: number }

/**
 * Where to listen: a value to hand to `listen` or `Server.create`. Made by {@link onPort}, {@link onPortChosenByOs},
 * {@link onFile}, {@link onFileDescriptor} and `WhereToListen.create`. The first type parameter is the kind of address, the second what
 * `server.listeningOn` is. Async: `Where_to_listen.t`.
 */
export interface WhereToListen<out A extends SocketAddress, out L> {
  /** What the listener is to be bound to. */
  readonly target: ListenTarget
  /**
   * Makes `server.listeningOn` from the address really bound; called once.
   *
   * @throws Whatever the function given to `WhereToListen.create` throws.
   */
  listeningOn(address: never): L
  /** Carries the kind of address for the type checker; never there at run time. */
  readonly [addressType]?: A
}

declare const addressType: unique symbol

/** Where to listen over TCP; `server.listeningOn` is the port. */
export type InetWhereToListen = WhereToListen<InetAddress, number>
/** Where to listen on a unix-domain socket; `server.listeningOn` is the path. */
export type UnixWhereToListen = WhereToListen<UnixAddress, string>

const ACTION = 'Cannot describe where to listen'

/**
 * Describes a TCP listener on `port`; 0 lets the system choose. Binds all addresses unless `host` is given. Async: `on_port`.
 *
 * @throws {TypeError} If an argument has the wrong type.
 * @throws {RangeError} If `port` is not a whole number from 0 to 65535, or `host` is empty.
 * @example
 * ```ts
 * const server = await listen(onPort(8080, { host: '127.0.0.1' }))
 * ```
 */
export function onPort(port: number, options: OnPortOptions = {}): WhereToListen<InetAddress, number> {
  checkPort(ACTION, 'port', port, 0)
  checkOptions(ACTION, options)
  const { host, ipv6Only, reusePort } = options
  if (host !== undefined) checkString(ACTION, 'host', host)
  if (ipv6Only !== undefined) checkBoolean(ACTION, 'ipv6Only', ipv6Only)
  if (reusePort !== undefined) checkBoolean(ACTION, 'reusePort', reusePort)
  const target = {
    kind: 'inet',
    port,
    ...(host !== undefined && { host }),
    ...(ipv6Only !== undefined && { ipv6Only }),
    ...(reusePort !== undefined && { reusePort })
  } as const
  return describe(target, (address: InetAddress) => address.port)
}

/**
 * Describes a TCP listener on a port that the system chooses; `server.listeningOn` tells which. If another process takes the
 * port in between, another is tried, up to 10 times. Async: `on_port_chosen_by_os`.
 *
 * @throws {TypeError} If an option has the wrong type.
 * @throws {RangeError} If `host` is empty.
 * @example
 * ```ts
 * const server = await listen(onPortChosenByOs({ host: '127.0.0.1' }))
 * console.log(`http://127.0.0.1:${server.listeningOn}/`)
 * ```
 */
export function onPortChosenByOs(options: OnPortOptions = {}): WhereToListen<InetAddress, number> {
  return onPort(0, options)
}

/** How the file of a unix listener is made. */
export interface OnFileOptions {
  /**
   * Permission bits of the socket's file, 0 to 0o777, set before the first client can connect.
   *
   * @default as the umask says
   */
  mode?: number
}

/**
 * Describes a unix-domain listener on `path`; on Linux `'\0name'` is an abstract name, which has no file. Async: `on_file`.
 *
 * @throws {TypeError} If an argument has the wrong type.
 * @throws {RangeError} If `path` is empty or longer than the system allows, or `mode` has other bits than 0o777.
 * @example
 * ```ts
 * const server = await listen(onFile('/run/app.sock', { mode: 0o660 }))
 * console.log(server.listeningOn) // /run/app.sock
 * ```
 */
export function onFile(path: string, options: OnFileOptions = {}): WhereToListen<UnixAddress, string> {
  checkUnixPath(ACTION, path)
  checkOptions(ACTION, options)
  const { mode } = options
  if (mode !== undefined) {
    checkCount(ACTION, 'mode', mode, 0)
    if (mode > 0o777) throw new RangeError(`${ACTION} as 'mode' must be from 0 to 0o777: received ${inspect(mode)}`)
    if (path.startsWith('\0')) throw new TypeError(`${ACTION} as an abstract name has no file to set 'mode' of: received ${inspect(mode)}`)
  }
  return describe({ kind: 'unix', path, ...(mode !== undefined && { mode }) }, (address: UnixAddress) => address.path)
}

/**
 * Describes a listening socket that this process has inherited: from systemd's socket activation, or from a parent process.
 * `listeningOn` is its address. The server owns the descriptor once `listen` is called with it, and closes it at the end; the
 * file of a unix socket is left to whoever made it. Async has `create_from_socket` for this.
 *
 * @throws {TypeError} If `fd` is not a number.
 * @throws {RangeError} If `fd` is not a whole number of 0 or more.
 * @example
 * ```ts
 * // Started by systemd, whose sockets begin at 3.
 * const server = await listen(process.env.LISTEN_FDS === undefined ? onPort(8080) : onFileDescriptor(3))
 * console.log(server.address)
 * ```
 */
export function onFileDescriptor(fd: number): WhereToListen<SocketAddress, SocketAddress> {
  checkCount(ACTION, 'fd', fd, 0)
  return describe({ kind: 'descriptor', fd }, (address: SocketAddress) => address)
}

/** Makes a {@link WhereToListen} whose `listeningOn` is yours to choose. Async: `Where_to_listen.create`. */
export const WhereToListen = Object.freeze({
  /**
   * Describes a listener on `address`, with `server.listeningOn` made by `listeningOn` from the address really bound.
   * Async's `socket_type` follows from `address.family`.
   *
   * @throws {TypeError} If `address` is no address or `listeningOn` no function.
   * @throws {RangeError} If the port or the path is out of range.
   * @example
   * ```ts
   * const where = WhereToListen.create({
   *   address: { family: 'IPv4', address: '127.0.0.1', port: 8080 },
   *   listeningOn: ({ address, port }) => `http://${address}:${port}/`
   * })
   * const server = await listen(where)
   * console.log(server.listeningOn) // http://127.0.0.1:8080/
   * ```
   */
  create<A extends SocketAddress, L>(init: { address: A; listeningOn: (address: A) => L }): WhereToListen<A, L> {
    const { address, listeningOn } = init
    checkFunction(ACTION, 'listeningOn', listeningOn)
    if (address?.family === 'unix') return describe(onFile(address.path).target, listeningOn)
    checkInetAddress(ACTION, address as InetAddress, 0)
    const { address: host, port } = address as InetAddress
    return describe({ kind: 'inet', host, port }, listeningOn)
  }
})

function describe<A extends SocketAddress, L>(target: ListenTarget, listeningOn: (address: A) => L): WhereToListen<A, L> {
  return Object.freeze({ target: Object.freeze(target), listeningOn })
}
