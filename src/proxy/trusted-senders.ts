// Who may send a PROXY header: whoever could say who the client is could be anybody.

import net, { isIPv4 } from 'node:net'
import { inspect } from 'node:util'
import type { SocketAddress } from '../address.ts'
import { bytesOf, inetAddressOf, isStrictIPv6 } from './ip-bytes.ts'

const PREFIX = /^(?:0|[1-9]\d{0,2})$/
// An IPv4 address in an IPv6 one stands behind so many bits.
const MAPPED_BITS = 96

/** Whether a sender is trusted. */
export type TrustedSenders = (sender: SocketAddress) => boolean

/**
 * Who is trusted: everybody if `from` is `'anybody'`, otherwise the IP addresses and CIDR ranges in it, and with `'unix'` every peer of a unix
 * socket. An IPv4-mapped IPv6 address is the IPv4 one on either side, and an IPv6 range has no IPv4 address in it.
 *
 * @throws {TypeError | RangeError} If an entry is neither an address nor a range; `action` begins the message.
 */
export function trustedSenders(from: readonly string[] | 'anybody', action = 'Cannot listen'): TrustedSenders {
  if (from === 'anybody') return () => true
  if (!Array.isArray(from)) {
    throw new TypeError(`${action} as 'from' must be an array of addresses and CIDR ranges, or 'anybody': received ${inspect(from)}`)
  }
  // By its module, since a runtime without it would fail at the import. One for each family: BlockList has the IPv4 addresses in the mapped part of the IPv6 ones, so that '::/0' would be everybody.
  const lists = { IPv4: new net.BlockList(), IPv6: new net.BlockList() }
  let unix = false
  for (const entry of from) {
    if (entry === 'unix') unix = true
    else addTo(lists, action, entry)
  }
  return (sender) => {
    if (sender.family === 'unix') return unix
    const { family, address } = normalised(sender.address)
    return lists[family].check(address, family === 'IPv4' ? 'ipv4' : 'ipv6')
  }
}

function addTo(lists: Record<'IPv4' | 'IPv6', net.BlockList>, action: string, entry: unknown): void {
  if (typeof entry !== 'string') {
    throw new TypeError(`${action} as 'from' must have strings as entries: received ${inspect(entry)}`)
  }
  const [address = '', prefix, ...rest] = entry.split('/')
  const bits = isIPv4(address) ? 32 : isStrictIPv6(address) ? 128 : 0
  const length = prefix === undefined ? bits : PREFIX.test(prefix) ? Number(prefix) : Number.NaN
  const isMapped = bits === 128 && normalised(address).family === 'IPv4'
  if (bits === 0 || !(length <= bits) || (isMapped && length < MAPPED_BITS) || rest.length > 0) {
    throw new RangeError(
      `${action} as 'from' must have IP addresses, CIDR ranges such as '10.0.0.0/8' or 'unix' as entries: received ${inspect(entry)}`
    )
  }
  if (isMapped) lists.IPv4.addSubnet(normalised(address).address, length - MAPPED_BITS, 'ipv4')
  else if (bits === 32) lists.IPv4.addSubnet(address, length, 'ipv4')
  else lists.IPv6.addSubnet(address, length, 'ipv6')
}

function normalised(address: string): { readonly family: 'IPv4' | 'IPv6'; readonly address: string } {
  const bytes = bytesOf(address)
  return inetAddressOf(bytes, 0, bytes.byteLength as 4 | 16, 0)
}
