// Descriptors of where to listen.

import { inspect } from 'node:util'
import { checkUnixPath, type InetAddress, type SocketAddress, type UnixAddress } from './address.ts'
import { checkBoolean, checkCount, checkFunction, checkOptions, checkPort, checkString } from './options.ts'
import type { Gate, GateOptions } from './server/gate.ts'
import { takeInherited } from './system/inherited-descriptors.ts'
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
export type ListenTarget = SystemListenTarget | CustomListenTarget

/** What the operating system can bind a listener to. */
export type SystemListenTarget =
  | ({ readonly kind: 'inet'; readonly port: number } & OnPortOptions)
  | { readonly kind: 'unix'; readonly path: string; readonly mode?: number }
  | { readonly kind: 'descriptor'; readonly fd: number; readonly duplicate?: boolean }

/** A listener that is no socket, as `it-tcp/testing` has them: whoever made the target makes its gate. */
export interface CustomListenTarget {
  readonly kind: 'custom'
  /** The address asked for. */
  readonly address: InetAddress
  /** Starts to listen, with the gate shut. Throws what the operating system would fail with. */
  bind(options: GateOptions): { readonly gate: Gate; readonly address: InetAddress }
}

/**
 * Where to listen: a value to pass to `listen` or `Server.create`. Created by {@link onPort}, {@link onPortChosenByOs},
 * {@link onFile}, {@link onFileDescriptor}, {@link onInherited} and `WhereToListen.create`. The first type parameter is the kind of address, the second what
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
/** Descriptors are C `int`s. */
const HIGHEST_DESCRIPTOR = 2 ** 31 - 1

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
 * Describes a TCP listener on a port that the system chooses; `server.listeningOn` says which. If another process takes the port in
 * between, another one is tried, up to 10 times. Async: `on_port_chosen_by_os`.
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

/** How the file of a Unix listener is created. */
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

/** What happens to a descriptor that is listened on. */
export interface OnFileDescriptorOptions {
  /**
   * Whether the server works on a duplicate of the descriptor, which stays the caller's and may be listened on again, also by other threads: each has a
   * gate of its own on the one queue. Takes the kernel's calls that the kernel gate takes.
   *
   * @default false
   */
  duplicate?: boolean
}

/**
 * Describes a listening socket that is already open: inherited from a parent process ({@link onInherited} for systemd's), or another
 * server's `listeningSocket.fd`, with `duplicate`. `listeningOn` is its address; the file of a Unix socket is left to whoever created it.
 * Async has `create_from_socket` for this.
 *
 * Without `duplicate` the server owns the descriptor once `listen` resolves: it works on a duplicate, whose number is `listeningSocket.fd`,
 * and closes both at the end. Until then the given number refers to the null device, so that any further use of it is refused. Standard
 * input, output and error continue to refer to it afterwards.
 *
 * @throws {TypeError} If `fd` is not a number, or an option has the wrong type.
 * @throws {RangeError} If `fd` is not a whole number from 0 to 2147483647.
 * @example
 * ```ts
 * const first = await listen(onPort(8080))
 * // Usually in another thread, which is told the number.
 * const second = await listen(onFileDescriptor(first.listeningSocket.fd, { duplicate: true }))
 * console.log(second.address)
 * ```
 */
export function onFileDescriptor(fd: number, options: OnFileDescriptorOptions = {}): WhereToListen<SocketAddress, SocketAddress> {
  checkCount(ACTION, 'fd', fd, 0)
  if (fd > HIGHEST_DESCRIPTOR) {
    throw new RangeError(`${ACTION} as 'fd' must be a whole number from 0 to ${HIGHEST_DESCRIPTOR}: received ${inspect(fd)}`)
  }
  checkOptions(ACTION, options)
  const { duplicate } = options
  if (duplicate !== undefined) checkBoolean(ACTION, 'duplicate', duplicate)
  return describe({ kind: 'descriptor', fd, ...(duplicate !== undefined && { duplicate }) }, (address: SocketAddress) => address)
}

/**
 * Describes a listening socket that systemd, or another program that speaks its protocol, has opened and handed over: the one called `name`
 * (`FileDescriptorName=`), or without a name the only one. Undefined if this process was given none, so that `??` can say what to do
 * instead. `listeningOn` is its address.
 *
 * The first call takes `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` out of the environment and keeps child processes from inheriting the
 * descriptors; variables meant for another process are left alone. Each socket is handed out once, several with the same name one after the
 * other; a later call returns undefined, and so does every call in a worker thread.
 *
 * @throws {TypeError} If `name` is not a string.
 * @throws {RangeError} If sockets are left but none is called `name`, or several are and no name is given; the message lists them. Also if
 * a variable is malformed.
 * @example
 * ```ts
 * // Started by systemd, or by hand.
 * const server = await listen(onInherited('web') ?? onPort(8080))
 * console.log(server.address)
 * ```
 */
export function onInherited(name?: string): WhereToListen<SocketAddress, SocketAddress> | undefined {
  if (name !== undefined) checkString(ACTION, 'name', name)
  const fd = takeInherited(ACTION, name)
  return fd === undefined ? undefined : onFileDescriptor(fd)
}

/** Makes a {@link WhereToListen} whose `listeningOn` is yours to choose. Async: `Where_to_listen.create`. */
export const WhereToListen = Object.freeze({
  /**
   * Describes a listener on `address`, with `server.listeningOn` computed by `listeningOn` from the address actually bound.
   * Async's `socket_type` follows from `address.family`.
   *
   * @throws {TypeError} If `address` is not an address or `listeningOn` is not a function.
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
    checkOptions(ACTION, init)
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
