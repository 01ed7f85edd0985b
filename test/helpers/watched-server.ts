// Servers whose end is watched, and whether they still serve.

import { expect } from 'chai'
import type { SocketAddress } from '../../src/address.ts'
import type { ServerOptions } from '../../src/options.ts'
import type { Server } from '../../src/server.ts'
import type { Handler, Setting } from './settings.ts'

/** A server whose `finished` is watched: what becomes of it is added to `outcome`. */
export async function watched(
  setting: Setting,
  options: ServerOptions<SocketAddress>,
  handler: Handler
): Promise<{ server: Server; outcome: unknown[] }> {
  const outcome: unknown[] = []
  const server = await setting.create(options, handler)
  server.finished.then(
    () => outcome.push('finished'),
    (raised: unknown) => outcome.push({ raised })
  )
  return { server, outcome }
}

/** Expects that the server is open, and that a new client gets to a handler. */
export async function expectServing(setting: Setting, server: Server, outcome: unknown[], isServed?: () => boolean): Promise<void> {
  await setting.until(() => server.numConnections === 0)
  const socket = await setting.client(server)
  if (isServed === undefined) await setting.until(() => server.numConnections === 1)
  else await setting.until(isServed)
  await setting.leave(socket)
  await setting.turns()
  expect([server.isClosed, ...outcome]).to.deep.equal([false])
  expect(handlerWarnings(setting)).to.deep.equal([])
}

/** What was said of handlers that failed after another. */
export function handlerWarnings(setting: Setting): string[] {
  return setting.warnings.filter(({ code }) => code === 'IT_TCP_HANDLER_ERROR').map(({ message }) => message)
}
