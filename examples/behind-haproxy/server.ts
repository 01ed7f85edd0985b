// Shows one of several servers behind HAProxy: it sees the client's own address, says how much room it has, and leaves without an error at a client.
// Run it: npm run build && node dist/examples/behind-haproxy/server.js [port] [port of the agent] [connections]
// haproxy.cfg beside this file has two of them. SIGTERM: it says `drain` until HAProxy has noticed, then serves whoever is there to the end.

import { once } from 'node:events'
import { onPort, Server } from 'it-tcp'

const [port = 8081, agentPort = 9081, maxConnections = 100] = process.argv.slice(2).map(Number)
const host = '127.0.0.1'
let isStopping = false
let farewells = 0
let noticed: () => void = () => {}

const server = await Server.create(
  onPort(port, { host }),
  { maxConnections, proxyProtocol: { from: ['127.0.0.0/8'] }, onHandlerError: 'ignore', warnAtLimit: false },
  async ({ reader, writer, remoteAddress, proxy }) => {
    // HAProxy's own checks are on nobody's behalf.
    if (proxy?.command === 'local') return
    for await (const line of reader.lines()) {
      writer.write(`${process.pid} ${remoteAddress.address} ${line}\n`)
      await writer.flushed()
    }
  }
)

// The agent: HAProxy connects every so often, says which backend asks, and gets a line.
const agent = await Server.create(onPort(agentPort, { host }), { onHandlerError: 'ignore' }, async ({ reader, writer }) => {
  const question = await reader.readLine({ maxLength: 100, signal: AbortSignal.timeout(1_000) })
  const { connections } = server.statistics()
  const room = Math.ceil((100 * (server.maxConnections - connections)) / server.maxConnections)
  // In `queue` a server that is full is as good as the others: there clients wait.
  if (isStopping || (room === 0 && question !== 'queue')) writer.write('drain\n')
  else writer.write(`ready up ${Math.max(1, room)}%\n`)
  // Each of the two backends asks; a second answer tells that the first has arrived.
  if (isStopping && ++farewells >= 4) noticed()
})
console.log(`Listening on ${server.listeningOn}, agent on ${agent.listeningOn}, as ${process.pid}`)

await Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')])
isStopping = true
const hasNoticed = new Promise<void>((resolve) => {
  noticed = resolve
})
// Without HAProxy nobody asks.
await Promise.race([hasNoticed, new Promise((resolve) => setTimeout(resolve, 5_000).unref())])
// Those that HAProxy has connected before are in the queue, or have a slot: nobody is to be reset who waits.
while ((server.statistics().waiting ?? 0) > 0) await new Promise((resolve) => setTimeout(resolve, 10))
await server.close({ forceAfter: 30_000 })
await server.finished
await agent.close({ closeExistingConnections: true })
