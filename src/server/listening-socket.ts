// A listening socket whose gate can be shut: bind, listen, open, shut, close.

import { AsyncResource } from 'node:async_hooks'
import cluster from 'node:cluster'
import { chmodSync } from 'node:fs'
import net from 'node:net'
import { inetAddress, type SocketAddress } from '../address.ts'
import { Deferred } from '../async/deferred.ts'
import { ListenError } from '../errors.ts'
import { keepAliveSeconds } from '../options.ts'
import {
  adopt,
  checkListening,
  closeDescriptor,
  closeOnExec,
  duplicate,
  type HandleAddress,
  handleOf,
  hasNodeHandles,
  isDescriptorFree,
  kernelGateAvailable,
  systemError,
  systemErrorNamed,
  type TcpOrPipeHandle,
  unixPathOf
} from '../system/descriptor.ts'
import type { ListenTarget, WhereToListen } from '../where-to-listen.ts'
import { removeStaleSocket, UnixSocketFile } from './unix-socket-file.ts'

/**
 * An accepted client, nothing of it read: Node.js's raw handle, from which the server makes its one `net.Socket`; or, where the handle is not to
 * be had, a paused `net.Socket` that allows half-open.
 */
export type Accepted = { readonly handle: TcpOrPipeHandle } | { readonly socket: net.Socket }

export interface ListeningSocketOptions {
  /** Clients in the kernel's queue. */
  readonly backlog: number
  /** Milliseconds, as in `ConnectionOptions`. */
  readonly keepAlive: number | false
  /** Called with each client, from the event loop, never inside `open()`; only while the gate is open. Must not throw. */
  readonly onAccept: (client: Accepted) => void
  /** Called when accept(2) fails. The gate stays as it is. */
  readonly onAcceptError?: (error: Error) => void
}

/** The two ways to a gate. */
interface Gate {
  readonly fd: number
  readonly parked: number
  readonly isOpen: boolean
  open(): boolean
  shut(): void
  ref(): void
  unref(): void
  close(): Promise<void>
}

/** How often a port chosen by the system is tried if it turns out to be taken. */
const PORT_ATTEMPTS = 10

/**
 * A bound and listening socket, with a gate that lets clients in.
 *
 * - A client that connects while the gate is shut succeeds, and waits: in the kernel's queue (`gate` is `'kernel'`), or accepted
 *   but unread (`'userland'`: `backlog` of them at most, those beyond are closed).
 * - All microtasks run between one client and the next.
 * - An open listener keeps the process alive also while the gate is shut.
 */
export class ListeningSocket<A extends SocketAddress = SocketAddress> {
  /** As asked for, for unix sockets; really bound, for inet. */
  readonly address: A
  readonly gate: 'kernel' | 'userland'
  /** Whether accepted sockets have TCP_NODELAY and keep-alive as asked for without being told. */
  readonly inheritsSocketOptions: boolean
  readonly #gate: Gate
  readonly #file: UnixSocketFile | undefined
  #closed: Promise<void> | undefined

  private constructor(bound: Bound, settings: { address: A; inheritsSocketOptions: boolean }) {
    this.address = settings.address
    this.gate = bound.gate instanceof KernelGate ? 'kernel' : 'userland'
    this.inheritsSocketOptions = settings.inheritsSocketOptions
    this.#gate = bound.gate
    this.#file = bound.file
  }

  /**
   * Binds and listens, with the gate shut. Resolves when a connect begun after that succeeds.
   *
   * @throws {ListenError} If that fails; nothing is left behind then, and a descriptor to be adopted is left alone.
   */
  static async bind<A extends SocketAddress>(
    where: WhereToListen<A, unknown>,
    options: ListeningSocketOptions
  ): Promise<ListeningSocket<A>> {
    const { target } = where
    try {
      const bound = await bindTarget(target, options)
      const inheritsSocketOptions = setSocketOptions(bound.listening, options.keepAlive)
      return new ListeningSocket(bound, { address: bound.address as A, inheritsSocketOptions })
    } catch (error) {
      throw new ListenError(askedFor(target, error), error)
    }
  }

  /** The listening descriptor; -1 if this runtime does not tell, or once closed. */
  get fd(): number {
    return this.#closed === undefined ? this.#gate.fd : -1
  }

  get isOpen(): boolean {
    return this.#gate.isOpen
  }

  /** Clients accepted while the gate was shut; always 0 where `gate` is `'kernel'`. */
  get parked(): number {
    return this.#gate.parked
  }

