// The ways to bind: a port, a path, an abstract name, a descriptor that somebody else bound. Each returns what it bound, listening.

import { chmodSync, lstatSync } from 'node:fs'
import net from 'node:net'
import { inetAddress, type SocketAddress } from '../address.ts'
import { keepAliveSeconds } from '../options.ts'
import { adoptDuplicate, duplicate, isOccupied, kernelGateAvailable, occupy, replaceStandard, vacate } from '../system/descriptors.ts'
import { checkListening, unixPathOf } from '../system/inherited-socket.ts'
import { libc } from '../system/libc.ts'
import { type HandleAddress, handleOf, isClusterWorker, isPlainNode, type NodeHandle } from '../system/node-internals.ts'
import { netRefusal } from '../system/permission.ts'
import { explainedError, systemErrorNamed } from '../system/system-error.ts'
import type { ListenTarget, SystemListenTarget } from '../where-to-listen.ts'
import { prepareForPrimary, UnixSocketFile } from './unix-socket-file.ts'

/** How a socket listens. */
export interface BindOptions {
  /** Clients in the kernel's queue. */
  readonly backlog: number
  /** Milliseconds, as in `ConnectionOptions`. */
  readonly keepAlive: number | false
}

/** What is bound and listens, and has no gate yet: to be given one in the same turn, before it accepts anybody. */
export interface Bound {
  /** A server of Node.js, or the handle of a descriptor for the kernel gate, which no server has. */
  readonly listener: net.Server | NodeHandle
  readonly address: SocketAddress
  /** Not at its path yet: to be published when clients may come, and cleaned up. */
  readonly file?: UnixSocketFile
  /** To be called when the socket is closed. */
  readonly release?: () => void
}

/** How often a port chosen by the system is tried if it turns out to be taken. */
const PORT_ATTEMPTS = 10

/** Binds and listens. On failure nothing is left behind, and a descriptor to be adopted is left alone. */
export async function bind(target: SystemListenTarget, options: BindOptions): Promise<Bound> {
  const refusal = netRefusal()
  if (refusal !== undefined) throw refusal
  switch (target.kind) {
    case 'inet':
      return await bindInet(target, options)
    case 'unix':
      return await (hasFile(target.path) ? bindFile(target, options) : bindName(target.path, options))
    case 'descriptor':
      return await bindDescriptor(target, options)
  }
}

async function bindInet(target: ListenTarget & { kind: 'inet' }, options: BindOptions): Promise<Bound> {
  const { port, host, ipv6Only = false, reusePort = false } = target
  if (reusePort && !hasReusePort()) throw systemErrorNamed('ENOTSUP', 'listen')
  // Node.js 20 overlooks `ipv6Only` without a host.
  const where = { port, ipv6Only, reusePort, ...(host !== undefined ? { host } : ipv6Only && { host: '::' }) }
  for (let attempt = 1; ; attempt++) {
    try {
      const listener = await listen(where, options)
      const bound = listener.address() as net.AddressInfo
      return { listener, address: inetAddress(bound.address, bound.port) }
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

async function bindName(path: string, options: BindOptions): Promise<Bound> {
  return { listener: await listen({ path }, options), address: { family: 'unix', path } }
}

async function bindFile(target: ListenTarget & { kind: 'unix' }, options: BindOptions): Promise<Bound> {
  const { path, mode } = target
  if (isClusterWorker()) return await bindFileInPrimary(path, mode, options)
  const file = await UnixSocketFile.prepare(path)
  try {
    const listener = await listen({ path: file.bindPath }, options)
    try {
      file.rename()
    } catch (error) {
      listener.close()
      throw error
    }
    return { listener, address: { family: 'unix', path }, file }
  } catch (error) {
    await file.cleanUp()
    file.remove()
    throw error
  }
}

/** Workers of a cluster share the primary's socket, which it binds by its path and unlinks at the end. */
async function bindFileInPrimary(path: string, mode: number | undefined, options: BindOptions): Promise<Bound> {
  const boundPath = await prepareForPrimary(path, mode)
  const listener = await listen({ path: boundPath }, options)
  if (mode !== undefined) {
    if ((lstatSync(boundPath).mode & 0o777 & ~mode) !== 0) {
      listener.close()
      throw explainedError(
        'EPERM',
        "the primary has bound the socket with another umask than the worker's, and more may connect than 'mode' allows"
      )
    }
    chmodSync(boundPath, mode)
  }
  return { listener, address: { family: 'unix', path } }
}

/** Numbers that a server of Node.js owns as they are, where they could not be duplicated. */
const adopted = new Set<number>()

/**
 * Serves on a duplicate. The number given then stays the caller's, or, if it was given away, is closed and kept taken until the server is closed: so
 * nobody adopts it twice, in no thread, and standard input gets closed, which libuv would leave open.
 */
async function bindDescriptor({ fd, duplicate: isShared }: ListenTarget & { kind: 'descriptor' }, options: BindOptions): Promise<Bound> {
  if (isOccupied(fd) || adopted.has(fd)) {
    throw explainedError('EBUSY', 'a server of this process has adopted it already; { duplicate: true } lets several share one')
  }
  checkListening(fd)
  if (!isPlainNode || libc() === undefined) return await bindAsItIs(fd, isShared, options)
  // In a cluster worker it would otherwise be a descriptor of the primary.
  const listener = kernelGateAvailable() ? adoptDuplicate(fd) : await listen({ fd: duplicate(fd), exclusive: true }, options)
  const address = listener instanceof net.Server ? addressOfServer(listener) : addressOf(listener)
  if (isShared) return { listener, address }
  occupy(fd)
  return { listener, address, release: () => vacate(fd) }
}

async function bindAsItIs(fd: number, isShared: boolean | undefined, options: BindOptions): Promise<Bound> {
  if (isShared) throw explainedError('ENOTSUP', 'duplicating it takes koffi, on Node.js')
  const listener = await listen({ fd, exclusive: true }, options)
  adopted.add(fd)
  const address = addressOfServer(listener)
  const release = (): void => {
    adopted.delete(fd)
    if (isPlainNode && fd <= 2) replaceStandard(fd)
  }
  return { listener, address, release }
}

function addressOf(handle: NodeHandle): SocketAddress {
  const out: HandleAddress = {}
  if (handle.getsockname?.(out) === 0 && out.address !== undefined) return inetAddress(out.address, out.port ?? 0)
  return { family: 'unix', path: unixPathOf(handle.fd) }
}

function addressOfServer(server: net.Server): SocketAddress {
  const handle = handleOf(server)
  if (handle !== undefined) return addressOf(handle)
  const address = server.address()
  if (address === null || typeof address === 'string') return { family: 'unix', path: address ?? '' }
  return inetAddress(address.address, address.port)
}

/** Resolves in the turn in which the server listens, before it can accept anybody. */
function listen(where: net.ListenOptions & { fd?: number }, options: BindOptions): Promise<net.Server> {
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
