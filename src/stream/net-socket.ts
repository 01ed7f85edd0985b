// Sockets that a transport can take over: how they are made, and into which memory they read.

import { type OnReadOpts, Socket } from 'node:net'
import { type InetAddress, inetAddress } from '../address.ts'
import { type ConnectionSettings, keepAliveSeconds } from '../options.ts'
import { handleOf, isPlainNode } from '../system/node-internals.ts'
import { changeUserTimeout, setUserTimeout, userTimeoutFor } from '../system/socket-facts.ts'
import { lent } from './read-buffer.ts'
import type { WriteEncoding, WriteEntry } from './transport.ts'

/** Called when what was written is with the operating system, or could not be handed over. May be called before the write returns. */
export type WriteCallback = (error?: Error | null) => void

/** Who reads a socket, and is told how many bytes are at the start of the buffer that it has. */
interface Owner {
  arrived(length: number): boolean
}

// The members of a Duplex that its implementer has, and the internal parts of a net.Socket, as used here.
export interface SocketInternals {
  _readableState?: { autoDestroy?: boolean }
  _writableState?: { autoDestroy?: boolean }
  push(chunk: Uint8Array | null): boolean
  _read(size: number): void
  _write(chunk: Uint8Array | string, encoding: WriteEncoding, callback: WriteCallback): void
  _writev(chunks: WriteEntry[] & { allBuffers?: boolean }, callback: WriteCallback): void
  _final(callback: WriteCallback): void
  [OWNER]?: Owner | undefined
}

/** Who reads a socket: a property of it. */
export const OWNER = Symbol('it-tcp.owner')

// What the socket that is being read reads into next; undefined for the buffer that it has. A socket that is new begins with the lent one.
// The static buffer of `onread`, and the function that gives the next one, are documented for net.connect(); that the constructor takes them
// for an accepted handle too is not, and is so since 12. Without it, and with IT_TCP_READ=push, Node.js allocates and push() gets its buffers.
let nextBuffer: Uint8Array | undefined = lent.bytes
const onread: OnReadOpts | undefined =
  isPlainNode && process.env.IT_TCP_READ !== 'push'
    ? {
        callback(this: unknown, length: number, buffer: Uint8Array): boolean {
          nextBuffer = undefined
          const { [OWNER]: owner } = this as SocketInternals
          // A socket that was given up has stream buffers like any other.
          return owner === undefined ? (this as Socket).push(Buffer.from(buffer.slice(0, length).buffer)) : owner.arrived(length)
        },
        // Called right after the callback.
        buffer(): Uint8Array {
          const next = nextBuffer
          nextBuffer = lent.bytes
          return next as Uint8Array
        }
      }
    : undefined

/** Names the memory for the next read, from inside of what is told of a read. */
export function readNextInto(bytes: Uint8Array): void {
  nextBuffer = bytes
}

// What the constructor of net.Socket sets in its copy of the options, whatever they were. Where they are there already the copy keeps its
// shape; on Node.js 20 to give each copy a new one is most of what a net.Socket costs: 4 of 5 µs.
const SET_BY_NODE = { emitClose: false, autoDestroy: true, decodeStrings: false }

/** A socket that is not connected yet, for a {@link NetTransport} to take over once it is. */
export function createDialSocket(): Socket {
  // Paused, since Node.js would start to read when it is connected, before anyone has taken it over.
  return new Socket({ allowHalfOpen: true, ...(onread !== undefined && { onread }), ...SET_BY_NODE }).pause()
}

/** A socket over an accepted libuv handle that has TCP_NODELAY on, and keep-alive if `keepAlive` is not false. */
export function createAcceptedSocket(handle: object, keepAlive: number | false): Socket {
  // `handle`, `manualStart` are not documented; in use since Node.js 0.10. `noDelay` and `keepAlive` only note what holds for
  // the handle: without them setNoDelay(false) would do nothing.
  const seconds = keepAliveSeconds(keepAlive)
  const options = {
    handle,
    manualStart: true,
    allowHalfOpen: true,
    noDelay: true,
    keepAlive: seconds !== undefined,
    keepAliveInitialDelay: (seconds ?? 0) * 1000,
    onread,
    ...SET_BY_NODE
  }
  return new Socket(options as object)
}

/** Sets how long a peer may be silent, as the options say: by keep-alive, and with bytes in flight by the kernel's own limit. */
export function setSilenceLimits(socket: Socket, { keepAlive, bufferAgeLimit }: ConnectionSettings): void {
  const seconds = keepAliveSeconds(keepAlive)
  if (seconds !== undefined) socket.setKeepAlive(true, seconds * 1000)
  setUserTimeout(descriptorOf(socket), userTimeoutFor(bufferAgeLimit, seconds))
}

/** Tells the kernel of another `bufferAgeLimit`. */
export function changeAgeLimit(socket: Socket | undefined, limit: number): void {
  if (socket !== undefined) changeUserTimeout(descriptorOf(socket), limit)
}

/** The number of a socket's descriptor; -1 if it is closed, or where it is not told. */
export function descriptorOf(socket: Socket): number {
  return isPlainNode ? (handleOf(socket)?.fd ?? -1) : -1
}

/** The addresses of a connected TCP socket. */
export function socketAddresses(socket: Socket): { remoteAddress: InetAddress; localAddress: InetAddress } {
  const { remoteAddress = '', remotePort = 0, localAddress = '', localPort = 0 } = socket
  return { remoteAddress: inetAddress(remoteAddress, remotePort), localAddress: inetAddress(localAddress, localPort) }
}
