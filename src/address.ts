// Socket addresses: what they are, how they print, and which are valid.

import { inspect } from 'node:util'

/** An IP address and a port. `address` is numeric; an IPv4 client of a dual-stack listener is an IPv4 address. */
export interface InetAddress {
  /** Which kind of IP address it is, and that it is no path. */
  readonly family: 'IPv4' | 'IPv6'
  /** The numeric address: `'127.0.0.1'`, `'::1'`. */
  readonly address: string
  /** The port, 0 to 65535. */
  readonly port: number
}

/** The path of a unix-domain socket; `'\0name'` is an abstract name (Linux), `''` an unnamed peer. */
export interface UnixAddress {
  /** That it is a path. */
  readonly family: 'unix'
  /** The path of the socket's file. */
  readonly path: string
}

/** The address of either end of a connection, or of a server; `family` says which kind. */
export type SocketAddress = InetAddress | UnixAddress

/** The address of a unix socket that was not bound, as a client's seldom is. */
export const UNNAMED: UnixAddress = Object.freeze({ family: 'unix', path: '' })

/** A host name, or a numeric address, that has yet to be looked up. */
export interface HostAndPort {
  /** The name, such as `'localhost'`, or a numeric address. */
  readonly host: string
  /** The port, 1 to 65535. */
  readonly port: number
}

// sun_path has 108 bytes on Linux and 104 on the BSDs and macOS. A path needs its closing NUL within them; an abstract
// name does not.
const UNIX_PATH_SIZE = process.platform === 'linux' ? 108 : 104
/** Bytes that the path of a unix socket's file may have. */
export const LONGEST_UNIX_PATH = UNIX_PATH_SIZE - 1

/**
 * Checks the path of a unix socket before anything happens with it: Node.js 20 and 22 would silently truncate one that
 * is too long. Windows has named pipes with limits of their own.
 */
export function checkUnixPath(action: string, path: unknown): void {
  if (typeof path !== 'string') throw new TypeError(`${action} as 'path' must be a string: received ${inspect(path)}`)
  if (path === '') throw new RangeError(`${action} as 'path' must not be empty: received ''`)
  const isAbstract = path.startsWith('\0')
  if (isAbstract && process.platform !== 'linux') {
    throw new RangeError(`${action} as abstract names are for Linux only: received ${inspect(path)}`)
  }
  if (!isAbstract && path.includes('\0')) {
    throw new RangeError(`${action} as 'path' must not contain a NUL: received ${inspect(path)}`)
  }
  if (process.platform === 'win32') return
  const limit = isAbstract ? UNIX_PATH_SIZE : LONGEST_UNIX_PATH
  const length = Buffer.byteLength(path)
  if (length > limit) {
    throw new RangeError(`${action} as 'path' must have at most ${limit} bytes on this system: received ${length} bytes, ${inspect(path)}`)
  }
}

const MAPPED_IPV4 = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i

/** An {@link InetAddress} from what the operating system reports: an IPv4-mapped IPv6 address is the IPv4 one. */
export function inetAddress(address: string, port: number): InetAddress {
  if (!address.includes(':')) return { family: 'IPv4', address, port }
  const mapped = MAPPED_IPV4.exec(address)?.[1]
  return mapped === undefined ? { family: 'IPv6', address, port } : { family: 'IPv4', address: mapped, port }
}

/** How an address is written in messages: `127.0.0.1:80`, `[::1]:80`, `/run/app.sock`, `@abstract`. */
export function formatAddress(address: SocketAddress | HostAndPort): string {
  if ('path' in address) {
    if (address.path === '') return '(unnamed)'
    return address.path.startsWith('\0') ? `@${address.path.slice(1)}` : address.path
  }
  const host = 'host' in address ? address.host : address.address
  return host.includes(':') ? `[${host}]:${address.port}` : `${host}:${address.port}`
}
