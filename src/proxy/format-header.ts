// A PROXY header to send: its arguments checked, then its bytes.

import { isIPv4, isIPv6 } from 'node:net'
import { inspect } from 'node:util'
import type { SocketAddress } from '../address.ts'
import { checkBoolean, checkPort } from '../options.ts'
import { crc32c } from './crc32c.ts'
import {
  ADDRESS_LENGTHS,
  CHECKSUM_LENGTH,
  PREAMBLE,
  type ProxiedHeaderInit,
  type ProxyHeaderInit,
  SIGNATURE,
  TLV,
  UNIX_PATH_SIZE
} from './header.ts'
import { bytesOf, inetAddressOf, textOfMapped, toSixteen } from './ip-bytes.ts'
import { whyNotValue } from './version-2.ts'

const LOCAL_COMMAND = 0x20
const PROXY_COMMAND = 0x21
const FAMILIES = { unspecified: 0x00, IPv4: 0x11, IPv6: 0x21, unix: 0x31 } as const
const LARGEST_LENGTH = 65_535

type Tlv = readonly [type: number, value: Uint8Array]
type Ends = readonly [source: SocketAddress, destination: SocketAddress] | undefined

/**
 * The bytes that a client sends before anything else, before a TLS handshake too; undefined if it sends no header.
 *
 * @throws {TypeError | RangeError} If an option is wrong: before anything is opened.
 */
export function headerToSend(proxyHeader: ProxyHeaderInit | undefined): Uint8Array<ArrayBuffer> | undefined {
  return proxyHeader === undefined ? undefined : formatHeader('Cannot connect', proxyHeader, 'proxyHeader')
}

/**
 * The bytes of a PROXY header. `action` begins the message of what is refused: 'Cannot connect'.
 *
 * @throws {TypeError | RangeError} If an option is wrong, before anything happens.
 */
export function formatHeader(action: string, options: ProxyHeaderInit, name = 'header'): Uint8Array<ArrayBuffer> {
  if (options === null || typeof options !== 'object') {
    throw new TypeError(`${action} as '${name}' must be an object: received ${inspect(options)}`)
  }
  const { command = 'proxy' } = options
  if (command === 'local') return formatLocal(action, options as Partial<ProxiedHeaderInit>)
  if (command !== 'proxy') throw new RangeError(`${action} as 'command' must be 'proxy' or 'local': received ${inspect(command)}`)
  const { source, destination, version = 2, tlvs = [], crc32c: hasChecksum = false } = options as ProxiedHeaderInit
  if (version !== 1 && version !== 2) throw new RangeError(`${action} as 'version' must be 1 or 2: received ${inspect(version)}`)
  checkBoolean(action, 'crc32c', hasChecksum)
  const ends = checkEnds(action, source, destination)
  const values = checkTlvs(action, tlvs)
  return version === 1 ? formatVersion1(action, ends, values, hasChecksum) : formatVersion2(action, ends, values, hasChecksum)
}

/** A receiver looks at nothing but the command: what else is given would be lost. */
function formatLocal(action: string, { source, destination, version, tlvs, crc32c }: Partial<ProxiedHeaderInit>): Uint8Array<ArrayBuffer> {
  for (const [name, value] of Object.entries({ source, destination })) {
    if (value !== undefined && value !== null)
      throw new RangeError(`${action} as '${name}' must be null for 'local': received ${inspect(value)}`)
  }
  if (version !== undefined && version !== 2)
    throw new RangeError(`${action} as 'version' must be 2 for 'local': received ${inspect(version)}`)
  if (tlvs !== undefined && checkTlvs(action, tlvs).length > 0) {
    throw new RangeError(`${action} as 'tlvs' must be empty for 'local': received ${inspect(tlvs)}`)
  }
  if (crc32c !== undefined && crc32c !== false)
    throw new RangeError(`${action} as 'crc32c' must be false for 'local': received ${inspect(crc32c)}`)
  return preamble(LOCAL_COMMAND, FAMILIES.unspecified, 0)
}

function formatVersion1(action: string, ends: Ends, tlvs: readonly Tlv[], hasChecksum: boolean): Uint8Array<ArrayBuffer> {
  if (tlvs.length > 0) throw new RangeError(`${action} as 'tlvs' must be empty for version 1: received ${inspect(tlvs)}`)
  if (hasChecksum) throw new RangeError(`${action} as 'crc32c' must be false for version 1: received true`)
  if (ends === undefined) return asciiOf('PROXY UNKNOWN\r\n')
  const [source, destination] = ends
  if (source.family === 'unix' || destination.family === 'unix') {
    throw new RangeError(`${action} as 'source' must be an InetAddress or null for version 1: received ${inspect(source)}`)
  }
  const areIPv4 = source.family === 'IPv4' && destination.family === 'IPv4'
  const [from, to] = areIPv4 ? [source.address, destination.address] : [textOfMapped(source), textOfMapped(destination)]
  return asciiOf(`PROXY ${areIPv4 ? 'TCP4' : 'TCP6'} ${from} ${to} ${source.port} ${destination.port}\r\n`)
}

