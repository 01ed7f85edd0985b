// The same laws over TCP and over unix sockets, with the gate in the kernel and in userland, and in memory.

import { execFileSync } from 'node:child_process'
import { readFileSync, readlinkSync } from 'node:fs'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import type { SocketAddress } from '../../src/address.ts'
import type { Connection } from '../../src/connection.ts'
import { listen } from '../../src/listen.ts'
import type { ListenOptions, ServerOptions } from '../../src/options.ts'
import { Server } from '../../src/server.ts'
import { kernelGateAvailable } from '../../src/system/descriptors.ts'
import { MemoryNetwork } from '../../src/testing.ts'
import { onFile, onPort } from '../../src/where-to-listen.ts'
import { useCertificates } from './certificates.ts'
import { memoryClient } from './memory-peer.ts'
import { isAvailable, skipIf } from './programs.ts'
import { rawClient, type Target } from './raw.ts'
import { type Scope, useScope } from './scope.ts'
import { contextOf, startTlsClient, type TlsKind } from './tls-peer.ts'
import { until } from './until.ts'

const TLS: TlsKind = { version: 'TLSv1.3', closeNotify: 'required' }

/** Whether the kernel gate is to be had here. */
export const CAN_GATE_IN_KERNEL = process.env.IT_TCP_GATE !== 'userland' && kernelGateAvailable()

export type Handler = (connection: Connection) => unknown

/** Where a test runs. What it opens is closed when the test ends. */
export interface Setting {
  readonly isTcp: boolean
  readonly isKernel: boolean
  /** Whether there are no sockets: a network in memory has a queue of its own, and a gate as in the kernel. */
  readonly isMemory: boolean
  /** Whether both speak TLS: a client is one as soon as it is connected, and its handshake is over when the server lets it in. */
  readonly isTls: boolean
  readonly scope: Scope
  /** The warnings of this process since the test began, which are not printed. */
  readonly warnings: readonly Warning[]
  listen(options?: ListenOptions): Promise<Server>
  create(options: ServerOptions<SocketAddress>, handler: Handler): Promise<Server>
  /** A foreign client of the server, connected, paused; may be half-open. */
  client(server: Server): Promise<Socket>
  /** As many clients as asked for, in the order of their arrival, which they send as a line: 1, 2, 3 … */
  clients(server: Server, count: number): Promise<Socket[]>
  /** Lets a client go as rudely as it can: with a reset where there is one. */
  leave(client: Socket): Promise<void>
  /** Waits, and checks each turn of the event loop the invariant of every server. */
  until(condition: () => unknown, what?: string): Promise<void>
  /** Lets the event loop turn: time enough for what must not happen. Checks every turn the invariant of every server. */
  turns(count?: number): Promise<void>
}

interface Warning extends Error {
  readonly code?: string
}

/** Runs the tests of `define` in every setting, in memory too, or in those that `only` selects. */
export function inEverySetting(define: (setting: Setting) => void, only: { isTcp?: boolean; isKernel?: boolean } = {}): void {
  inEverySocketSetting(define, only)
  if (only.isTcp !== undefined || only.isKernel !== undefined) return
  describe('in memory', () => {
    define(useSetting(true, true, true))
  })
  describe('over TLS, gate in the kernel', () => {
    define(useSetting(true, true, false, true))
  })
}

/** The same where there are sockets. */
export function inEverySocketSetting(define: (setting: Setting) => void, only: { isTcp?: boolean; isKernel?: boolean } = {}): void {
  for (const isTcp of [true, false]) {
    for (const isKernel of [true, false]) {
      if (only.isTcp === !isTcp || only.isKernel === !isKernel) continue
      describe(`over ${isTcp ? 'TCP' : 'a unix socket'}, gate in ${isKernel ? 'the kernel' : 'userland'}`, () => {
        define(useSetting(isTcp, isKernel))
      })
    }
  }
}

