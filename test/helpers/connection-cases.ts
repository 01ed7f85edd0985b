// What the specs of the connection share: what it may be doing, how a peer may misbehave, and how each is looked at.

import { once } from 'node:events'
import type { Socket } from 'node:net'
import { expect } from 'chai'
import { type Connection, ConnectionClosedError, ConnectionResetError } from '../../src/index.ts'
import { TOO_MUCH } from './transports.ts'
import { turns } from './until.ts'

export const BAD_DELAYS: readonly unknown[] = [-1, Number.NaN, Number.NEGATIVE_INFINITY, '1000', null]
export const REPLY = Buffer.alloc(300_000, 'reply')

/** Enough to wait. Of more than that TLS would encrypt all at once, for nothing. */
const MUCH = TOO_MUCH.subarray(0, 16 * 1024 * 1024)

export type Activity = (connection: Connection) => void

/** What may be going on when the peer misbehaves. What a test starts here it watches only where every user has to. */
export const ACTIVITIES: Record<string, Activity> = {
  nothing() {},
  'a read'({ reader }) {
    reader.read().catch(ignore)
  },
  'a write that waits'({ writer }) {
    writer.write(MUCH)
  },
  'a flush that nobody watches'({ writer }) {
    writer.write(MUCH)
    void writer.flushed()
  },
  'a half-close that nobody watches'({ writer }) {
    writer.write('x')
    void writer.close()
  },
  'a close that nobody watches'(connection) {
    connection.writer.write('x')
    void connection.close()
  },
  'a sink'({ writer }) {
    writer([MUCH, MUCH]).catch(ignore)
  },
  'a sink whose source hangs'({ writer }) {
    writer({ [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}) }) }).catch(ignore)
  },
  'an echo'({ source, sink }) {
    sink(source).catch(ignore)
  },
  'promises for the end'({ reader, closed, signal }) {
    void reader.ended
    void closed
    void signal
  },
  'an abort'(connection) {
    connection.writer.write(MUCH)
    connection.abort()
  }
}

/** What a peer can do, or what the network makes of it; over a unix socket a reset is a mere end. */
export const MISBEHAVIOURS: Record<string, (peer: Socket) => unknown> = {
  resets: leave,
  'sends and resets at once'(peer) {
    peer.write('last words')
    leave(peer)
  },
  async 'sends, and resets when that is gone'(peer) {
    await new Promise((resolve) => peer.write(Buffer.alloc(200_000), resolve))
    leave(peer)
  },
  ends(peer) {
    peer.end('last words')
  },
  async 'ends, then resets'(peer) {
    await new Promise<void>((resolve) => peer.end(resolve))
    leave(peer)
  },
  async 'ends, then resets some time later'(peer) {
    peer.end()
    await turns()
    leave(peer)
  },
  vanishes(peer) {
    peer.destroy()
  },
  async 'reads some and vanishes'(peer) {
    peer.read()
    await turns()
    peer.destroy()
  }
}
export function ignore(): void {}

export async function disposed(connection: Connection): Promise<void> {
  await connection[Symbol.asyncDispose]()
}

export function leave(peer: Socket): void {
  if (peer.remoteFamily !== undefined) peer.resetAndDestroy()
  else peer.destroy()
}

export function expectReset(error: unknown): void {
  expect(error).to.be.instanceOf(ConnectionResetError).with.property('code', 'ERR_CONNECTION_RESET')
  const { cause } = error as Error
  expect((cause as NodeJS.ErrnoException).code).to.be.oneOf(['ECONNRESET', 'EPIPE'])
}

export function expectAborted(error: unknown, reason: unknown): void {
  expect(error).to.be.instanceOf(ConnectionClosedError).with.property('code', 'ERR_CONNECTION_CLOSED')
  expect(error).to.have.property('cause', reason)
}

/** Reads on; resolves with 'end' at the FIN, or with the code of the error. */
export async function peerSees(peer: Socket): Promise<string> {
  if (peer.readableEnded) return 'end'
  const end = once(peer, 'end').then(
    () => 'end',
    (error: NodeJS.ErrnoException) => error.code ?? error.message
  )
  peer.resume()
  return await end
}

/** Asserts that a peer that reads only now gets less than everything: not even what the system had taken for it. */
export async function expectCutOff(peer: Socket, total: number): Promise<void> {
  // What a reset looks like after unread bytes depends on the version of Node.js: an error, or an end.
  await peerSees(peer)
  expect(peer.bytesRead).to.be.lessThan(total)
}

export function sendEndlessly(peer: Socket): void {
  const chunk = Buffer.alloc(65_536)
  const send = (): void => {
    while (!peer.destroyed && peer.write(chunk));
  }
  peer.on('drain', send)
  send()
}

/** Reads until it fails. */
export async function readAllThatComes({ reader }: Connection): Promise<{ bytes: number; error: unknown }> {
  let bytes = 0
  try {
    for await (const chunk of reader) bytes += chunk.byteLength
  } catch (error) {
    return { bytes, error }
  }
  throw new Error('The end came without an error')
}

/** Writes until the system says that there is nobody to write to. */
export async function writeUntilThrown({ writer }: Connection): Promise<unknown> {
  for (;;) {
    try {
      writer.write('anybody there?')
    } catch (error) {
      return error
    }
    await turns(1)
  }
}

export const IPPROTO_TCP = 6
export const TCP_NODELAY = 1

/** Gives a function that reads a socket option, as the kernel has it; undefined where that can't be done. */
export async function socketOption(level: number, name: number): Promise<((socket: Socket) => number | undefined) | undefined> {
  if (process.platform !== 'linux') return undefined
  try {
    const { default: koffi } = await import('koffi')
    const getsockopt = koffi.load(null).func('int getsockopt(int, int, int, _Out_ int *, _Inout_ uint32_t *)')
    return (socket) => {
      const value = [-1]
      getsockopt(descriptorOf(socket), level, name, value, [4])
      return value[0]
    }
  } catch {
    return undefined
  }
}

export function descriptorOf(socket: Socket): number {
  return (socket as unknown as { _handle: { fd: number } })._handle.fd
}

// For what must not happen within a time that is part of the contract; nothing waits for the time to be exact.
export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}
