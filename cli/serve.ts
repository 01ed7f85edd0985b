// A server of many clients under the gate, with its log, its status line and its shutdown.

import { type Connection, ConnectionClosedError, type InetWhereToListen, Server, type UnixWhereToListen } from 'it-tcp'
import { formatAddress } from './address.ts'
import { explain } from './failure.ts'
import { Report } from './report.ts'
import { type LogFormat, Session } from './session.ts'
import { Shutdown } from './shutdown.ts'
import { Traffic } from './traffic.ts'

export interface ServeOptions {
  readonly maxConnections?: number
  readonly backlog?: number
  /** Whether clients beyond the limit are closed at once instead of waiting. */
  readonly drop?: boolean
  readonly idleTimeout?: number
  /** Milliseconds for open connections to finish after the first signal. */
  readonly grace: number
  readonly log?: LogFormat
}

/** Serves one client, until both sides have ended; throws what broke it. */
export type Service = (client: Connection, session: Session) => Promise<void>

/** Serves each client with `service`, which takes `descriptors` descriptors for one. Gives the exit code, after a signal. */
export async function serve(
  where: InetWhereToListen | UnixWhereToListen,
  { maxConnections, backlog, drop = false, idleTimeout, grace, log }: ServeOptions,
  descriptors: number,
  service: Service
): Promise<number> {
  const report = new Report()
  const traffic = new Traffic()
  process.removeAllListeners('warning').on('warning', (warning) => report.say(explain(warning)))

  const dropAtLimit = (): void => {
    server.dropIncomingConnections = server.numConnections >= server.maxConnections
  }
  const handler = async (client: Connection): Promise<void> => {
    const session = new Session(client)
    traffic.opened(session)
    if (drop) {
      dropAtLimit()
      // The slot is free when the connection is closed and this handler has ended, whichever is later.
      void client.closed.then(() => setImmediate(dropAtLimit))
    }
    try {
      await service(client, session)
    } catch (error) {
      session.error =
        server.isClosed && error instanceof ConnectionClosedError ? new Error('cut off by the shutdown', { cause: error }) : error
      client.abort(error)
    } finally {
      traffic.ended(session)
      if (log !== undefined) report.log(session.describe(log))
      else if (session.upstream === null) report.say(`${session.client}: ${explain(session.error)}`)
      if (drop) setImmediate(dropAtLimit)
    }
  }

  const server: Server = (await Server.create(
    where,
    {
      ...(maxConnections !== undefined && { maxConnections }),
      ...(backlog !== undefined && { backlog }),
      ...(idleTimeout !== undefined && { idleTimeout })
    },
    handler
  )) as Server
  // The default is what the system's limit allows for connections that take one descriptor each.
  if (maxConnections === undefined) server.maxConnections = Math.max(1, Math.floor(server.maxConnections / descriptors))
  // Before anyone is told that it listens, and sends a signal on the strength of that.
  const shutdown = new Shutdown(server, grace, report)
  report.say(`listening on ${formatAddress(server.address)}`)
  report.showStatus(() => traffic.status(server))
  try {
    await server.finished
    return shutdown.code
  } finally {
    shutdown.dispose()
    await report.endStatus()
  }
}