function useSetting(isTcp: boolean, isKernel: boolean, isMemory = false, isTls = false): Setting {
  let servers: Server[] = []
  let warnings: Warning[] = []
  let printers: NodeJS.WarningListener[] = []
  let gate: string | undefined
  const collect = (warning: Warning): void => void warnings.push(warning)
  const checkAll = (): void => {
    for (const server of servers) server.invariant()
  }

  before(function () {
    if (isTls) useCertificates(this)
    skipIf(this, !isTcp && process.platform === 'win32', 'needs unix sockets')
    skipIf(this, isKernel && !isMemory && !CAN_GATE_IN_KERNEL, 'needs the kernel gate')
    gate = process.env.IT_TCP_GATE
    process.env.IT_TCP_GATE = isKernel ? 'kernel' : 'userland'
    printers = process.listeners('warning')
    process.removeAllListeners('warning').on('warning', collect)
  })

  after(async () => {
    // A warning comes a tick after its cause.
    await setImmediate()
    process.off('warning', collect)
    for (const printer of printers) process.on('warning', printer)
    if (gate === undefined) delete process.env.IT_TCP_GATE
    else process.env.IT_TCP_GATE = gate
  })

  beforeEach(() => {
    servers = []
    warnings = []
  })

  const scope = useScope()

  afterEach(async () => {
    checkAll()
    const unexpected = warnings.filter(({ name, code }) => code?.startsWith('IT_TCP_') !== true && name !== 'ExperimentalWarning')
    if (unexpected.length > 0) throw new AggregateError(unexpected, `Unexpected warnings: ${unexpected.join(', ')}`)
  })

  const network = new MemoryNetwork()
  const where = () => {
    if (isMemory) return network.onPort(0, { host: '127.0.0.1' })
    return isTcp ? onPort(0, { host: '127.0.0.1' }) : onFile(join(scope.tempDir(), 's'))
  }
  const track = (server: Server): Server => {
    servers.push(server)
    scope.defer(() => server.close({ closeExistingConnections: true }))
    server.invariant()
    return server
  }
  const withTls = <O extends ListenOptions>(options: O | undefined): O => ({ ...(isTls && { tls: contextOf(TLS) }), ...options }) as O
  const client = async (server: Server): Promise<Socket> => {
    if (isMemory) return await memoryClient(scope, network, server.listeningOn as number)
    const socket = await rawClient(scope, server.listeningOn as Target)
    return isTls ? startTlsClient(socket) : socket
  }

  return {
    isTcp,
    isKernel,
    isMemory,
    isTls,
    scope,
    get warnings() {
      return warnings
    },
    async listen(options) {
      return track((await listen(where(), withTls(options))) as Server)
    },
    async create(options, handler) {
      return track((await Server.create(where(), withTls(options), handler)) as Server)
    },
    client,
    async clients(server, count) {
      const sockets: Socket[] = []
      for (let number = 1; number <= count; number++) {
        const socket = await client(server)
        socket.write(`${number}\n`)
        sockets.push(socket)
      }
      return sockets
    },
    async leave(socket) {
      if (isTcp) socket.resetAndDestroy()
      else socket.destroy()
      await closed(socket)
    },
    async until(condition, what) {
      await until(async () => {
        checkAll()
        return await condition()
      }, what ?? String(condition))
    },
    async turns(count = 20) {
      for (let turn = 0; turn < count; turn++) {
        checkAll()
        await setImmediate()
      }
    }
  }
}

/** Waits until `socket` is closed, whatever closes it. */
export async function closed(socket: Socket): Promise<void> {
  if (socket.closed) return
  await new Promise((resolve) => socket.once('close', resolve))
}

/** Whether `queue()` and `backlog()` can be told here: Deno does not tell the descriptor of a listening socket. */
export function canTellQueue(): boolean {
  return process.platform === 'linux' && process.versions.deno === undefined && isAvailable('ss')
}

/** How many clients wait in the kernel's queue of `server`, as the kernel tells it. */
export function queue(server: Server): number {
  const { waiting } = server.statistics()
  if (server.listeningSocket.fd === -1 && waiting !== null) return waiting
  const inProc = server.address.family === 'unix' ? undefined : queueInProc(server)
  const told = Number(listener(server)[2])
  if (inProc !== undefined && inProc !== told) throw new Error(`The kernel tells ${told} by one way and ${inProc} by another`)
  return told
}

/** The backlog with which `server` listens, as the kernel tells it. */
export function backlog(server: Server): number {
  return Number(listener(server)[3])
}

// What ss says of the listening socket: kind, state, queue, backlog, address … Found by its number, since a unix socket is bound to
// another name than the one it has in the end.
function listener({ address, listeningSocket }: Server): string[] {
  const isUnix = address.family === 'unix'
  const output = execFileSync('ss', [isUnix ? '-lxnH' : '-ltneH'], { encoding: 'utf8' })
  const inode = inodeOf(listeningSocket.fd)
  for (const line of output.split('\n')) {
    const columns = line.trim().split(/\s+/)
    if (isUnix ? columns[5] === inode : line.includes(` ino:${inode} `)) return isUnix ? columns : ['tcp', ...columns]
  }
  throw new Error(`ss knows nothing of socket ${inode}`)
}

function queueInProc({ listeningSocket }: Server): number {
  const inode = inodeOf(listeningSocket.fd)
  for (const table of ['tcp', 'tcp6']) {
    for (const line of readFileSync(`/proc/net/${table}`, 'latin1').split('\n')) {
      const columns = line.trim().split(/\s+/)
      if (columns[9] === inode) return Number.parseInt((columns[4] as string).split(':')[1] as string, 16)
    }
  }
  throw new Error(`The kernel knows nothing of socket ${inode}`)
}

function inodeOf(fd: number): string {
  return readlinkSync(`/proc/self/fd/${fd}`).replace(/\D/g, '')
}
