// A network in memory: who listens where, who dials whom, and what is open.

import { isIP } from 'node:net'
import { setImmediate } from 'node:timers'
import { inspect } from 'node:util'
import { formatAddress, type InetAddress, inetAddress } from '../address.ts'
import type { Connection } from '../connection.ts'
import { type ConnectionOptions, checkCount, checkOptions, checkPort, checkString, connectionSettings } from '../options.ts'
import { openConnection } from '../stream/connection-facade.ts'
import { type BindOptions, checkInetAddress, toHostAndPort, type WhereToConnect } from '../where-to-connect.ts'
import type { WhereToListen } from '../where-to-listen.ts'
import { type MemoryClient, type MemoryListener, refusal } from './memory-listener.ts'
import type { EndOwner, MemoryTransport } from './memory-transport.ts'
import { systemErrorNamed } from './system-error.ts'
import { DEFAULT_CAPACITY, type Link, Wire } from './wire.ts'

// Taken once: no fake clock stops the clients.
const nextTurn = setImmediate

const ANY = '0.0.0.0'
const LOCALHOST = '127.0.0.1'
/** Where ports begin that a system chooses. */
const FIRST_PORT = 49_152
const LAST_PORT = 65_535

const PAIR = 'Cannot make a pair'

/** The options of {@link MemoryNetwork}. */
export interface MemoryNetworkOptions {
  /**
   * Bytes that each direction of a connection takes while its receiver does not read: what a system's buffers are.
   *
   * @default 65_536
   */
  capacity?: number
}

/** The options of {@link connectionPair}. */
export interface ConnectionPairOptions extends MemoryNetworkOptions {
  /** The options of both connections, as `connect` and `listen` take them. */
  settings?: ConnectionOptions
  /** What the two are told as their addresses. A port of 0 is chosen. */
  addresses?: { readonly client?: InetAddress; readonly server?: InetAddress }
}

/** What is known of an end. */
interface End {
  readonly name: string
  readonly wire: Wire
}

/**
 * A network in memory, on which the library's own `listen`, `Server.create`, `connect` and `withConnection` work as they do on a system's: with queues,
 * backpressure, half-close, resets and refusals, and without any socket. The same program does the same things in the same order, every time, and no
 * fake clock stops the bytes.
 *
 * @example
 * ```ts
 * const network = new MemoryNetwork()
 * await using server = await Server.create(network.onPort(7), ({ reader, writer }) => writer(reader))
 * const reply = await withConnection(network.toHostAndPort('echo', 7), ({ reader, writer }) => {
 *   writer.write('hello\n')
 *   return reader.readLine()
 * })
 * console.log(reply, server.numConnections, network.open) // hello 0 [ 'server on 0.0.0.0:7' ]
 * ```
 */
export class MemoryNetwork {
  readonly #capacity: number
  readonly #addresses = new Map<string, string>([['localhost', LOCALHOST]])
  readonly #listeners = new Map<string, MemoryListener>()
  readonly #ends = new Map<MemoryTransport, End>()
  readonly #owner: EndOwner = { endReleased: (end) => void this.#ends.delete(end) }
  #nextPort = FIRST_PORT

  /**
   * @throws {TypeError | RangeError} If `capacity` is not a whole number above 0.
   */
  constructor(options: MemoryNetworkOptions = {}) {
    checkOptions('Cannot make a network', options)
    const { capacity = DEFAULT_CAPACITY } = options
    checkCount('Cannot make a network', 'capacity', capacity)
    this.#capacity = capacity
  }

  /**
   * What is open, by name: servers that listen, and each side of each connection until its descriptor would be closed; in the order in which they were
   * opened. Empty at the end of a test that leaves nothing behind.
   */
  get open(): string[] {
    const servers = [...this.#listeners.keys()].map((address) => `server on ${address}`)
    return [...servers, ...[...this.#ends.values()].map(({ name }) => name)]
  }

  /**
   * The link under `connection`, which may be either side of one that was made on this network.
   *
   * @throws {TypeError} If it is none, or closed already.
   */
  link(connection: Connection): Link {
    for (const [end, { wire }] of this.#ends) {
      if ((end.events as { facade?: unknown } | undefined)?.facade === connection) return wire
    }
    throw new TypeError(`Cannot find the link as 'connection' must be open, and of this network: received ${inspect(connection)}`)
  }

  /**
   * Two connections that are each other's peer, as if the second had been accepted from the first; see {@link connectionPair}.
   *
   * @throws {TypeError | RangeError} If an option is wrong.
   */
  connectionPair(options: ConnectionPairOptions = {}): [client: Connection<InetAddress>, served: Connection<InetAddress>] {
    checkOptions(PAIR, options)
    const { capacity = this.#capacity, settings = {}, addresses = {} } = options
    checkCount(PAIR, 'capacity', capacity)
    checkOptions(PAIR, settings)
    const filledIn = connectionSettings(PAIR, settings)
    const client = this.#pairAddress(addresses.client)
    const server = this.#pairAddress(addresses.server)
    const wire = this.#join(client, server, capacity)
    return [
      openConnection(wire.client, filledIn, { remoteAddress: server, localAddress: client, isAccepted: false }).facade,
      openConnection(wire.server, filledIn, { remoteAddress: client, localAddress: server, isAccepted: true }).facade
    ]
  }

  // -------------------------------------------------------------------------------------------------------------------

  #join(client: InetAddress, server: InetAddress, capacity = this.#capacity): Wire {
    const wire = new Wire(capacity, this.#owner)
    const ends = `${formatAddress(client)} -> ${formatAddress(server)}`
    this.#ends.set(wire.client, { name: `client's side of ${ends}`, wire })
    this.#ends.set(wire.server, { name: `server's side of ${ends}`, wire })
    return wire
  }

  #pairAddress(address: InetAddress = { family: 'IPv4', address: LOCALHOST, port: 0 }): InetAddress {
    checkInetAddress(PAIR, address, 0)
    return address.port === 0 ? { ...address, port: this.#choosePort() } : address
  }

  #choosePort(): number {
    const port = this.#nextPort
    this.#nextPort = port === LAST_PORT ? FIRST_PORT : port + 1
    return port
  }
}
