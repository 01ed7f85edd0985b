// Shows figures for Prometheus: counters from server.statistics(), bytes, durations and errors from the diagnostics channels.
// Run it: npm run build && node dist/examples/metrics.js [port] [port of the figures]
// Then `curl http://127.0.0.1:9100/metrics`. Where nobody subscribes, the channels cost nothing.

import { subscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { type ConnectionCloseMessage, onPort, Server, type ServerGateMessage } from 'it-tcp'

const [port = 8080, figuresPort = 9100] = process.argv.slice(2).map(Number)
const totals = { bytesRead: 0, bytesWritten: 0, closed: 0, broken: 0, seconds: 0, limits: 0 }
let isOpen = true
subscribe('it-tcp.connection.close', (message) => {
  const { bytesRead, bytesWritten, duration = 0, reason } = message as ConnectionCloseMessage
  totals.bytesRead += bytesRead
  totals.bytesWritten += bytesWritten
  totals.seconds += duration / 1_000
  totals.closed++
  // The reason of an orderly end is ConnectionClosedError: what is left has broken it.
  if ((reason as { code?: string } | undefined)?.code !== 'ERR_CONNECTION_CLOSED') totals.broken++
})
subscribe('it-tcp.server.limit', () => totals.limits++)
subscribe('it-tcp.server.gate', (message) => {
  isOpen = (message as ServerGateMessage).isOpen
})

const server = await Server.create(
  onPort(port, { host: '127.0.0.1' }),
  { maxConnections: 100, maxConnectionsPerAddress: 20, onHandlerError: 'ignore' },
  ({ reader, writer }) => writer(reader)
)

function metric(name: string, help: string, samples: Record<string, number | null>): string {
  const lines = Object.entries(samples).map(([labels, value]) => (value === null ? '' : `it_tcp_${name}${labels} ${value}\n`))
  return `# HELP it_tcp_${name} ${help}\n# TYPE it_tcp_${name} ${name.endsWith('_total') ? 'counter' : 'gauge'}\n${lines.join('')}`
}

const figures = createServer((_, response) => {
  const { accepted, served, dropped, turnedAway, handlerErrors, connections, waiting } = server.statistics()
  const reasons = Object.fromEntries(Object.entries(turnedAway).map(([reason, count]) => [`{reason="${reason}"}`, count]))
  response
    .setHeader('content-type', 'text/plain; version=0.0.4; charset=utf-8')
    .end(
      metric('connections_accepted_total', 'Clients taken from the kernel.', { '': accepted }) +
        metric('connections_ended_total', 'What became of them.', { '{as="served"}': served, '{as="dropped"}': dropped }) +
        metric('connections_turned_away_total', 'Clients that were refused.', reasons) +
        metric('connections_closed_total', 'Ends.', { '{end="orderly"}': totals.closed - totals.broken, '{end="broken"}': totals.broken }) +
        metric('bytes_total', 'Bytes of all.', { '{direction="in"}': totals.bytesRead, '{direction="out"}': totals.bytesWritten }) +
        metric('connection_seconds_total', 'How long they were open.', { '': totals.seconds }) +
        metric('handler_errors_total', 'Handlers that failed.', { '': handlerErrors }) +
        metric('limit_reached_total', 'How often the limit was reached.', { '': totals.limits }) +
        metric('connections', 'Clients that are there now.', { '': connections }) +
        metric('connections_waiting', 'Clients in the queue.', { '': waiting }) +
        metric('gate_open', 'Whether clients are accepted.', { '': Number(isOpen) })
    )
}).listen(figuresPort, '127.0.0.1')
await once(figures, 'listening')
const { port: bound } = figures.address() as { port: number }
console.log(`Listening on ${server.listeningOn}, figures at http://127.0.0.1:${bound}/metrics`)
