// What a server has done and is doing, in a line.

import { open, readlink } from 'node:fs/promises'
import type { Server } from 'it-tcp'
import type { Admission } from './admission.ts'
import { formatBytes } from './quantity.ts'
import type { Session } from './session.ts'

/** Counts the sessions of a server and the bytes that pass through them. */
export class Traffic {
  readonly #open = new Set<Session>()
  #done = 0
  #failed = 0
  #bytes = 0
  #lastBytes = 0
  #lastTime = performance.now()

  opened(session: Session): void {
    this.#open.add(session)
  }

  ended(session: Session): void {
    this.#open.delete(session)
    this.#bytes += session.bytes
    if (session.error === undefined) this.#done++
    else this.#failed++
  }

  /** The status line, with the rate since the last one. */
  async status(server: Server, { limit, dropped, refused }: Admission): Promise<string> {
    const isDropping = limit !== Number.POSITIVE_INFINITY
    const waiting = isDropping ? undefined : await clientsWaiting(server)
    const now = performance.now()
    let bytes = this.#bytes
    for (const session of this.#open) bytes += session.bytes
    const rate = ((bytes - this.#lastBytes) * 1_000) / Math.max(1, now - this.#lastTime)
    this.#lastBytes = bytes
    this.#lastTime = now
    const most = Math.min(limit, server.maxConnections)
    const parts = [`${Math.min(most, server.numConnections)} of ${most} open`]
    if (waiting !== undefined) parts.push(`${waiting} waiting`)
    if (dropped > 0) parts.push(`${dropped} dropped`)
    if (refused > 0) parts.push(`${refused} refused`)
    parts.push(`${this.#done} done`)
    if (this.#failed > 0) parts.push(`${this.#failed} failed`)
    parts.push(formatBytes(bytes), `${formatBytes(rate)}/s`)
    return parts.join(', ')
  }
}

/**
 * The number of clients that nobody has accepted yet. Undefined where the system does not tell it: Linux shows the queues of TCP sockets
 * in /proc, and those of unix sockets nowhere.
 */
export async function clientsWaiting({ address, acceptGate, listeningSocket }: Server): Promise<number | undefined> {
  if (process.platform !== 'linux' || acceptGate !== 'kernel' || address.family === 'unix') return undefined
  try {
    const inode = /\[(\d+)\]/.exec(await readlink(`/proc/self/fd/${listeningSocket.fd}`))?.[1]
    const file = await open(address.family === 'IPv6' ? '/proc/net/tcp6' : '/proc/net/tcp')
    // Listening sockets stand at the beginning: the loop ends early, however many connections there are.
    for await (const line of file.readLines()) {
      const columns = line.trim().split(/\s+/)
      if (columns[9] === inode) return Number.parseInt(columns[4]?.split(':')[1] ?? '', 16)
    }
  } catch {
    // A server that was closed meanwhile, or a system that hides it.
  }
  return undefined
}