  /**
   * Lets clients in, parked ones first. Returns false, with the gate still shut, if there are no descriptors for the listener and a
   * client: libuv would accept and close clients unseen.
   *
   * @throws {ListenError} If the system does not let it listen again.
   */
  open(): boolean {
    if (this.#closed !== undefined) return false
    try {
      return this.#gate.open()
    } catch (error) {
      throw new ListenError(this.address, error)
    }
  }

  /** Lets nobody in any more, from now on; also from inside `onAccept`. */
  shut(): void {
    this.#gate.shut()
  }

  /** Keeps the process alive while the socket listens, as from the start. */
  ref(): void {
    if (this.#closed === undefined) this.#gate.ref()
  }

  /** Lets the process end although the socket listens. */
  unref(): void {
    this.#gate.unref()
  }

  /**
   * Removes the unix socket's file, if it is still ours, then closes the socket. Resolves when it can be bound again. Clients that wait are
   * reset. Idempotent.
   */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  #close(): Promise<void> {
    // First the file, then the socket: once the socket is closed a successor may have the path.
    this.#file?.remove()
    return this.#gate.close()
  }
}

/**
 * Leaves the queue in the kernel. One duplicate of the listening descriptor is kept, and nobody polls it; the gate is open while there is
 * a second one that libuv polls. Undocumented on Node.js is only to listen on a handle and to take its `onconnection`, which
 * `server.listen(socket)` would do as well, but for a unix socket with a second handle on the same descriptor.
 */
class KernelGate implements Gate {
  readonly #kept: TcpOrPipeHandle
  readonly #backlog: number
  readonly #onConnection: (status: number, client?: TcpOrPipeHandle) => void
  // Handles take their async context from whoever makes them: connections must not see that of the handler that opened the gate.
  readonly #context = new AsyncResource('TCP_GATE', { requireManualDestroy: true })
  /** Keeps the process alive while nothing is polled. */
  readonly #keepAlive = setInterval(() => {}, 2 ** 31 - 1)
  #open: TcpOrPipeHandle | undefined
  #isRef = true

  constructor(kept: TcpOrPipeHandle, options: ListeningSocketOptions) {
    this.#kept = kept
    this.#backlog = options.backlog
    const { onAccept, onAcceptError } = options
    this.#onConnection = (status, client) => {
      if (client === undefined || status !== 0) onAcceptError?.(systemError(status, 'accept'))
      else onAccept({ handle: client })
    }
  }

  get fd(): number {
    return this.#kept.fd
  }

  get parked(): number {
    return 0
  }

  get isOpen(): boolean {
    return this.#open !== undefined
  }

