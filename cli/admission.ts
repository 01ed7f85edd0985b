// Who is served: clients of allowed addresses, so many of one address, and at a limit that drops nobody more.

import { subscribe } from 'node:diagnostics_channel'
import { BlockList, isIP } from 'node:net'
import type { Connection, ListenOptions, ServerStatistics, ServerTurnedAwayMessage, SocketAddress } from 'it-tcp'
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
  /** Who says with a PROXY header who the client is. */
  readonly acceptProxyFrom?: readonly string[] | 'anybody'
}

/** What the server itself does about it. */
export function entryRules({ allow, maxConnectionsPerAddress, acceptProxyFrom }: AdmissionOptions): ListenOptions {
  return {
    ...(allow !== undefined && { admit: (address) => isAllowed(address, allow) }),
    ...(maxConnectionsPerAddress !== undefined && { maxConnectionsPerAddress }),
    ...(acceptProxyFrom !== undefined && { proxyProtocol: { from: acceptProxyFrom } })
  }
}

/** Tells of each client that the server turns away, and why. The command has one server that turns away. */
export function onTurnedAway(
  { maxConnectionsPerAddress = 0 }: AdmissionOptions,
  tell: (client: SocketAddress, reason: unknown) => void
): void {
  subscribe('it-tcp.server.turned-away', (message) => {
    const { remoteAddress, step, error } = message as ServerTurnedAwayMessage
    if (step === 'admit') tell(remoteAddress, new Refusal('NOT_ALLOWED', 'its address is not allowed'))
    else if (step === 'perAddress') {
      const serving = formatCount(maxConnectionsPerAddress, 'connection')
      tell(remoteAddress, new Refusal('TOO_MANY_OF_ADDRESS', `already serving ${serving} from ${sharedBy(remoteAddress)}`))
    } else tell(remoteAddress, error)
  })
}

/** How many were turned away before anybody served them. */
export function refusedBy({ turnedAway }: ServerStatistics): number {
  return Object.values(turnedAway).reduce((sum, count) => sum + count)
}

/** Counts those who are served, and those who are dropped at a limit. */
export class DropLimit {
  /** Clients to serve at once, beyond which further ones are dropped; `Infinity` where they wait. */
  limit = Number.POSITIVE_INFINITY
  /** How many were turned away at the limit. */
  dropped = 0
  #serving = 0

  /** Gives the client a place until it is closed and `served` has resolved, or tells why it gets none. */
  admit(client: Connection, served: Promise<unknown>): Refusal | undefined {
    if (this.#serving >= this.limit) {
      this.dropped++
      return new Refusal('DROPPED', `dropped at the limit of ${formatCount(this.limit, 'connection')}`)
    }
    this.#serving++
    void Promise.all([client.closed, served]).then(() => {
      this.#serving--
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

/** Adds those who may send PROXY headers: a range, `unix`, or `anybody`. */
export function parseSenders(text: string, before: readonly string[] | 'anybody' = []): readonly string[] | 'anybody' {
  if (text === 'anybody' || before === 'anybody') return 'anybody'
  if (text === 'unix') return [...before, text]
  try {
    parseRange(text)
  } catch {
    throw new UsageError(`must be a range of addresses such as 10.0.0.0/8, unix or anybody: received '${text}'`)
  }
  return [...before, text]
}

function isAllowed(address: SocketAddress, allow: BlockList): boolean {
  return address.family !== 'unix' && allow.check(address.address, address.family === 'IPv6' ? 'ipv6' : 'ipv4')
}

/** What counts as one address: of IPv6 a /64, which is what one client gets from its provider. */
function sharedBy(address: SocketAddress): string {
  if (address.family === 'unix') return 'unix'
  return address.family === 'IPv4' ? address.address : `${address.address}/64`
}