function formatVersion2(action: string, ends: Ends, tlvs: readonly Tlv[], hasChecksum: boolean): Uint8Array<ArrayBuffer> {
  const family = familyOf(ends)
  const isChecked = hasChecksum || tlvs.some(([type]) => type === TLV.crc32c)
  // One that was read together with the others is of other bytes.
  const others = tlvs.filter(([type]) => type !== TLV.crc32c)
  const values: readonly Tlv[] = isChecked ? [...others, [TLV.crc32c, new Uint8Array(CHECKSUM_LENGTH)]] : others
  const length = values.reduce<number>((sum, [, value]) => sum + 3 + value.byteLength, ADDRESS_LENGTHS[family])
  if (length > LARGEST_LENGTH) {
    throw new RangeError(`${action} as 'tlvs' must leave the header at most ${LARGEST_LENGTH} bytes: received ${length} bytes`)
  }
  const bytes = preamble(PROXY_COMMAND, FAMILIES[family], length)
  if (ends !== undefined) putEnds(bytes, ends, family)
  let at = PREAMBLE + ADDRESS_LENGTHS[family]
  for (const [type, value] of values) {
    bytes.set([type, value.byteLength >> 8, value.byteLength & 0xff], at)
    bytes.set(value, at + 3)
    at += 3 + value.byteLength
  }
  if (isChecked) new DataView(bytes.buffer).setUint32(at - CHECKSUM_LENGTH, crc32c(bytes))
  return bytes
}

function preamble(command: number, family: number, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(PREAMBLE + length)
  bytes.set(SIGNATURE)
  bytes.set([command, family, length >> 8, length & 0xff], SIGNATURE.byteLength)
  return bytes
}

function familyOf(ends: Ends): keyof typeof FAMILIES {
  if (ends === undefined) return 'unspecified'
  const [{ family }, { family: other }] = ends
  return family === other ? family : 'IPv6'
}

function putEnds(bytes: Uint8Array, ends: readonly [SocketAddress, SocketAddress], family: keyof typeof FAMILIES): void {
  for (const [index, end] of ends.entries()) {
    if (end.family === 'unix') {
      bytes.set(Buffer.from(end.path), PREAMBLE + index * UNIX_PATH_SIZE)
    } else {
      const address = family === 'IPv4' ? bytesOf(end.address) : toSixteen(bytesOf(end.address))
      bytes.set(address, PREAMBLE + index * address.byteLength)
      bytes.set([end.port >> 8, end.port & 0xff], PREAMBLE + 2 * address.byteLength + 2 * index)
    }
  }
}

function checkEnds(action: string, source: unknown, destination: unknown): Ends {
  const from = checkEnd(action, 'source', source)
  const to = checkEnd(action, 'destination', destination)
  if (from === null && to === null) return undefined
  if (from === null || to === null || (from.family === 'unix') !== (to.family === 'unix')) {
    throw new RangeError(`${action} as 'destination' must be of the kind of 'source', ${inspect(source)}: received ${inspect(destination)}`)
  }
  return [from, to]
}

function checkEnd(action: string, name: string, end: unknown): SocketAddress | null {
  if (end === null) return null
  const { family, address, port, path } = (end ?? {}) as Partial<Record<'family' | 'address' | 'port' | 'path', unknown>>
  if (family === 'unix') return { family, path: checkPath(action, name, path) }
  const isValid = family === 'IPv4' ? isIPv4 : family === 'IPv6' ? isIPv6 : undefined
  if (isValid === undefined || typeof address !== 'string' || !isValid(address)) {
    throw new TypeError(`${action} as '${name}' must be an InetAddress, a UnixAddress or null: received ${inspect(end)}`)
  }
  checkPort(action, `${name}.port`, port, 0)
  const bytes = bytesOf(address)
  return inetAddressOf(bytes, 0, bytes.byteLength as 4 | 16, port as number)
}

/** Not by the rules of this system: the path may be another one's. */
function checkPath(action: string, name: string, path: unknown): string {
  if (typeof path !== 'string') throw new TypeError(`${action} as '${name}.path' must be a string: received ${inspect(path)}`)
  if (Buffer.byteLength(path) > UNIX_PATH_SIZE) {
    throw new RangeError(`${action} as '${name}.path' must have at most ${UNIX_PATH_SIZE} bytes: received ${inspect(path)}`)
  }
  if (path.startsWith('\0') ? path.endsWith('\0') : path.includes('\0')) {
    throw new RangeError(`${action} as '${name}.path' must have no NUL but the first of an abstract name: received ${inspect(path)}`)
  }
  return path
}

function checkTlvs(action: string, tlvs: unknown): readonly Tlv[] {
  if (typeof (tlvs as Iterable<unknown> | null | undefined)?.[Symbol.iterator] !== 'function' || typeof tlvs === 'string') {
    throw new TypeError(`${action} as 'tlvs' must be a Map, or pairs of a type and a value: received ${inspect(tlvs)}`)
  }
  const pairs = [...(tlvs as Iterable<unknown>)]
  for (const pair of pairs) {
    const [type, value] = Array.isArray(pair) ? pair : []
    if (!Number.isInteger(type) || type < 0 || type > 255) {
      throw new RangeError(`${action} as 'tlvs' must have types from 0 to 255: received ${inspect(Array.isArray(pair) ? type : pair)}`)
    }
    if (!(value instanceof Uint8Array))
      throw new TypeError(`${action} as 'tlvs' must have Uint8Arrays as values: received ${inspect(value)}`)
    const why = whyNotValue(type, value)
    if (why !== undefined) throw new RangeError(`${action} as 'tlvs' must be well-formed, and ${why}: received ${inspect(value)}`)
  }
  return pairs as Tlv[]
}

function asciiOf(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.from(text, 'latin1'))
}
