// Version 1 of the PROXY header: a line of text, read by the strict grammar.

import { isIPv4 } from 'node:net'
import type { InetAddress } from '../address.ts'
import { CARRIAGE_RETURN, LINE_FEED } from '../stream/chunk-queue.ts'
import { LONGEST_LINE, type Parsed, type ProxyHeader } from './header.ts'
import { bytesOf, inetAddressOf, isStrictIPv6 } from './ip-bytes.ts'
import { badHeader, noHeader } from './refusals.ts'

const WORD = 'PROXY '
const BEGINNINGS = ['PROXY TCP4 ', 'PROXY TCP6 ', 'PROXY UNKNOWN']
const WRONG_PROTOCOL = 'its protocol must be TCP4, TCP6 or UNKNOWN'
const SHORTEST_LINE = 'PROXY UNKNOWN\r\n'.length
const LARGEST_PORT = 65_535
const PORT = /^(?:0|[1-9]\d{0,4})$/

/**
 * Looks for a header of version 1 at the start of `bytes`.
 *
 * @throws {ProxyHeaderError} As soon as no byte that may follow could make it a valid one.
 */
export function parseVersion1(bytes: Uint8Array): Parsed {
  const end = endOfLine(bytes)
  const text = textOf(bytes, end ?? bytes.byteLength)
  if (!BEGINNINGS.some((beginning) => beginning.startsWith(text) || text.startsWith(beginning))) {
    throw text.startsWith(WORD) ? badHeader(WRONG_PROTOCOL, bytes) : noHeader(bytes)
  }
  if (end === undefined) return { header: undefined, need: stillNeeded(bytes, text) }
  const header = parseLine(text, bytes)
  // A carriage return is the last byte so far: only a line feed may follow.
  if (end + 1 === bytes.byteLength) return { header: undefined, need: end + 2 }
  return { header, length: end + 2 }
}

/** Where the CRLF of the line begins, or may begin; undefined if that is still to come. */
function endOfLine(bytes: Uint8Array): number | undefined {
  const length = Math.min(bytes.byteLength, LONGEST_LINE - 1)
  for (let at = 0; at < length; at++) {
    if (bytes[at] === LINE_FEED) throw badHeader('its line must end with CRLF, not with a lone line feed', bytes)
    if (bytes[at] !== CARRIAGE_RETURN) continue
    if (at + 1 < bytes.byteLength && bytes[at + 1] !== LINE_FEED) {
      throw badHeader('its line must end with CRLF, not with a lone carriage return', bytes)
    }
    return at
  }
  if (length === LONGEST_LINE - 1) throw badHeader(`its line must have at most ${LONGEST_LINE} bytes`, bytes)
  return undefined
}

function stillNeeded(bytes: Uint8Array, text: string): number {
  const isKnown = BEGINNINGS.some((beginning) => text.startsWith(beginning))
  // Until it is known to be a header each byte is looked at, so that a stranger who then waits is told at once.
  return isKnown ? Math.max(SHORTEST_LINE, Math.min(LONGEST_LINE, bytes.byteLength + 2)) : bytes.byteLength + 1
}

function parseLine(text: string, bytes: Uint8Array): ProxyHeader {
  const [, protocol, source, destination, sourcePort, destinationPort, ...rest] = text.split(' ')
  // What follows on the line is the sender's own affair.
  if (protocol === 'UNKNOWN') return headerOf(null, null)
  if (protocol !== 'TCP4' && protocol !== 'TCP6') throw protocol === undefined ? noHeader(bytes) : badHeader(WRONG_PROTOCOL, bytes)
  if (destinationPort === undefined || rest.length > 0)
    throw badHeader('it must have two addresses and two ports, one space before each', bytes)
  const isValid = protocol === 'TCP4' ? isIPv4 : isStrictIPv6
  if (!(isValid(source as string) && isValid(destination as string))) {
    throw badHeader(`its addresses must be ${protocol === 'TCP4' ? 'IPv4' : 'IPv6'} addresses`, bytes)
  }
  if (!(isPort(sourcePort as string) && isPort(destinationPort))) {
    throw badHeader('its ports must be whole numbers from 0 to 65535, without leading zeros', bytes)
  }
  return headerOf(address(source as string, sourcePort as string), address(destination as string, destinationPort))
}

function headerOf(source: InetAddress | null, destination: InetAddress | null): ProxyHeader {
  return { version: 1, command: 'proxy', source, destination, tlvs: new Map(), authority: null, alpn: null, uniqueId: null }
}

function address(text: string, port: string): InetAddress {
  const bytes = bytesOf(text)
  return inetAddressOf(bytes, 0, bytes.byteLength as 4 | 16, Number(port))
}

function isPort(text: string): boolean {
  return PORT.test(text) && Number(text) <= LARGEST_PORT
}

function textOf(bytes: Uint8Array, length: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(length, LONGEST_LINE)).toString('latin1')
}
