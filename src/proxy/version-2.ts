// Version 2 of the PROXY header: a binary one, read within its bounds.

import { TextDecoder } from 'node:util'
import type { SocketAddress, UnixAddress } from '../address.ts'
import { crc32c } from './crc32c.ts'
import {
  ADDRESS_LENGTHS,
  CHECKSUM_LENGTH,
  LONGEST_UNIQUE_ID,
  type Parsed,
  PREAMBLE,
  type ProxyHeader,
  SIGNATURE,
  TLV,
  UNIX_PATH_SIZE
} from './header.ts'
import { inetAddressOf } from './ip-bytes.ts'
import { badHeader, noHeader } from './refusals.ts'

const VERSION = 2
const LOCAL = 0
const PROXY = 1
/** What the byte of family and transport says, as far as it is for streams. */
const FAMILIES = { 0: 'unspecified', 17: 'IPv4', 33: 'IPv6', 49: 'unix' } as const
const DATAGRAMS = [0x12, 0x22, 0x32]
/** A type and a length. */
const TLV_PREAMBLE = 3
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

type Family = keyof typeof ADDRESS_LENGTHS

/**
 * Looks for a header of version 2 at the start of `bytes`, which announces at most `maxLength` further ones behind its first 16.
 *
 * @throws {ProxyHeaderError} As soon as no byte that may follow could make it a valid one.
 */
export function parseVersion2(bytes: Uint8Array, maxLength: number): Parsed {
  const available = bytes.byteLength
  for (let at = Math.min(available, SIGNATURE.byteLength) - 1; at >= 0; at--) {
    if (bytes[at] !== SIGNATURE[at]) throw noHeader(bytes)
  }
  // Each byte of these is looked at, so that a stranger who then waits is told at once.
  if (available <= 12) return { header: undefined, need: available + 1 }
  const command = commandOf(bytes)
  if (available <= 13) return { header: undefined, need: available + 1 }
  const family = command === LOCAL ? undefined : familyOf(bytes)
  if (available < PREAMBLE) return { header: undefined, need: PREAMBLE }
  const announced = read16(bytes, 14)
  if (announced > maxLength) throw badHeader(`it must announce at most ${maxLength} bytes, not ${announced}`, bytes)
  if (family !== undefined && announced < ADDRESS_LENGTHS[family]) {
    throw badHeader(`its ${family} addresses must have ${ADDRESS_LENGTHS[family]} bytes, not ${announced}`, bytes)
  }
  const length = PREAMBLE + announced
  if (available < length) return { header: undefined, need: length }
  if (family === undefined) return { header: localHeader(), length }
  // Nobody else's memory is kept, nor seen to change.
  return { header: parseProxy(new Uint8Array(bytes.buffer, bytes.byteOffset, length), family), length }
}

function commandOf(bytes: Uint8Array): typeof LOCAL | typeof PROXY {
  const byte = bytes[12] as number
  if (byte >> 4 !== VERSION) throw badHeader(`its version must be ${VERSION}, not ${byte >> 4}`, bytes)
  const command = byte & 0x0f
  if (command !== LOCAL && command !== PROXY) throw badHeader(`its command must be LOCAL or PROXY, not ${command}`, bytes)
  return command
}

function familyOf(bytes: Uint8Array): Family {
  const byte = bytes[13] as number
  if (DATAGRAMS.includes(byte)) throw badHeader('its transport must be a stream, not datagrams', bytes)
  const family = FAMILIES[byte as keyof typeof FAMILIES] as Family | undefined
  if (family === undefined) throw badHeader(`its family and transport must be known ones, not 0x${hex(byte)}`, bytes)
  return family
}

/** The receiver is told to look at nothing behind the length. */
function localHeader(): ProxyHeader {
  return {
    version: 2,
    command: 'local',
    source: null,
    destination: null,
    tlvs: new Map(),
    authority: null,
    alpn: null,
    uniqueId: null
  }
}

