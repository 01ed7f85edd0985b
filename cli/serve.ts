// A server of many clients under the gate, with its log, its status line and its shutdown.

import { type Connection, ConnectionClosedError, Server } from 'it-tcp'
import { formatAddress, type ListenPlace } from './address.ts'
import { type AdmissionOptions, checkHasAddresses, DropLimit, entryRules, onTurnedAway, refusedBy } from './admission.ts'
import { codeOf, explain } from './failure.ts'
import { exposition, serveMetrics } from './metrics.ts'
import { formatCount } from './quantity.ts'
import { Report } from './report.ts'
import { type LogFormat, Session } from './session.ts'
import { Shutdown } from './shutdown.ts'
import { ServerTls, type ServerTlsFiles } from './tls.ts'
import { Traffic } from './traffic.ts'

export interface ServeOptions extends AdmissionOptions, ServerTlsFiles {
  readonly maxConnections?: number
  readonly backlog?: number
  /** Whether clients beyond the limit are dropped at once instead of waiting. */
  readonly drop?: true
  readonly idleTimeout?: number
  /** Milliseconds for open connections to finish after the first signal. */
  readonly grace: number
  readonly log?: LogFormat
  /** Where Prometheus finds the figures. */
  readonly metrics?: ListenPlace
  readonly verbose?: true
}

/** Serves one client, until both sides have ended; throws what broke it. */
export type Service = (client: Connection, session: Session, report: Report) => Promise<void>

/** The slot beyond the limit, in which a client is until it is dropped. */
const ROOM_FOR_DROPPING = 1
/** Milliseconds between two messages that clients are dropped. */
const MESSAGE_INTERVAL = 60_000

/** Serves each client with `service`, which takes `descriptors` descriptors for one. Gives the exit code, after a signal. */
export async function serve(where: ListenPlace, options: ServeOptions, descriptors: number, service: Service): Promise<number> {
  const { maxConnections, backlog, drop = false, idleTimeout, grace, log, metrics, verbose = false } = options
  const room = drop ? ROOM_FOR_DROPPING : 0
  const report = new Report(verbose)
  const traffic = new Traffic()
  const tls = new ServerTls(options)
  const drops = new DropLimit()
  if (drop && maxConnections !== undefined) drops.limit = maxConnections
  let nextMessage = 0

  process.removeAllListeners('warning').on('warning', (warning) => {
    // It says that clients wait.
    if (!drop || codeOf(warning) !== 'IT_TCP_AT_LIMIT') report.say(explain(warning))
  })

  const tellTurnedAway = (session: Session, reason: unknown): void => {
    session.error = reason
    if (log !== undefined) report.log(session.describe(log))
    report.detail(`${session.client}: turned away: ${explain(reason)}`)
  }
  onTurnedAway(options, (client, reason) => tellTurnedAway(new Session(client), reason))

  const dropClient = (client: Connection, session: Session, reason: unknown): void => {
    client.abort(reason)
    tellTurnedAway(session, reason)
    if (performance.now() < nextMessage) return
    nextMessage = performance.now() + MESSAGE_INTERVAL
    report.say(`at the limit of ${formatCount(drops.limit, 'connection')}: dropping further clients`)
  }

  const handler = async (client: Connection): Promise<void> => {
    const session = new Session(client.remoteAddress, () => client.reader.bytesRead)
    let end = (): void => {}
    const refusal = drops.admit(
      client,
      new Promise<void>((resolve) => {
        end = resolve
      })
    )
    if (refusal !== undefined) return dropClient(client, session, refusal)
    traffic.opened(session)
    report.detail(`${session.client}: connected${client.tls === null ? '' : ` over ${client.tls.version}`}`)
    try {
      await service(client, session, report)
    } catch (error) {
      const isCutOff = server.isClosed && [error, client.signal.reason].some((reason) => reason instanceof ConnectionClosedError)
      if (isCutOff) shutdown.cutOff++
      session.error = isCutOff ? new Error('cut off by the shutdown', { cause: error }) : error
      client.abort(error)
    } finally {
      traffic.ended(session)
      if (log !== undefined) report.log(session.describe(log))
      if (verbose) report.detail(session.summary())
      else if (log === undefined && session.upstream === null) report.say(`${session.client}: ${explain(session.error)}`)
      end()
    }
  }

  const server: Server = (await Server.create(
    where,
    {
      ...entryRules(options),
      ...tls.options,
      ...(maxConnections !== undefined && { maxConnections: maxConnections + room }),
      ...(backlog !== undefined && { backlog }),
      ...(idleTimeout !== undefined && { idleTimeout })
    },
    handler
  )) as Server
  let figures: Server | undefined
  try {
    // Of an inherited socket it is known only now.
    checkHasAddresses(server.address.family === 'unix', options)
    if (metrics !== undefined) figures = await serveMetrics(metrics, () => exposition({ server, drops, traffic }))
  } catch (error) {
    await server.close({ closeExistingConnections: true })
    throw error
  }
  // The default is what the system's limit allows for connections that take one descriptor each.
  if (maxConnections === undefined) {
    const limit = Math.max(1, Math.floor(server.maxConnections / descriptors))
    if (drop) drops.limit = limit
    server.maxConnections = limit + room
  }
  // Before anyone is told that it listens, and sends a signal on the strength of that.
  const shutdown = new Shutdown(server, grace, report, tls.isThere ? () => tls.reload(report) : undefined)
  if (figures !== undefined) report.say(`metrics on ${formatAddress(figures.address)}, at /metrics`)
  report.say(`listening on ${formatAddress(server.address)}`)
  report.showStatus(() => traffic.status(server, drops))
  try {
    await server.finished
  } finally {
    shutdown.dispose()
    await figures?.close({ closeExistingConnections: true })
    await report.endStatus()
  }
  const outcome = [shutdown.outcome, turnedAway(drops.dropped, refusedBy(server.statistics()))].filter((part) => part !== undefined)
  if (outcome.length > 0) report.say(`stopped: ${outcome.join('; ')}`)
  // The process would wait for whoever does not read.
  if (!(await report.flushed())) process.exit(shutdown.code)
  return shutdown.code
}

function turnedAway(dropped: number, refused: number): string | undefined {
  const parts: string[] = []
  if (dropped > 0) parts.push(`${formatCount(dropped, 'client')} dropped`)
  if (refused > 0) parts.push(`${formatCount(refused, 'client')} refused`)
  return parts.length === 0 ? undefined : parts.join(', ')
}
