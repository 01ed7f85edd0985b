// What a server has done and is doing, in a line.

import type { Server } from 'it-tcp'
import { type DropLimit, refusedBy } from './admission.ts'
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

  /** What has come from both sides so far, and how many sessions are over. */
  get totals(): { readonly bytes: number; readonly done: number; readonly failed: number } {
    let bytes = this.#bytes
    for (const session of this.#open) bytes += session.bytes
    return { bytes, done: this.#done, failed: this.#failed }
  }

  /** The status line, with the rate since the last one. */
  status(server: Server, { limit, dropped }: DropLimit): string {
    const isDropping = limit !== Number.POSITIVE_INFINITY
    const statistics = server.statistics()
    // Those that are parked have been accepted: nobody here would say that they wait in the queue.
    const waiting = isDropping || server.acceptGate !== 'kernel' ? null : statistics.waiting
    const refused = refusedBy(statistics)
    const now = performance.now()
    const { bytes } = this.totals
    const rate = ((bytes - this.#lastBytes) * 1_000) / Math.max(1, now - this.#lastTime)
    this.#lastBytes = bytes
    this.#lastTime = now
    const most = Math.min(limit, server.maxConnections)
    const parts = [`${Math.min(most, server.numConnections)} of ${most} open`]
    if (waiting !== null) parts.push(`${waiting} waiting`)
    if (dropped > 0) parts.push(`${dropped} dropped`)
    if (refused > 0) parts.push(`${refused} refused`)
    parts.push(`${this.#done} done`)
    if (this.#failed > 0) parts.push(`${this.#failed} failed`)
    parts.push(formatBytes(bytes), `${formatBytes(rate)}/s`)
    return parts.join(', ')
  }
}
