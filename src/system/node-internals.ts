// All that is used here of Node.js and not documented there: the libuv handles under its servers and sockets.
//
// What else is not documented has a file of its own: TLS in tls-socket.ts, how sockets are made in ../stream/net-socket.ts, and what only Node.js 20 and
// 22 need in libuv-before-1-52.ts.
//
// Each of these has been the same from Node.js 20 to 26. What happens where one is missing is said beside it.

import type cluster from 'node:cluster'
import net from 'node:net'

/** The libuv handle of a TCP or pipe socket, `_handle` of a `net.Server` or `net.Socket`. */
export interface NodeHandle {
  /** The number of the descriptor. Without it, as on Deno, a server has no `listeningSocket.fd`, and the gate is in userland. */
  readonly fd: number
  /** Called for each client, with its handle. Without it the gate takes the `'connection'` events of `net.Server`. */
  onconnection?: ((status: number, client?: NodeHandle) => void) | null
  /** Listens, and polls for clients. Without it there is no kernel gate. */
  listen(backlog: number): number
  /** Closes the descriptor at once, and calls back a turn later. */
  close(callback?: () => void): void
  ref(): void
  unref(): void
  /** Starts to read from the descriptor. Without it a reset that old versions of libuv report as an end stays one. */
  readStart?(): number
  /** Bytes of the write under way that the system has not taken. Without it progress is counted by whole writes. */
  readonly writeQueueSize?: number
  // TCP only. Without these two the addresses come from the `net.Socket`, a system call later.
  getsockname?(out: HandleAddress): number
  getpeername?(out: HandleAddress): number
  // TCP only. Without these two the options are set on each accepted socket instead of once on the listening one.
  setNoDelay?(enable: boolean): number
  setKeepAlive?(enable: boolean, seconds: number): number
}

/** What `getsockname` and `getpeername` of a handle fill in. */
export interface HandleAddress {
  address?: string
  port?: number
}

/** Whether this is Node.js itself: Bun and Deno have its modules, with handles of their own or none. */
export const isPlainNode: boolean = process.versions.bun === undefined && process.versions.deno === undefined

/** Whether the handles of listening sockets are Node.js's own and in this process: a cluster worker's are in the primary. */
export function hasNodeHandles(): boolean {
  return isPlainNode && !isClusterWorker()
}

/** Whether this is a worker of `node:cluster`, which is loaded when a server asks: a client would load child processes and datagrams with it. */
export function isClusterWorker(): boolean {
  return (process.getBuiltinModule('node:cluster') as unknown as typeof cluster).isWorker
}

/** The handle under a `net.Server` or `net.Socket`; undefined if it is closed, or not there on this runtime. */
export function handleOf(owner: net.Server | net.Socket): NodeHandle | undefined {
  return (owner as { _handle?: NodeHandle | null })._handle ?? undefined
}

/**
 * Gives a descriptor to libuv, which from then on closes it exactly once: by the handle's `close()`, or when the worker
 * thread ends. On failure the descriptor is still the caller's.
 */
export function adopt(fd: number): NodeHandle {
  const socket = new net.Socket({ fd, readable: false, writable: false })
  return handleOf(socket) as NodeHandle
}

/** A request that libuv carries out: called back when it is done. */
export interface HandleRequest {
  oncomplete: (status: number) => void
  /** What is written, kept alive as long as it takes. */
  buffer?: unknown
}

/** A handle of an accepted TCP or pipe socket, as Node.js's own sockets use it. */
export interface StreamHandle extends NodeHandle {
  /** Noted by Node.js's own sockets. */
  reading?: boolean
  onread?: unknown
  readStart(): number
  readStop(): number
  /** What is read next goes there. */
  useUserBuffer(buffer: Uint8Array): void
  writeBuffer(request: HandleRequest, buffer: Uint8Array): number
  writeUtf8String(request: HandleRequest, text: string): number
  writeLatin1String(request: HandleRequest, text: string): number
  writev(request: HandleRequest, chunks: readonly unknown[], allBuffers: boolean): number
  shutdown(request: HandleRequest): number
  readonly writeQueueSize: number
  /** Bytes that were written to it so far. */
  readonly bytesWritten: number
  /** TCP only. */
  reset?(callback?: () => void): number
}

/** What handles of streams tell beside their return values. */
export interface StreamBinding {
  readonly WriteWrap: new () => HandleRequest
  readonly ShutdownWrap: new () => HandleRequest
  readonly streamBaseState: Int32Array
  readonly kReadBytesOrError: number
  readonly kLastWriteWasAsync: number
}

const MEMBERS = ['readStart', 'readStop', 'useUserBuffer', 'writeBuffer', 'writeUtf8String', 'writeLatin1String', 'writev', 'shutdown']

/** The binding of streams; undefined where it is not there, or not as known. Without it a `net.Socket` is made for every client. */
export const streamBinding: StreamBinding | undefined = findStreamBinding()

function findStreamBinding(): StreamBinding | undefined {
  if (!isPlainNode || process.env.IT_TCP_READ === 'push' || warnsOfPending()) return undefined
  try {
    const { binding } = process as unknown as { binding(name: string): unknown }
    const found = binding.call(process, 'stream_wrap') as StreamBinding
    const { WriteWrap, ShutdownWrap, streamBaseState, kReadBytesOrError, kLastWriteWasAsync } = found
    const isKnown =
      typeof WriteWrap === 'function' &&
      typeof ShutdownWrap === 'function' &&
      streamBaseState instanceof Int32Array &&
      Number.isInteger(kReadBytesOrError) &&
      Number.isInteger(kLastWriteWasAsync)
    return isKnown ? found : undefined
  } catch {
    return undefined
  }
}

// Whoever wants to know of deprecations to come would be warned of process.binding (DEP0111), about which a user of ours can do nothing.
function warnsOfPending(): boolean {
  const { NODE_PENDING_DEPRECATION, NODE_OPTIONS = '' } = process.env
  return NODE_PENDING_DEPRECATION === '1' || [...process.execArgv, ...NODE_OPTIONS.split(' ')].includes('--pending-deprecation')
}

/** Whether a handle has all that {@link StreamHandle} promises. */
export function isStreamHandle(handle: NodeHandle): handle is StreamHandle {
  return MEMBERS.every((name) => typeof (handle as unknown as Record<string, unknown>)[name] === 'function')
}
