// What the specs of dialling share: the ways to connect, sockets that do as they are told, and servers that answer nobody.

import { once } from 'node:events'
import { renameSync } from 'node:fs'
import { createRequire } from 'node:module'
import { type NetConnectOpts, Socket, type TcpNetConnectOpts } from 'node:net'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { expect } from 'chai'
import type { SocketAddress } from '../../src/address.ts'
import { type DialLimits, dial as dialWithSteps, type Lookup } from '../../src/client/dial.ts'
import { connect, connectSocket, withConnection } from '../../src/connect.ts'
import type { ConnectOptions } from '../../src/options.ts'
import { toFile, toHostAndPort, type WhereToConnect } from '../../src/where-to-connect.ts'
import { skipIf } from './programs.ts'
import { rawServer, type Target } from './raw.ts'
import type { Scope } from './scope.ts'

export const ACTION = 'Cannot connect'
export const IS_LINUX = process.platform === 'linux'
export const NO_LIMITS: DialLimits = { timeout: Number.POSITIVE_INFINITY, signal: undefined }

export type Where = WhereToConnect<SocketAddress>

// The three ways to connect have the same laws until there is a connection. Each closes what it has opened.
export const WAYS: readonly [name: string, open: (where: Where, options?: ConnectOptions) => Promise<void>][] = [
  [
    'connectSocket',
    async (where, options) => {
      const socket = await connectSocket(where, options)
      socket.destroy()
      await once(socket, 'close')
    }
  ],
  [
    'connect',
    async (where, options) => {
      const connection = await connect(where, options)
      connection.abort()
      await connection.closed
    }
  ],
  ['withConnection', (where, options = {}) => withConnection(where, options, (connection) => connection.abort())]
]

/** Connects a socket, with no steps behind that. */
export async function dial(where: Where, limits: DialLimits, createSocket: () => Socket, lookup?: Lookup): Promise<Socket> {
  return (await dialWithSteps(where, limits, createSocket, [], lookup)).socket
}

/** A server that reads, and closes when its client does. */
export async function politeServer(scope: Scope): Promise<Target> {
  const { server, target } = await rawServer(scope)
  server.on('connection', (socket) => socket.on('end', () => socket.end()).resume())
  return target
}

/** Sockets that never connect, fail or do anything: the test does it for them. */
export class Sockets {
  readonly made: Socket[] = []
  readonly asked: NetConnectOpts[] = []

  readonly create = (): Socket => {
    const { asked } = this
    class Idle extends Socket {
      override connect(options: unknown): this {
        asked.push(options as NetConnectOpts)
        return this
      }
    }
    const socket = new Idle()
    this.made.push(socket)
    return socket
  }

  get targets(): unknown[] {
    return this.asked.map((options) => (options as TcpNetConnectOpts).host)
  }

  get destroyed(): boolean[] {
    return this.made.map((socket) => socket.destroyed)
  }
}

export function answers(...addresses: string[]): Lookup {
  return () => Promise.resolve(addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })))
}

export function to(target: Target): Where {
  return typeof target === 'string' ? toFile(target) : toHostAndPort('127.0.0.1', target)
}

export function timers(): number {
  return process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length
}

export function listeners(socket: Socket): [event: string, count: number][] {
  return socket.eventNames().map((event): [string, number] => [String(event), socket.listenerCount(event)])
}

export interface BlackHole {
  readonly target: Target
  /** From then on every client is taken. */
  wake(): void
}

/**
 * A server that listens but takes nobody, with a full queue: Linux drops the SYN of a further TCP client, and fails a
 * unix client with EAGAIN. Its event loop stands still in a thread of its own.
 */
export async function blackHole(
  context: Mocha.Context,
  scope: Scope,
  where: string | { port: number; host: string } = { port: 0, host: '127.0.0.1' }
): Promise<BlackHole> {
  skipIf(context, !IS_LINUX, 'needs the way in which Linux treats clients beyond the queue')
  return await fullServer(scope, where)
}

export async function fullQueue(scope: Scope): Promise<string> {
  const { target } = await fullServer(scope, join(scope.tempDir(), 's'))
  return target as string
}

export async function fullServer(scope: Scope, where: string | { port: number; host: string }): Promise<BlackHole> {
  const backlog = 1
  const gate = new Int32Array(new SharedArrayBuffer(4))
  const worker = new Worker(
    `const { parentPort, workerData: { where, gate } } = require('node:worker_threads')
    const server = require('node:net').createServer().listen(where, () => {
      parentPort.postMessage(where.path ?? server.address().port)
      Atomics.wait(gate, 0, 0)
    })`,
    { eval: true, workerData: { where: { ...(typeof where === 'string' ? { path: where } : where), backlog }, gate } }
  )
  scope.defer(() => worker.terminate())
  const [target] = (await once(worker, 'message')) as [Target]
  const wanted = typeof where === 'string' ? { path: where } : { host: where.host, port: target as number }
  // The queue is full with one more than the backlog.
  for (let index = 0; index <= backlog; index++) {
    const socket = new Socket().on('error', () => {}).connect(wanted)
    scope.defer(() => socket.destroy())
    await once(socket, 'connect')
  }
  return {
    target,
    wake() {
      Atomics.store(gate, 0, 1)
      Atomics.notify(gate, 0)
    }
  }
}

/** The path of a socket that nobody listens on any more. */
export async function staleSocket(scope: Scope): Promise<string> {
  const path = join(scope.tempDir(), 's')
  const worker = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads')
    require('node:net').createServer().listen(workerData, () => parentPort.postMessage(''))`,
    { eval: true, workerData: path }
  )
  await once(worker, 'message')
  // What libuv unlinks when it closes is the name that was bound.
  renameSync(path, `${path}.stale`)
  await worker.terminate()
  return `${path}.stale`
}

type GetSockOpt = (fd: number, level: number, name: number, value: Int32Array, length: Uint32Array) => number
let getSockOpt: GetSockOpt | undefined

/** An option of a socket as the system has it, by the numbers of Linux. Skips the test where that can't be asked. */
export function socketOption(context: Mocha.Context, socket: Socket, level: number, name: number): number {
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi')
    getSockOpt ??= koffi.load(null).func('int getsockopt(int, int, int, _Out_ int *, _Inout_ uint32_t *)') as unknown as GetSockOpt
  } catch {
    // Told below.
  }
  const { fd } = (socket as unknown as { _handle: { fd: number } })._handle
  skipIf(context, !IS_LINUX || getSockOpt === undefined || fd < 0, 'needs Linux and koffi')
  const value = new Int32Array(1)
  expect(getSockOpt?.(fd, level, name, value, new Uint32Array([4]))).to.equal(0)
  return value[0] ?? 0
}
