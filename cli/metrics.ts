// What a server has done and is doing, as Prometheus reads it.

import { Server, type ServerStatistics } from 'it-tcp'
import type { ListenPlace } from './address.ts'
import type { DropLimit } from './admission.ts'
import type { Traffic } from './traffic.ts'

const PREFIX = 'it_tcp_'
const TYPE = 'text/plain; version=0.0.4; charset=utf-8'
/** Connections of those who ask, at once. */
const SCRAPERS = 20

type Sample = readonly [labels: string, value: number]

/** Where the figures come from. */
export interface Sources {
  readonly server: Server
  readonly drops: DropLimit
  readonly traffic: Traffic
}

/** All of it, in the text format of Prometheus. */
export function exposition({ server, drops, traffic }: Sources): string {
  const { accepted, dropped, served, turnedAway, connections, waiting } = server.statistics()
  const limit = Math.min(drops.limit, server.maxConnections)
  const { bytes, done, failed } = traffic.totals
  return [
    metric('connections_accepted_total', 'counter', 'Clients taken from the kernel.', [['', accepted]]),
    // Those at the limit of --drop had a slot for a moment.
    metric('connections_served_total', 'counter', 'Clients that were served.', [['', served - drops.dropped]]),
    metric('connections_dropped_total', 'counter', 'Clients reset at the limit, or because they came too late.', [
      ['', dropped + drops.dropped]
    ]),
    metric('connections_turned_away_total', 'counter', 'Clients that were refused before they were served.', reasons(turnedAway)),
    metric('connections_finished_total', 'counter', 'Clients whose connection is over, and how it ended.', [
      ['{end="orderly"}', done],
      ['{end="failed"}', failed]
    ]),
    metric('bytes_total', 'counter', 'Bytes that have come from both sides.', [['', bytes]]),
    metric('connections', 'gauge', 'Clients that are being served.', [['', Math.min(connections, limit)]]),
    metric('connections_limit', 'gauge', 'Clients that may be served at once.', [['', limit]]),
    waiting === null ? '' : metric('connections_waiting', 'gauge', 'Clients in the queue.', [['', waiting]])
  ].join('')
}

/** Serves `make()` at /metrics, over TCP or a unix socket. */
export async function serveMetrics(where: ListenPlace, make: () => string): Promise<Server> {
  // Only for those who want it: importing it takes as long as all the rest of the command.
  const { createServer } = await import('node:http')
  const http = createServer((request, response) => {
    const isFound = request.url?.split('?')[0] === '/metrics'
    const isRead = request.method === 'GET' || request.method === 'HEAD'
    const status = isFound ? (isRead ? 200 : 405) : 404
    response.writeHead(status, { 'content-type': status === 200 ? TYPE : 'text/plain', ...(status === 405 && { allow: 'GET, HEAD' }) })
    response.end(status === 200 ? make() : 'The figures are at /metrics\n')
  })
  const options = { maxConnections: SCRAPERS, warnAtLimit: false, onHandlerError: 'ignore' } as const
  return (await Server.create(where, options, async (connection) => {
    http.emit('connection', await connection.detach())
  })) as Server
}

function reasons(turnedAway: ServerStatistics['turnedAway']): readonly Sample[] {
  return Object.entries(turnedAway).map(([step, count]) => [
    `{reason="${step.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}"}`,
    count
  ])
}

function metric(name: string, type: 'counter' | 'gauge', help: string, samples: readonly Sample[]): string {
  const lines = samples.map(([labels, value]) => `${PREFIX}${name}${labels} ${value}\n`).join('')
  return `# HELP ${PREFIX}${name} ${help}\n# TYPE ${PREFIX}${name} ${type}\n${lines}`
}
