// What a server has done and is doing, in a line.

import type { Server } from 'it-tcp'
import { formatBytes } from './quantity.ts'
import { clientsWaiting } from './queue.ts'
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
  async status(server: Server): Promise<string> {
    const waiting = await clientsWaiting(server)
    const now = performance.now()
    let bytes = this.#bytes
    for (const session of this.#open) bytes += session.bytes
    const rate = ((bytes - this.#lastBytes) * 1_000) / Math.max(1, now - this.#lastTime)
    this.#lastBytes = bytes
    this.#lastTime = now
    const parts = [`${server.numConnections} of ${server.maxConnections} open`]
    if (waiting !== undefined) parts.push(`${waiting} waiting`)
    if (server.numDropped > 0) parts.push(`${server.numDropped} dropped`)
    parts.push(`${this.#done} done`)
    if (this.#failed > 0) parts.push(`${this.#failed} failed`)
    parts.push(formatBytes(bytes), `${formatBytes(rate)}/s`)
    return parts.join(', ')
  }
}
