// Who is served: clients of allowed addresses, so many of one address, and at a limit that drops nobody more.

import { BlockList, isIP } from 'node:net'
import type { Connection, SocketAddress } from 'it-tcp'
import { UsageError } from './failure.ts'
import { formatCount } from './quantity.ts'

/** Why a client was turned away. */
export class Refusal extends Error {
  override readonly name = 'Refusal'
  readonly code: 'NOT_ALLOWED' | 'TOO_MANY_OF_ADDRESS' | 'DROPPED'

  constructor(code: Refusal['code'], message: string) {
    super(message)
    this.code = code
  }
}

export interface AdmissionOptions {
  /** The addresses that are served. */
  readonly allow?: BlockList
  readonly maxConnectionsPerAddress?: number
}

/** Counts those who are served and those who are turned away. */
export class Admission {
  /** Clients to serve at once, beyond which further ones are dropped; `Infinity` where they wait. */
  limit = Number.POSITIVE_INFINITY
  /** How many were turned away because of their address, or because of others who came from there. */
  refused = 0
  /** How many were turned away at the limit. */
  dropped = 0
  readonly #allow: BlockList | undefined
  readonly #perAddress: number
  readonly #taken = new Map<string, number>()
  #serving = 0

  constructor({ allow, maxConnectionsPerAddress = Number.POSITIVE_INFINITY }: AdmissionOptions) {
    this.#allow = allow
    this.#perAddress = maxConnectionsPerAddress
  }

  /** Gives the client a place until it is closed and `served` has resolved, or tells why it gets none. */
  admit(client: Connection, served: Promise<unknown> = client.closed): Refusal | undefined {
    const { remoteAddress } = client
    const key = keyOf(remoteAddress)
    const taken = this.#taken.get(key) ?? 0
    if (this.#allow !== undefined && !isAllowed(remoteAddress, this.#allow)) {
      this.refused++
      return new Refusal('NOT_ALLOWED', 'its address is not allowed')
    }
    if (taken >= this.#perAddress) {
      this.refused++
      return new Refusal('TOO_MANY_OF_ADDRESS', `already serving ${formatCount(taken, 'connection')} from ${key}`)
    }
    if (this.#serving >= this.limit) {
      this.dropped++
      return new Refusal('DROPPED', `dropped at the limit of ${formatCount(this.limit, 'connection')}`)
    }
    this.#serving++
    this.#taken.set(key, taken + 1)
    void Promise.all([client.closed, served]).then(() => {
      this.#serving--
      const left = (this.#taken.get(key) as number) - 1
      if (left === 0) this.#taken.delete(key)
      else this.#taken.set(key, left)
    })
    return undefined
  }
}

/**
 * Refuses options that would turn away everybody, as clients of a unix socket have no address.
 *
 * @throws {UsageError}
 */
export function checkHasAddresses(isUnix: boolean, { allow, maxConnectionsPerAddress }: AdmissionOptions): void {
  const flag = allow !== undefined ? '--allow' : maxConnectionsPerAddress !== undefined ? '--max-connections-per-address' : undefined
  if (isUnix && flag !== undefined) throw new UsageError(`${flag} is only for TCP: clients of a Unix socket have no address`)
}

/** Adds a range of addresses, such as 10.0.0.0/8, or a single address. */
export function parseRange(text: string, list = new BlockList()): BlockList {
  const [, address = '', digits] = /^([^/]*)(?:\/(\d{1,3}))?$/.exec(text) ?? []
  const family = isIP(address)
  const longest = family === 6 ? 128 : 32
  const prefix = digits === undefined ? longest : Number(digits)
  if (family === 0 || prefix > longest) {
    throw new UsageError(`must be an address or a range of addresses such as 10.0.0.0/8: received '${text}'`)
  }
  list.addSubnet(address, prefix, family === 6 ? 'ipv6' : 'ipv4')
  return list
}

function isAllowed(address: SocketAddress, allow: BlockList): boolean {
  return address.family !== 'unix' && allow.check(address.address, address.family === 'IPv6' ? 'ipv6' : 'ipv4')
}

/** What counts as one address: of IPv6 a /64, which is what one client gets from its provider. */
function keyOf(address: SocketAddress): string {
  if (address.family === 'unix') return 'unix'
  return address.family === 'IPv4' ? address.address : `${networkOf(address.address)}::/64`
}

function networkOf(address: string): string {
  const [head = '', tail] = (address.split('%')[0] as string).split('::')
  const before = head === '' ? [] : head.split(':')
  const after = tail === undefined || tail === '' ? [] : tail.split(':')
  // An IPv4 address at the end stands for two groups.
  const missing = 8 - before.length - after.length - (address.includes('.') ? 1 : 0)
  return [...before, ...Array<string>(Math.max(0, missing)).fill('0'), ...after].slice(0, 4).join(':')
}
