// The ends of a connected socket, as the kernel knows them, with no object or string made: most servers never look at a client's address.

import { type InetAddress, inetAddress } from '../address.ts'
import { type Libc, quietLibc } from './libc.ts'

/** An IPv4 address and a port in one number: see {@link unpack}. */
export type PackedAddress = number

// Families and lengths differ from system to system; so does what is in the first two bytes.
const IS_LINUX = process.platform === 'linux' || process.platform === 'android'
const AF_INET = 2
const AF_INET6 = 10
const LENGTH_OF_INET = 16
const LENGTH_OF_INET6 = 28

/** The address of whoever is at the other end; undefined if it is gone, if it is no IPv4 address, without libc, and elsewhere than on Linux. */
export function packedPeer(fd: number): PackedAddress | undefined {
  return packed('getpeername', fd)
}

/** The address at this end; undefined as with {@link packedPeer}. */
export function packedLocal(fd: number): PackedAddress | undefined {
  return packed('getsockname', fd)
}

export function unpack(address: PackedAddress): InetAddress {
  const host = Math.floor(address / 65_536)
  return inetAddress(`${host >>> 24}.${(host >>> 16) & 255}.${(host >>> 8) & 255}.${host & 255}`, address % 65_536)
}

// Reused, since to allocate for each call takes longer than the call.
const name = new Uint8Array(LENGTH_OF_INET6)
const words = new DataView(name.buffer)
// In this machine's order.
const families = new Uint16Array(name.buffer, 0, 1)
const size = new Int32Array(1)
const bytesOfSize = new Uint8Array(size.buffer)

function packed(call: 'getpeername' | 'getsockname', fd: number): PackedAddress | undefined {
  const c: Libc | undefined = IS_LINUX && fd >= 0 ? quietLibc() : undefined
  if (c === undefined) return undefined
  size[0] = LENGTH_OF_INET6
  if (c[call](fd, name, bytesOfSize) < 0) return undefined
  const at = offsetOfIpv4()
  // In network order, as all that follows the family.
  return at === undefined ? undefined : words.getUint32(at) * 65_536 + words.getUint16(2)
}

function offsetOfIpv4(): number | undefined {
  const family = families[0]
  if (family === AF_INET && size[0] === LENGTH_OF_INET) return 4
  // ::ffff:a.b.c.d, the client of a listener for both families.
  const isMapped = family === AF_INET6 && words.getUint32(8) === 0 && words.getUint32(12) === 0 && words.getUint32(16) === 0xffff
  return isMapped ? 20 : undefined
}
