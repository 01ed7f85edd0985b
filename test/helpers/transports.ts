// Connections to test, each with a foreign peer: over TCP, over a unix socket, and in memory, dialled and accepted.

import type { Socket } from 'node:net'
import { basename, join } from 'node:path'
import {
  type Connection,
  type ConnectionOptions,
  connect,
  type InetAddress,
  listen,
  onFile,
  onPortChosenByOs,
  type SocketAddress,
  toFile,
  toHostAndPort,
  type WhereToConnect
} from '../../src/index.ts'
import { connectionSettings } from '../../src/options.ts'
import { openConnection } from '../../src/stream/connection-facade.ts'
import type { MemoryTransport } from '../../src/testing/memory-transport.ts'
import { Wire } from '../../src/testing/wire.ts'
import { memoryPeer } from './memory-peer.ts'
import { closeAtEnd, rawClient, rawServer, type Target } from './raw.ts'
import type { Scope } from './scope.ts'
import { clientOf, contextOf, type TlsKind, tlsClientPeer, tlsServerPeer } from './tls-peer.ts'

export interface Transport {
  /** For the title of a block: 'a dialled TCP connection'. */
  readonly name: string
  /** Whether a reset can be sent and seen: a unix peer can only see an end. */
  readonly isTcp: boolean
  readonly isAccepted: boolean
  /** Whether there is no socket under it. */
  readonly isMemory?: boolean
  /** How it speaks TLS; undefined for plain ones. */
  readonly tls?: TlsKind
}

export const TRANSPORTS: readonly Transport[] = [
  { name: 'a dialled TCP connection', isTcp: true, isAccepted: false },
  { name: 'an accepted TCP connection', isTcp: true, isAccepted: true },
  { name: 'a dialled unix connection', isTcp: false, isAccepted: false },
  { name: 'an accepted unix connection', isTcp: false, isAccepted: true }
]

/** The same without sockets: for all laws that are not about them. */
export const WITH_MEMORY: readonly Transport[] = [
  ...TRANSPORTS,
  { name: 'a dialled connection in memory', isTcp: true, isAccepted: false, isMemory: true },
  { name: 'an accepted connection in memory', isTcp: true, isAccepted: true, isMemory: true }
]

/** Each version and either role, over the handle of a socket and over a stream of the library's own. */
export const TLS_TRANSPORTS: readonly Transport[] = [
  { name: 'a dialled TLS 1.3 connection', isTcp: true, isAccepted: false, tls: { version: 'TLSv1.3', closeNotify: 'required' } },
  { name: 'an accepted TLS 1.2 connection', isTcp: true, isAccepted: true, tls: { version: 'TLSv1.2', closeNotify: 'required' } },
  {
    name: 'a dialled TLS 1.2 connection over a stream',
    isTcp: true,
    isAccepted: false,
    tls: { version: 'TLSv1.2', closeNotify: 'optional' }
  },
  {
    name: 'an accepted TLS 1.3 connection over a stream',
    isTcp: true,
    isAccepted: true,
    tls: { version: 'TLSv1.3', closeNotify: 'optional' }
  }
]

/** The same, each with each. */
export const EVERY_TLS: readonly Transport[] = [false, true].flatMap((isAccepted) =>
  (['TLSv1.3', 'TLSv1.2'] as const).flatMap((version) =>
    (['required', 'optional'] as const).map((closeNotify) => {
      const name = `${isAccepted ? 'an accepted' : 'a dialled'} ${version} connection${closeNotify === 'optional' ? ' over a stream' : ''}`
      return { name, isTcp: true, isAccepted, tls: { version, closeNotify } }
    })
  )
)

/** All that a law of connections is about. */
export const EVERY_TRANSPORT: readonly Transport[] = [...WITH_MEMORY, ...TLS_TRANSPORTS]

export interface Ends {
  readonly connection: Connection
  /** The other end: paused, so nothing is read before the test says so, and half-open. */
  readonly peer: Socket
}

