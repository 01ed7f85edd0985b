// Shows a server that calls a handler for each client: what a client sends goes back to it.
// Run it: npm run build && node dist/examples/echo-server.js [port]
// Then try `nc localhost 8080`, or the echo-client beside this file. Ctrl+C ends it, when the clients have.

import { once } from 'node:events'
import { onPort, Server } from 'it-tcp'

const port = Number(process.argv[2] ?? 8080)

// The hundred and first client waits in the kernel until one of the hundred leaves.
const options = { maxConnections: 100, idleTimeout: 60_000 }

await using server = await Server.create(onPort(port), options, async ({ reader, writer }) => {
  // A writer is a function that takes a source, and a reader is a source. At its end the writer half-closes.
  await writer(reader)
})
console.log(`Listening on port ${server.listeningOn}`)

await once(process, 'SIGINT')