function parseProxy(bytes: Uint8Array, family: Family): ProxyHeader {
  const [source, destination] = addressesOf(bytes, family)
  const tlvs = tlvsOf(bytes, PREAMBLE + ADDRESS_LENGTHS[family])
  const authority = tlvs.get(TLV.authority)
  const alpn = tlvs.get(TLV.alpn)
  return {
    version: 2,
    command: 'proxy',
    source,
    destination,
    tlvs,
    authority: authority === undefined ? null : utf8.decode(authority),
    // Names of protocols are bytes, those that nobody has registered too.
    alpn: alpn === undefined ? null : Buffer.from(alpn).toString('latin1'),
    uniqueId: tlvs.get(TLV.uniqueId) ?? null
  }
}

function addressesOf(bytes: Uint8Array, family: Family): [SocketAddress, SocketAddress] | [null, null] {
  if (family === 'unspecified') return [null, null]
  if (family === 'unix') return [unixAddress(bytes, PREAMBLE), unixAddress(bytes, PREAMBLE + UNIX_PATH_SIZE)]
  const size = family === 'IPv4' ? 4 : 16
  const ports = PREAMBLE + 2 * size
  return [inetAddressOf(bytes, PREAMBLE, size, read16(bytes, ports)), inetAddressOf(bytes, PREAMBLE + size, size, read16(bytes, ports + 2))]
}

/** A path ends at its first NUL; an abstract name begins with one, and those that fill it up are not part of it. */
function unixAddress(bytes: Uint8Array, offset: number): UnixAddress {
  const field = Buffer.from(bytes.buffer, bytes.byteOffset + offset, UNIX_PATH_SIZE)
  let end = UNIX_PATH_SIZE
  if (field[0] === 0) while (end > 0 && field[end - 1] === 0) end--
  else if (field.includes(0)) end = field.indexOf(0)
  return { family: 'unix', path: field.toString('utf8', 0, end) }
}

function tlvsOf(bytes: Uint8Array, start: number): ReadonlyMap<number, Uint8Array> {
  const tlvs = new Map<number, Uint8Array>()
  if (start === bytes.byteLength) return tlvs
  const values = bytes.slice(start)
  let checksumAt: number | undefined
  for (let at = 0; at < values.byteLength; ) {
    const type = values[at] as number
    const from = at + TLV_PREAMBLE
    // Bytes of the length that are missing count as 0: the value would begin beyond the end then.
    const to = from + read16(values, at + 1)
    if (to > values.byteLength) {
      throw badHeader(`its value of type 0x${hex(type)} must end within it`, bytes)
    }
    const value = values.subarray(from, to)
    checkValue(type, value, bytes)
    if (type === TLV.crc32c) {
      if (checksumAt !== undefined) throw badHeader('it must have one checksum, not several', bytes)
      checksumAt = start + from
    }
    if (!tlvs.has(type)) tlvs.set(type, value)
    at = to
  }
  if (checksumAt !== undefined) verify(bytes, checksumAt)
  return tlvs
}

function checkValue(type: number, value: Uint8Array, bytes: Uint8Array): void {
  const why = whyNotValue(type, value)
  if (why !== undefined) throw badHeader(why, bytes)
}

/** What is wrong with a value whose form is known; undefined if nothing is. */
export function whyNotValue(type: number, value: Uint8Array): string | undefined {
  const length = value.byteLength
  if (type === TLV.crc32c && length !== CHECKSUM_LENGTH) return `its checksum must have ${CHECKSUM_LENGTH} bytes, not ${length}`
  if (type === TLV.uniqueId && length > LONGEST_UNIQUE_ID)
    return `its identifier must have at most ${LONGEST_UNIQUE_ID} bytes, not ${length}`
  return type === TLV.authority && !isUtf8(value) ? 'its host name must be UTF-8' : undefined
}

function verify(bytes: Uint8Array, at: number): void {
  const told = new DataView(bytes.buffer, bytes.byteOffset).getUint32(at)
  const found = crc32c(bytes, at)
  if (told !== found) throw badHeader(`its checksum must be 0x${hex(found, 8)}, not 0x${hex(told, 8)}`, bytes)
}

function isUtf8(value: Uint8Array): boolean {
  try {
    utf8.decode(value)
    return true
  } catch {
    return false
  }
}

function read16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number)
}

function hex(value: number, digits = 2): string {
  return value.toString(16).padStart(digits, '0')
}