/** Opens a connection, which is aborted when the test ends. */
export async function openEnds(scope: Scope, transport: Transport, options: ConnectionOptions = {}): Promise<Ends> {
  const path = transport.isTcp ? undefined : socketPath(scope)
  const ends =
    transport.isMemory === true
      ? inMemory(scope, transport.isAccepted, options)
      : transport.isAccepted
        ? await accepted(scope, path, options, transport.tls)
        : await dialled(scope, path, options, transport.tls)
  scope.defer(() => {
    ends.connection.abort()
    return ends.connection.closed
  })
  return ends
}

/** Where a unix socket may be: Windows has named pipes in their place, in a directory of their own. */
function socketPath(scope: Scope): string {
  const directory = scope.tempDir()
  return process.platform === 'win32' ? `\\\\.\\pipe\\${basename(directory)}` : join(directory, 's')
}

async function accepted(scope: Scope, path: string | undefined, options: ConnectionOptions, tls: TlsKind | undefined): Promise<Ends> {
  const where = path === undefined ? onPortChosenByOs({ host: '127.0.0.1' }) : onFile(path)
  const server = scope.open(await listen<never, number | string>(where as never, { ...options, ...(tls && { tls: contextOf(tls) }) }))
  const connection = server.accept()
  const socket = await rawClient(scope, server.listeningOn)
  const peer = tls === undefined ? socket : await tlsClientPeer(socket)
  return { connection: await connection, peer }
}

async function dialled(scope: Scope, path: string | undefined, options: ConnectionOptions, tls: TlsKind | undefined): Promise<Ends> {
  const server = await rawServer(scope, path)
  const where = path === undefined ? toHostAndPort('127.0.0.1', server.target as number) : toFile(path)
  const connection = connect(where, { ...options, ...(tls && { tls: clientOf(tls) }) })
  const socket = await server.accept()
  const peer = tls === undefined ? socket : await tlsServerPeer(socket)
  return { connection: await connection, peer }
}

// With as much room as systems have at most, which they are seen to take.
const MEMORY_CAPACITY = 262_144

const carriers = new WeakMap<Connection, MemoryTransport>()

/** What carries the bytes of a connection in memory; undefined for others. */
export function carrierOf(connection: Connection): MemoryTransport | undefined {
  return carriers.get(connection)
}

function inMemory(scope: Scope, isAccepted: boolean, options: ConnectionOptions): Ends {
  const { client, server } = new Wire(MEMORY_CAPACITY, { endReleased() {} })
  const [carrier, other] = isAccepted ? [server, client] : [client, server]
  const [localPort, remotePort] = [1, 2]
  const peer = memoryPeer(other, { localPort: remotePort, remotePort: localPort })
  closeAtEnd(scope, peer)
  const address = (port: number): InetAddress => ({ family: 'IPv4', address: '127.0.0.1', port })
  const init = { remoteAddress: address(remotePort), localAddress: address(localPort), isAccepted }
  const connection = openConnection(carrier, connectionSettings('Cannot open', options), init).facade
  carriers.set(connection, carrier)
  return { connection, peer }
}

export interface Pair {
  readonly client: Connection
  readonly server: Connection
}

/** Opens a connection that has this library at both ends, `over` a proxy if there is one. Both are aborted when the test ends. */
export async function openPair(
  scope: Scope,
  isTcp: boolean,
  options: ConnectionOptions = {},
  over: (target: Target) => Target | Promise<Target> = (target) => target
): Promise<Pair> {
  const where = isTcp ? onPortChosenByOs({ host: '127.0.0.1' }) : onFile(join(scope.tempDir(), 's'))
  const listening = scope.open(await listen<never, Target>(where as never, options))
  const accepted = listening.accept()
  const client = await connect(whereIs(await over(listening.listeningOn)), options)
  const server = await accepted
  scope.defer(async () => {
    client.abort()
    server.abort()
    await Promise.all([client.closed, server.closed])
  })
  return { client, server }
}

/** How the library is told of `target`. */
export function whereIs(target: Target): WhereToConnect<SocketAddress> {
  return (typeof target === 'string' ? toFile(target) : toHostAndPort('127.0.0.1', target)) as WhereToConnect<SocketAddress>
}

/** More than the system takes while the peer does not read. */
export const TOO_MUCH = new Uint8Array(64 * 1024 * 1024)
