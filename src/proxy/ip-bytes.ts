// IP addresses as the bytes that travel, and as the text that people write.

import { isIPv6 } from 'node:net'
import type { InetAddress } from '../address.ts'

/** The four or sixteen bytes of a valid numeric address; a zone is left out, since it means something on one machine only. */
export function bytesOf(address: string): Uint8Array {
  if (!address.includes(':')) return Uint8Array.from(address.split('.'), Number)
  const [numeric = ''] = address.split('%')
  const [head = '', tail] = numeric.split('::')
  const front = groupsOf(head)
  const back = tail === undefined ? [] : groupsOf(tail)
  const bytes = new Uint8Array(16)
  bytes.set(front)
  bytes.set(back, 16 - back.length)
  return bytes
}

/** An IPv4 address as the IPv6 one that stands for it; an IPv6 address as it is. */
export function toSixteen(bytes: Uint8Array): Uint8Array {
  if (bytes.byteLength === 16) return bytes
  const mapped = new Uint8Array(16)
  mapped[10] = mapped[11] = 0xff
  mapped.set(bytes, 12)
  return mapped
}

/** The address in the four or sixteen bytes at `offset`; an IPv6 address that stands for an IPv4 one is that. */
export function inetAddressOf(bytes: Uint8Array, offset: number, length: 4 | 16, port: number): InetAddress {
  if (length === 4) return { family: 'IPv4', address: textOfIPv4(bytes, offset), port }
  if (isMapped(bytes, offset)) return { family: 'IPv4', address: textOfIPv4(bytes, offset + 12), port }
  return { family: 'IPv6', address: textOfIPv6(bytes, offset), port }
}

/** Whether `text` is an IPv6 address without a zone. */
export function isStrictIPv6(text: string): boolean {
  return isIPv6(text) && !text.includes('%')
}

/** An address as IPv6 has it; one that stands for an IPv4 address says so. */
export function textOfMapped({ address }: InetAddress): string {
  return address.includes(':') ? address : `::ffff:${address}`
}

/** Whether the sixteen bytes at `offset` are ::ffff:0:0/96. */
function isMapped(bytes: Uint8Array, offset: number): boolean {
  for (let at = 0; at < 10; at++) if (bytes[offset + at] !== 0) return false
  return bytes[offset + 10] === 0xff && bytes[offset + 11] === 0xff
}

function textOfIPv4(bytes: Uint8Array, offset: number): string {
  return `${bytes[offset]}.${bytes[offset + 1]}.${bytes[offset + 2]}.${bytes[offset + 3]}`
}

/** The text that RFC 5952 recommends: lower case, no leading zeros, the longest run of zero groups as `::`. */
function textOfIPv6(bytes: Uint8Array, offset: number): string {
  const groups: number[] = []
  for (let at = offset; at < offset + 16; at += 2) groups.push(((bytes[at] as number) << 8) | (bytes[at + 1] as number))
  const [start, length] = longestZeros(groups)
  const text = (part: readonly number[]): string => part.map((group) => group.toString(16)).join(':')
  return length < 2 ? text(groups) : `${text(groups.slice(0, start))}::${text(groups.slice(start + length))}`
}

function longestZeros(groups: readonly number[]): [start: number, length: number] {
  let start = 0
  let longest = 0
  let length = 0
  for (let at = 0; at < groups.length; at++) {
    length = groups[at] === 0 ? length + 1 : 0
    // The first of several that are as long.
    if (length <= longest) continue
    start = at - length + 1
    longest = length
  }
  return [start, longest]
}

/** The bytes of one side of `::`; its last group may be an IPv4 address. */
function groupsOf(text: string): number[] {
  if (text === '') return []
  return text.split(':').flatMap((group) => {
    if (group.includes('.')) return group.split('.').map(Number)
    const value = Number.parseInt(group, 16)
    return [value >> 8, value & 0xff]
  })
}
