// The same laws over TCP and over unix sockets, with the gate in the kernel and in userland.

import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import type { SocketAddress } from '../../src/address.ts'
import type { Connection } from '../../src/connection.ts'
import { kernelGateAvailable } from '../../src/descriptor.ts'
import type { ListenOptions, ServerOptions } from '../../src/options.ts'
import { listen, Server } from '../../src/server.ts'
import { onFile, onPort } from '../../src/where-to-listen.ts'
import { isAvailable, skipIf } from './programs.ts'
import { rawClient, type Target } from './raw.ts'
import { type Scope, useScope } from './scope.ts'
import { until } from './until.ts'

export type Handler = (connection: Connection) => unknown

/** Where a test runs. What it opens is closed when the test ends. */
export interface Setting {
  readonly isTcp: boolean
  readonly isKernel: boolean
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

/** Runs the tests of `define` in every setting, or in those that `only` selects. */
export function inEverySetting(define: (setting: Setting) => void, only: { isTcp?: boolean; isKernel?: boolean } = {}): void {
  for (const isTcp of [true, false]) {
    for (const isKernel of [true, false]) {
      if (only.isTcp === !isTcp || only.isKernel === !isKernel) continue
      describe(`over ${isTcp ? 'TCP' : 'a unix socket'}, gate in ${isKernel ? 'the kernel' : 'userland'}`, () => {
        define(useSetting(isTcp, isKernel))
      })
    }
  }
}

function useSetting(isTcp: boolean, isKernel: boolean): Setting {
  const scope = useScope()
  let servers: Server[] = []
  let warnings: Warning[] = []
  let printers: NodeJS.WarningListener[] = []
  const gate = process.env.IT_TCP_GATE
  const collect = (warning: Warning): void => void warnings.push(warning)
  const checkAll = (): void => {
    for (const server of servers) server.invariant()
  }

  before(function () {
    skipIf(this, !isTcp && process.platform === 'win32', 'needs unix sockets')
    skipIf(this, isKernel && !kernelGateAvailable(), 'needs the kernel gate')
  })

  beforeEach(() => {
    servers = []
    warnings = []
    printers = process.listeners('warning')
    process.removeAllListeners('warning').on('warning', collect)
    process.env.IT_TCP_GATE = isKernel ? 'kernel' : 'userland'
  })

  afterEach(async () => {
    // A warning comes a tick after its cause.
    await setImmediate()
    process.off('warning', collect)
    for (const printer of printers) process.on('warning', printer)
    if (gate === undefined) delete process.env.IT_TCP_GATE
    else process.env.IT_TCP_GATE = gate
    checkAll()
    const unexpected = warnings.filter(({ code }) => code?.startsWith('IT_TCP_') !== true)
    if (unexpected.length > 0) throw new AggregateError(unexpected, 'Unexpected warnings')
  })

  const where = () => (isTcp ? onPort(0, { host: '127.0.0.1' }) : onFile(join(scope.tempDir(), 's')))
  const track = (server: Server): Server => {
    servers.push(server)
    scope.defer(() => server.close({ closeExistingConnections: true }))
    server.invariant()
    return server
  }
  const client = (server: Server): Promise<Socket> => rawClient(scope, server.listeningOn as Target)

  return {
    isTcp,
    isKernel,
    scope,
    get warnings() {
      return warnings
    },
    async listen(options) {
      return track(await listen(where(), options))
    },
    async create(options, handler) {
      return track(await Server.create(where(), options, handler))
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
      if (!socket.closed) await once(socket, 'close')
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

/** Whether `queue()` can be told here. */
export function canTellQueue(isTcp: boolean): boolean {
  return process.platform === 'linux' && (isTcp || isAvailable('ss'))
}

/** How many clients wait in the kernel's queue of the socket that listens on `target`, as the kernel tells it. */
export function queue(target: Target): number {
  if (typeof target === 'string') return Number(ssColumns(target)[2])
  const suffix = `:${target.toString(16).toUpperCase().padStart(4, '0')}`
  for (const table of ['tcp', 'tcp6']) {
    for (const line of readFileSync(`/proc/net/${table}`, 'latin1').split('\n')) {
      const [, local, , state, queues] = line.trim().split(/\s+/)
      if (local?.endsWith(suffix) && state === '0A') return Number.parseInt((queues as string).split(':')[1] as string, 16)
    }
  }
  throw new Error(`Nobody listens on ${target}`)
}

/** What `ss` says of the socket that listens on `target`: family, state, queue, backlog, address … */
export function ssColumns(target: Target): string[] {
  const isPort = typeof target === 'number'
  const output = execFileSync('ss', [isPort ? '-ltnH' : '-lxnH'], { encoding: 'utf8' })
  for (const line of output.split('\n')) {
    const columns = line.trim().split(/\s+/)
    // Only unix sockets have the column of the kind.
    if (isPort) columns.unshift('tcp')
    if (isPort ? columns[4]?.endsWith(`:${target}`) : columns[4] === target) return columns
  }
  throw new Error(`Nobody listens on ${target}`)
}
