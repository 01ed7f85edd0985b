// PROXY headers made by hand, so that those of the library are never tested against themselves alone.

import type { InetAddress, UnixAddress } from '../../src/index.ts'

export const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex')
export const PROXY = 0x21
export const LOCAL = 0x20
export const TCP4 = 0x11
export const TCP6 = 0x21
export const UNIX = 0x31
export const UNSPEC = 0x00

/** The addresses of 192.0.2.1:56324 and 198.51.100.11:443. */
export const ENDS_4 = Buffer.from('c0000201c633640bdc0401bb', 'hex')
export const SOURCE_4: InetAddress = { family: 'IPv4', address: '192.0.2.1', port: 56_324 }
export const DESTINATION_4: InetAddress = { family: 'IPv4', address: '198.51.100.11', port: 443 }

/** The addresses of [2001:db8::1]:56324 and [2001:db8:0:1::b]:443. */
export const ENDS_6 = Buffer.from('20010db800000000000000000000000120010db800000001000000000000000bdc0401bb', 'hex')
export const SOURCE_6: InetAddress = { family: 'IPv6', address: '2001:db8::1', port: 56_324 }
export const DESTINATION_6: InetAddress = { family: 'IPv6', address: '2001:db8:0:1::b', port: 443 }

export const LINE_4 = 'PROXY TCP4 192.0.2.1 198.51.100.11 56324 443\r\n'
export const LINE_6 = 'PROXY TCP6 2001:db8::1 2001:db8:0:1::b 56324 443\r\n'

export const SOURCE_UNIX: UnixAddress = { family: 'unix', path: '/run/client' }
export const DESTINATION_UNIX: UnixAddress = { family: 'unix', path: '\0server' }

export function ascii(text: string): Uint8Array {
  return Buffer.from(text, 'latin1')
}

/** A header of version 2. `announced` is the length that it tells, where that is not the true one. */
export function version2(command: number, family: number, body: Uint8Array = new Uint8Array(), announced = body.byteLength): Buffer {
  return Buffer.concat([SIGNATURE, Uint8Array.of(command, family, announced >> 8, announced & 0xff), body])
}

export function tlv(type: number, value: Uint8Array | string, announced = Buffer.from(value as string).length): Buffer {
  return Buffer.concat([Uint8Array.of(type, announced >> 8, announced & 0xff), Buffer.from(value as string)])
}

/** Both paths, each in its 108 bytes. */
export function unixEnds(source: string, destination: string): Buffer {
  const ends = Buffer.alloc(216)
  ends.write(source, 0)
  ends.write(destination, 108)
  return ends
}

/** The same header with its checksum filled in, which is four bytes of 0 at `at`; or with a wrong one. */
export function withChecksum(header: Uint8Array, difference = 0, at = header.byteLength - 4): Buffer {
  const checked = Buffer.from(header)
  checked.writeUInt32BE((slowCrc32c(header) ^ difference) >>> 0, at)
  return checked
}

/** CRC32C bit by bit, as its definition says. */
export function slowCrc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff
  for (const byte of bytes) {
    for (let bit = 0; bit < 8; bit++) {
      const isOdd = ((crc ^ (byte >> bit)) & 1) === 1
      crc = isOdd ? (crc >>> 1) ^ 0x82f6_3b78 : crc >>> 1
    }
  }
  return (crc ^ 0xffff_ffff) >>> 0
}
