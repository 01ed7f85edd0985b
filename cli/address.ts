// Addresses as they are written on a command line, and as they are printed.

import {
  type InetWhereToConnect,
  type InetWhereToListen,
  onFile,
  onPort,
  type SocketAddress,
  toFile,
  toHostAndPort,
  type UnixWhereToConnect,
  type UnixWhereToListen
} from 'it-tcp'
import { UsageError } from './failure.ts'

const FORMS = 'write PORT, HOST:PORT, [IPV6]:PORT, or a path with a slash in it'

/** Where to listen: on all addresses if there is a port only, and on one that the system chooses if that is 0. */
export function parseListenAddress(text: string): InetWhereToListen | UnixWhereToListen {
  return checked(() => {
    const path = pathIn(text)
    if (path !== undefined) return onFile(path)
    const { host, port } = hostAndPortIn(text, 0)
    return onPort(port, host === undefined ? {} : { host })
  })
}

/** Where to connect: to this machine if there is a port only. */
export function parseConnectAddress(text: string): InetWhereToConnect | UnixWhereToConnect {
  return checked(() => {
    const path = pathIn(text)
    if (path !== undefined) return toFile(path)
    const { host, port } = hostAndPortIn(text, 1)
    return toHostAndPort(host ?? 'localhost', port)
  })
}

/** As it could be written on a command line. */
export function formatAddress(address: SocketAddress): string {
  if (address.family === 'unix') return address.path === '' ? 'unix' : address.path
  return address.family === 'IPv6' ? `[${address.address}]:${address.port}` : `${address.address}:${address.port}`
}

function pathIn(text: string): string | undefined {
  if (text.startsWith('unix:')) return text.slice('unix:'.length)
  return text.includes('/') ? text : undefined
}

function hostAndPortIn(text: string, minimum: number): { host: string | undefined; port: number } {
  // The host may be missing, with its colon or without: 8080, :8080.
  const match = /^(?:(\[[^\]]*\]|[^\s:[\]]*):)?([^\s:]*)$/.exec(text)
  if (match === null) {
    const hint = /^[\da-f:.]+$/i.test(text) ? 'an IPv6 address stands in brackets: [::1]:8080' : FORMS
    throw new UsageError(`not an address: '${text}'; ${hint}`)
  }
  const [, host = '', digits = ''] = match
  if (host === '' && !/^\d/.test(digits)) throw new UsageError(`not an address: '${text}'; ${FORMS}`)
  const port = Number(digits)
  if (!/^\d+$/.test(digits) || port < minimum || port > 65_535) {
    throw new UsageError(`not a port: '${digits}' in '${text}'; ports here go from ${minimum} to 65535`)
  }
  const bare = host.replace(/^\[|\]$/g, '')
  if (host !== '' && bare === '') throw new UsageError(`not an address: '${text}'; ${FORMS}`)
  return { host: bare === '' ? undefined : bare, port }
}

// What the library refuses, such as a path that is too long, is a mistake in the arguments too.
function checked<T>(make: () => T): T {
  try {
    return make()
  } catch (error) {
    if (error instanceof RangeError || error instanceof TypeError) throw new UsageError(error.message)
    throw error
  }
}
