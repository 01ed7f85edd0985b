// Addresses as they are written on a command line, and as they are printed.

import { isIP } from 'node:net'
import {
  type InetWhereToConnect,
  type InetWhereToListen,
  onFile,
  onFileDescriptor,
  onInherited,
  onPort,
  type SocketAddress,
  toFile,
  toHostAndPort,
  type UnixWhereToConnect,
  type UnixWhereToListen,
  type WhereToListen
} from 'it-tcp'
import { UsageError } from './failure.ts'

export type ListenPlace = InetWhereToListen | UnixWhereToListen | WhereToListen<SocketAddress, SocketAddress>
export type Target = InetWhereToConnect | UnixWhereToConnect

const FORMS = 'must be PORT, HOST:PORT, [IPV6]:PORT, or a path with a slash in it'
/** Ports that people leave out of a URL. */
const PORTS: Readonly<Record<string, string>> = { 'http:': '80', 'https:': '443' }

/** Where to listen: on all addresses if there is a port only, and on one that the system chooses if that is 0. */
export function parseListenAddress(text: string): ListenPlace {
  return checked(() => {
    const path = pathIn(text)
    if (path !== undefined) return onFile(path)
    const inherited = /^fd:(.*)$/.exec(text)?.[1]
    if (inherited !== undefined) return onFileDescriptor(descriptorIn(inherited, text))
    const named = /^inherited(?::(.+))?$/.exec(text)
    if (named !== null) return inheritedSocket(named[1])
    const { host, port } = hostAndPortIn(text, 0)
    return onPort(port, host === undefined ? {} : { host })
  })
}

/** Where to connect: to this machine if there is a port only. */
export function parseConnectAddress(text: string): Target {
  return checked(() => {
    const path = pathIn(text)
    if (path !== undefined) return toFile(path)
    if (/^(?:fd:\d+|inherited(?::.+)?)$/.test(text))
      throw new UsageError(`must be an address to connect to; an inherited socket can only be listened on: received '${text}'`)
    const { host, port } = hostAndPortIn(text, 1)
    return toHostAndPort(host ?? 'localhost', port)
  })
}

/** A numeric address, without a port. */
export function parseNumericAddress(text: string): string {
  if (isIP(text) === 0) throw new UsageError(`must be a numeric address without a port: received '${text}'`)
  return text
}

/** The same place, whose file has these permission bits. */
export function withMode(where: ListenPlace, mode: number): ListenPlace {
  const { target } = where
  if (target.kind !== 'unix') throw new UsageError('--mode is only for Unix sockets')
  return onFile(target.path, { mode })
}

/** The same target, reached from this address. */
export function withSource(where: Target, localAddress: string): Target {
  const { target } = where
  if ('family' in target) throw new UsageError('--source is only for TCP')
  return toHostAndPort(target.host, target.port, { localAddress })
}

/** As it could be written on a command line. */
export function formatAddress(address: SocketAddress): string {
  if (address.family === 'unix') return address.path === '' ? 'unix' : address.path
  return address.family === 'IPv6' ? `[${address.address}]:${address.port}` : `${address.address}:${address.port}`
}

/** Where to connect, as it could be written on a command line. */
export function formatTarget({ target }: Target): string {
  if ('family' in target) return formatAddress(target)
  return target.host.includes(':') ? `[${target.host}]:${target.port}` : `${target.host}:${target.port}`
}

function pathIn(text: string): string | undefined {
  if (/^unix:\/\/\//.test(text)) return text.slice('unix://'.length)
  if (/^[a-z][a-z\d+.-]*:\/\//i.test(text)) throw new UsageError(`must be HOST:PORT${withoutScheme(text)}, not a URL: received '${text}'`)
  if (text.startsWith('unix:')) return text.slice('unix:'.length)
  return text.includes('/') ? text : undefined
}

/** What was meant, where that can be told. */
function withoutScheme(text: string): string {
  if (!URL.canParse(text)) return ''
  const { protocol, hostname, port } = new URL(text)
  const number = port === '' ? PORTS[protocol] : port
  return hostname === '' || number === undefined ? '' : `, here ${hostname}:${number}`
}

function inheritedSocket(name: string | undefined): ListenPlace {
  const where = name === undefined ? onInherited() : onInherited(name)
  if (where === undefined) throw new UsageError('must be where to listen: systemd has handed over no socket')
  return where
}

function descriptorIn(digits: string, text: string): number {
  const fd = Number(digits)
  if (!/^\d{1,9}$/.test(digits)) throw new UsageError(`must be fd: and the number of a descriptor, such as fd:3: received '${text}'`)
  return fd
}

function hostAndPortIn(text: string, minimum: number): { host: string | undefined; port: number } {
  if (isIP(text) === 6) throw new UsageError(`must have a port, with the IPv6 address in brackets, [${text}]:8080: received '${text}'`)
  // The host may be missing, with its colon or without: 8080, :8080.
  const match = /^(?:(\[[^\]]*\]|[^\s:[\]]*):)?([^\s:]*)$/.exec(text)
  if (match === null)
    throw new UsageError(`${/^[\da-f:.]+$/i.test(text) ? 'must have the IPv6 address in brackets, [::1]:8080' : FORMS}: received '${text}'`)
  const [, host = '', digits = ''] = match
  const bare = host.replace(/^\[|\]$/g, '')
  if ((host === '' && !/^\d/.test(digits)) || (host !== '' && bare === '')) throw new UsageError(`${FORMS}: received '${text}'`)
  const port = Number(digits)
  if (!/^\d+$/.test(digits) || port < minimum || port > 65_535) {
    throw new UsageError(`must have a port from ${minimum} to 65535: received '${text}'`)
  }
  return { host: bare === '' ? undefined : bare, port }
}

// What the library refuses, such as a path that is too long, is a mistake in the arguments too.
function checked<T>(make: () => T): T {
  try {
    return make()
  } catch (error) {
    if (error instanceof RangeError || error instanceof TypeError) throw new UsageError(error.message.replace(/^Cannot .*? as '\w+' /, ''))
    throw error
  }
}
