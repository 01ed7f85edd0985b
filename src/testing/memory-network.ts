// A network in memory: who listens where, who dials whom, and what is open.

import { isIP } from 'node:net'
import { inspect } from 'node:util'
import { formatAddress, type InetAddress, inetAddress } from '../address.ts'
import { setImmediate } from '../async/platform.ts'
import type { Connection } from '../connection.ts'
import { type ConnectionOptions, checkCount, checkOptions, checkPort, checkString, connectionSettings } from '../options.ts'
import type { GateOptions } from '../server/gate.ts'
import { openConnection } from '../stream/connection-facade.ts'
import { upgradeTo } from '../tls/start-tls.ts'
import {
  type BindOptions,
  type Carried,
  type CustomDial,
  checkInetAddress,
  toHostAndPort,
  type WhereToConnect
} from '../where-to-connect.ts'
import type { WhereToListen } from '../where-to-listen.ts'
import { MemoryClient, MemoryListener, refusal } from './memory-listener.ts'
import type { EndOwner, MemoryTransport } from './memory-transport.ts'
import { systemErrorNamed } from './system-error.ts'
import { DEFAULT_CAPACITY, type Link, Wire } from './wire.ts'

const ANY = '0.0.0.0'
const LOCALHOST = '127.0.0.1'
/** Where ports begin that a system chooses. */
const FIRST_PORT = 49_152
const LAST_PORT = 65_535

const PAIR = 'Cannot make a pair'
const LISTEN = 'Cannot describe where to listen'

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
 * const server = await Server.create(network.onPort(7), ({ reader, writer }) => writer(reader))
 * const reply = await withConnection(network.toHostAndPort('echo', 7), async ({ reader, writer }) => {
 *   writer.write('hello\n')
 *   return reader.readLine()
 * })
 * await server.close()
 * await server.finished
 * console.log(reply, network.open) // hello []
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
   * Describes a listener on `port` of this network, for `listen` and `Server.create`: of all hosts, unless `host` is given; 0 lets the network choose.
   * Clients beyond `backlog` wait for their own `timeout`. What is in use already fails with `ListenError` and EADDRINUSE.
   *
   * @throws {TypeError | RangeError} If an argument is wrong.
   */
  onPort(port: number, options: { host?: string } = {}): WhereToListen<InetAddress, number> {
    checkPort(LISTEN, 'port', port, 0)
    checkOptions(LISTEN, options)
    const { host } = options
    if (host !== undefined) checkString(LISTEN, 'host', host)
    const address = inetAddress(host === undefined ? ANY : this.#addressOf(host), port)
    const bind = (gateOptions: GateOptions) => this.#listen(address, gateOptions)
    return Object.freeze({
      target: Object.freeze({ kind: 'custom', address, bind }),
      listeningOn: ({ port: bound }: InetAddress) => bound
    })
  }

  /**
   * Describes an endpoint of this network, for `connect` and `withConnection`. Every name is known, and has an address of its own; where nobody listens
   * the connection is refused. `localAddress` is what the server is to see as the client's, 127.0.0.1 unless it is given.
   *
   * @throws {TypeError | RangeError} If an argument is wrong.
   */
  toHostAndPort(host: string, port: number, options: BindOptions = {}): WhereToConnect<InetAddress> {
    const where = toHostAndPort(host, port, options)
    const server = inetAddress(this.#addressOf(host), port)
    return Object.freeze({ ...where, dial: this.#dial(server, where.bind) })
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
    const upgrade = upgradeTo(undefined)
    return [
      openConnection<InetAddress>(wire.client, filledIn, { remoteAddress: server, localAddress: client, isAccepted: false, upgrade })
        .facade,
      openConnection<InetAddress>(wire.server, filledIn, { remoteAddress: client, localAddress: server, isAccepted: true, upgrade }).facade
    ]
  }

  // -------------------------------------------------------------------------------------------------------------------

  #listen(asked: InetAddress, { backlog, onAccept }: GateOptions): { gate: MemoryListener; address: InetAddress } {
    const port = asked.port === 0 ? this.#choosePort() : asked.port
    const address = inetAddress(asked.address, port)
    if (this.#isTaken(address)) throw systemErrorNamed('EADDRINUSE', 'listen')
    const name = formatAddress(address)
    const gate = new MemoryListener({ backlog, onAccept, onClose: () => void this.#listeners.delete(name) })
    this.#listeners.set(name, gate)
    return { gate, address }
  }

  #isTaken({ address, port }: InetAddress): boolean {
    if (address !== ANY) return this.#listenerAt(address, port) !== undefined
    return [...this.#listeners.keys()].some((name) => name.endsWith(`:${port}`))
  }

  #listenerAt(address: string, port: number): MemoryListener | undefined {
    return this.#listeners.get(formatAddress(inetAddress(address, port))) ?? this.#listeners.get(formatAddress(inetAddress(ANY, port)))
  }

  #dial(server: InetAddress, { localAddress = LOCALHOST, localPort = 0 }: BindOptions): CustomDial {
    return (succeed, fail) => {
      let giveUp = (): void => {
        isGivenUp = true
      }
      let isGivenUp = false
      // A turn later, as with systems.
      setImmediate(() => {
        if (isGivenUp) return
        const listener = this.#listenerAt(server.address, server.port)
        if (listener === undefined) {
          fail(refusal())
          return
        }
        giveUp = listener.dial({ connect: () => this.#connect(inetAddress(localAddress, localPort), server, succeed), refuse: fail })
      })
      return () => giveUp()
    }
  }

  #connect({ address, port }: InetAddress, server: InetAddress, succeed: (carried: Carried) => void): MemoryClient {
    const client = inetAddress(address, port === 0 ? this.#choosePort() : port)
    const wire = this.#join(client, server)
    succeed({ transport: wire.client, remoteAddress: server, localAddress: client })
    return new MemoryClient(wire.server, client, server)
  }

  /** The address of a host: names get theirs in the order in which they are named. */
  #addressOf(host: string): string {
    if (isIP(host) !== 0) return host
    const known = this.#addresses.get(host)
    if (known !== undefined) return known
    const number = this.#addresses.size
    const address = `10.0.${number >> 8}.${number & 0xff}`
    this.#addresses.set(host, address)
    return address
  }

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
    for (;;) {
      const port = this.#nextPort
      this.#nextPort = port === LAST_PORT ? FIRST_PORT : port + 1
      if (!this.#isTaken(inetAddress(ANY, port))) return port
    }
  }
}