  open(): boolean {
    if (this.#open !== undefined) return true
    if (!isDescriptorFree(2)) return false
    let handle: TcpOrPipeHandle
    try {
      handle = this.#context.runInAsyncScope(adoptDuplicate, undefined, this.#kept.fd)
    } catch (error) {
      // Another thread, such as one that opens a file, was faster.
      if ((error as NodeJS.ErrnoException).code === 'EMFILE') return false
      throw error
    }
    handle.onconnection = this.#onConnection
    const status = handle.listen(this.#backlog)
    if (status !== 0) {
      handle.close()
      throw systemError(status, 'listen')
    }
    if (!this.#isRef) handle.unref()
    this.#open = handle
    return true
  }

  shut(): void {
    const handle = this.#open
    this.#open = undefined
    handle?.close()
  }

  ref(): void {
    this.#isRef = true
    this.#keepAlive.ref()
    this.#open?.ref()
  }

  unref(): void {
    this.#isRef = false
    this.#keepAlive.unref()
    this.#open?.unref()
  }

  close(): Promise<void> {
    this.shut()
    clearInterval(this.#keepAlive)
    this.#context.emitDestroy()
    const closed = new Deferred()
    this.#kept.close(() => closed.resolve())
    return closed.promise
  }
}

/** Accepts all the time, as `net.Server` does, and parks clients while the gate is shut. */
class UserlandGate implements Gate {
  readonly #server: net.Server
  readonly #onAccept: (client: Accepted) => void
  readonly #backlog: number
  readonly #context = new AsyncResource('TCP_GATE', { requireManualDestroy: true })
  readonly #parked: Accepted[] = []
  /** Whether clients come as handles, not as sockets. */
  readonly #hasHandles: boolean
  #isOpen = false
  #delivery: NodeJS.Immediate | undefined

  constructor(server: net.Server, options: ListeningSocketOptions) {
    this.#server = server
    this.#onAccept = options.onAccept
    this.#backlog = options.backlog
    const handle = hasNodeHandles() ? handleOf(server) : undefined
    this.#hasHandles = handle?.onconnection != null
    if (handle !== undefined && this.#hasHandles) {
      handle.onconnection = (status, client) => {
        if (client === undefined || status !== 0) options.onAcceptError?.(systemError(status, 'accept'))
        else this.#take({ handle: client })
      }
    } else {
      server.on('connection', (socket) => this.#take({ socket }))
      server.on('error', (error) => options.onAcceptError?.(error))
    }
  }

  get fd(): number {
    return handleOf(this.#server)?.fd ?? -1
  }

  get parked(): number {
    return this.#parked.length
  }

  get isOpen(): boolean {
    return this.#isOpen
  }

  open(): boolean {
    this.#isOpen = true
    this.#deliverLater()
    return true
  }

  shut(): void {
    this.#isOpen = false
  }

  ref(): void {
    this.#server.ref()
  }

  unref(): void {
    this.#server.unref()
  }

  close(): Promise<void> {
    this.shut()
    clearImmediate(this.#delivery)
    const closed = new Deferred()
    this.#server.close(() => closed.resolve())
    // A server that made the connections itself waits for them, while the descriptor is closed already.
    if (!this.#hasHandles) setImmediate(() => closed.resolve())
    for (const client of this.#parked.splice(0)) discard(client)
    this.#context.emitDestroy()
    return closed.promise
  }

  #take(client: Accepted): void {
    // Where 'connection' events are all there is, several may come in one turn, without a microtask between them.
    if (this.#isOpen && this.#parked.length === 0 && 'handle' in client) {
      this.#onAccept(client)
    } else if (this.#parked.length < this.#backlog && this.#server.listening) {
      if ('socket' in client) client.socket.on('error', ignoreWhileParked)
      this.#parked.push(client)
      if (this.#isOpen) this.#deliverLater()
    } else {
      discard(client)
    }
  }

  /** One client per turn, as the kernel's gate has it: whoever takes one can shut the gate before the next. */
  #deliverLater(): void {
    if (this.#delivery !== undefined || this.#parked.length === 0) return
    this.#delivery = setImmediate(() => {
      this.#delivery = undefined
      this.#context.runInAsyncScope(this.#deliver, this)
    })
  }

  #deliver(): void {
    if (!this.#isOpen) return
    const client = this.#parked.shift()
    if (client === undefined) return
    this.#deliverLater()
    if ('socket' in client) client.socket.off('error', ignoreWhileParked)
    this.#onAccept(client)
  }
}

/** What is bound, before it is a {@link ListeningSocket}. */
interface Bound {
  readonly gate: Gate
  readonly address: SocketAddress
  /** On which to set socket options; undefined where there is none to set them on. */
  readonly listening: TcpOrPipeHandle | undefined
  readonly file?: UnixSocketFile
}

function bindTarget(target: ListenTarget, options: ListeningSocketOptions): Promise<Bound> {
  switch (target.kind) {
    case 'inet':
      return bindInet(target, options)
    case 'unix':
      return hasFile(target.path) ? bindFile(target, options) : bindName(target.path, options)
    case 'descriptor':
      return bindDescriptor(target.fd, options)
  }
}

async function bindInet(target: ListenTarget & { kind: 'inet' }, options: ListeningSocketOptions): Promise<Bound> {
  const { port, host, ipv6Only = false, reusePort = false } = target
  if (reusePort && !hasReusePort()) throw systemErrorNamed('ENOTSUP', 'listen')
  // Node.js 20 overlooks `ipv6Only` without a host.
  const where = { port, ipv6Only, reusePort, ...(host !== undefined ? { host } : ipv6Only && { host: '::' }) }
  for (let attempt = 1; ; attempt++) {
    try {
      const server = await listen(where, options)
      const bound = server.address() as net.AddressInfo
      const address = inetAddress(bound.address, bound.port)
      return { ...makeGate(server, options), address }
    } catch (error) {
      // Bound by the system, and taken by the time of listen(2).
      const isTaken = (error as NodeJS.ErrnoException).code === 'EADDRINUSE'
      if (!isTaken || port !== 0 || attempt === PORT_ATTEMPTS) throw error
    }
  }
}

/** Node.js knows `reusePort` from 22.12 on, and overlooks it before. */
function hasReusePort(): boolean {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  return major > 22 || (major === 22 && minor >= 12)
}

/** Named pipes of Windows and abstract names of Linux have none. */
function hasFile(path: string): boolean {
  return process.platform !== 'win32' && !path.startsWith('\0')
}

async function bindName(path: string, options: ListeningSocketOptions): Promise<Bound> {
  const server = await listen({ path }, options)
  return { ...makeGate(server, options), address: { family: 'unix', path } }
}

async function bindFile(target: ListenTarget & { kind: 'unix' }, options: ListeningSocketOptions): Promise<Bound> {
  const { path, mode } = target
  if (cluster.isWorker) return await bindFileInPrimary(path, mode, options)
  const file = await UnixSocketFile.prepare(path)
  try {
    const server = await listen({ path: file.bindPath }, options)
    let bound: Omit<Bound, 'address'>
    try {
      file.rename()
      bound = makeGate(server, options)
    } catch (error) {
      server.close()
      throw error
    }
    try {
      await file.publish(mode)
    } catch (error) {
      await bound.gate.close()
      throw error
    }
    return { ...bound, address: { family: 'unix', path }, file }
  } finally {
    await file.cleanUp()
  }
}

/** Workers of a cluster share the primary's socket, which it binds by its path and unlinks at the end. */
async function bindFileInPrimary(path: string, mode: number | undefined, options: ListeningSocketOptions): Promise<Bound> {
  // Before listening, not after it failed: from the second attempt on a worker no longer shares with the others.
  await removeStaleSocket(path)
  const server = await listen({ path }, options)
  if (mode !== undefined) chmodSync(path, mode)
  return { ...makeGate(server, options), address: { family: 'unix', path } }
}

async function bindDescriptor(fd: number, options: ListeningSocketOptions): Promise<Bound> {
  checkListening(fd)
  if (kernelGateAvailable()) {
    const kept = adopt(fd)
    closeOnExec(fd)
    return { gate: new KernelGate(kept, options), address: addressOf(kept), listening: kept }
  }
  // In a cluster worker it would be a descriptor of the primary.
  const server = await listen({ fd, exclusive: true }, options)
  const handle = handleOf(server)
  const address = handle === undefined ? addressFrom(server.address()) : addressOf(handle)
  return { ...makeGate(server, options), address }
}

function addressOf(handle: TcpOrPipeHandle): SocketAddress {
  const out: HandleAddress = {}
  if (handle.getsockname?.(out) === 0 && out.address !== undefined) return inetAddress(out.address, out.port ?? 0)
  return { family: 'unix', path: unixPathOf(handle.fd) }
}

function addressFrom(address: net.AddressInfo | string | null): SocketAddress {
  if (address === null || typeof address === 'string') return { family: 'unix', path: address ?? '' }
  return inetAddress(address.address, address.port)
}

/** Resolves in the turn in which the server listens, before it can accept anybody. */
function listen(where: net.ListenOptions & { fd?: number }, options: ListeningSocketOptions): Promise<net.Server> {
  const { backlog, keepAlive } = options
  const seconds = keepAliveSeconds(keepAlive)
  const server = net.createServer({
    allowHalfOpen: true,
    pauseOnConnect: true,
    noDelay: true,
    ...(seconds !== undefined && { keepAlive: true, keepAliveInitialDelay: seconds * 1000 })
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ ...where, backlog }, () => {
      server.off('error', reject)
      resolve(server)
    })
  })
}

/** Takes over a server that listens; it is closed if that fails. */
function makeGate(server: net.Server, options: ListeningSocketOptions): Omit<Bound, 'address'> {
  const first = handleOf(server)
  if (first === undefined || !kernelGateAvailable()) {
    return { gate: new UserlandGate(server, options), listening: hasNodeHandles() ? first : undefined }
  }
  try {
    const kept = adoptDuplicate(first.fd)
    return { gate: new KernelGate(kept, options), listening: kept }
  } finally {
    server.close()
  }
}

function adoptDuplicate(fd: number): TcpOrPipeHandle {
  const copy = duplicate(fd)
  try {
    return adopt(copy)
  } catch (error) {
    closeDescriptor(copy)
    throw error
  }
}

/** Sets on the listening socket what Linux then gives to every socket accepted on it; returns whether it does. */
function setSocketOptions(handle: TcpOrPipeHandle | undefined, keepAlive: number | false): boolean {
  if (process.platform !== 'linux' || handle === undefined) return false
  // A unix socket has neither.
  if (handle.setNoDelay === undefined || handle.setKeepAlive === undefined) return true
  if (handle.setNoDelay(true) !== 0) return false
  const seconds = keepAliveSeconds(keepAlive)
  return seconds === undefined || handle.setKeepAlive(true, seconds) === 0
}

function askedFor(target: ListenTarget, error: unknown): SocketAddress | { readonly fd: number } {
  if (target.kind === 'descriptor') return { fd: target.fd }
  if (target.kind === 'unix') return { family: 'unix', path: target.path }
  const resolved = (error as { address?: unknown } | null)?.address
  const address = typeof resolved === 'string' && net.isIP(resolved) !== 0 ? resolved : (target.host ?? '::')
  return { family: address.includes(':') ? 'IPv6' : 'IPv4', address, port: target.port }
}

/** Closes a client of whom nothing was read. */
export function discard(client: Accepted): void {
  if ('handle' in client) client.handle.close()
  else client.socket.destroy()
}

function ignoreWhileParked(): void {}
