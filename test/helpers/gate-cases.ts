// What the specs of the gate share: servers that are full, and what their queues hold.

import type { Socket } from 'node:net'
import { expect } from 'chai'
import { Deferred } from '../../src/async/deferred.ts'
import type { Connection } from '../../src/connection.ts'
import type { Server } from '../../src/server.ts'
import { canTellQueue, closed, queue, type Setting } from './settings.ts'

export const QUEUED = 6
// ---------------------------------------------------------------------------------------------------------------------

/** A server whose handlers wait until `end()` is called, once for each, in the order in which they started. */
export async function occupied(
  setting: Setting,
  maxConnections: number
): Promise<{ server: Server; active: Connection[]; end: () => void }> {
  const active: Connection[] = []
  const waiting: Deferred[] = []
  const server = await setting.create({ maxConnections }, async (connection) => {
    const mayEnd = new Deferred()
    active.push(connection)
    waiting.push(mayEnd)
    await mayEnd.promise
  })
  setting.scope.defer(() => {
    for (const mayEnd of waiting) mayEnd.resolve()
  })
  return { server, active, end: () => waiting.shift()?.resolve() }
}

/** Expects `count` clients in the kernel's queue; in userland they are accepted and parked, so that there are none. */
export function expectQueue({ isKernel }: Setting, server: Server, count: number): void {
  if (canTellQueue()) expect(queue(server)).to.equal(isKernel ? count : 0)
}

/** Waits until the other side has closed `socket`, or reset it. */
export async function gone(socket: Socket): Promise<void> {
  socket.on('end', () => socket.destroy()).resume()
  await closed(socket)
}

export function numbers(count: number): string[] {
  return Array.from({ length: count }, (_, index) => String(index + 1))
}
