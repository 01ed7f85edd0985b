// Shows shutting down in two stages: no new clients, the present ones may finish, and after a deadline they are cut off.
// Run it: npm run build && node dist/examples/graceful-shutdown.js [port] [deadline in milliseconds]
// Then connect with `nc localhost 8080`, and send it SIGTERM or press Ctrl+C.

import { once } from 'node:events'
import { onPort, Server } from 'it-tcp'

const [port = 8080, deadline = 10_000] = process.argv.slice(2).map(Number)

const server = await Server.create(onPort(port), { maxConnections: 100 }, async ({ reader, writer }) => {
  // Aborted when the server starts to close: whoever listens can wind down.
  const onClosing = (): void => {
    if (!writer.isClosed) writer.write('The server is about to stop, please finish\n')
  }
  server.signal.addEventListener('abort', onClosing)
  try {
    for await (const line of reader.lines()) {
      writer.write(`${line.toUpperCase()}\n`)
      // A client that sends and does not read is not read from either.
      await writer.flushed()
    }
  } finally {
    server.signal.removeEventListener('abort', onClosing)
  }
})
console.log(`Listening on port ${server.listeningOn}`)

await Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')])
console.log(`Stopping: ${server.numConnections} connected, ${deadline} ms to finish`)

// First stage: from here on nobody is accepted, and clients in the kernel's queue are reset. Resolves when the port is free again.
await server.close({ forceAfter: deadline })
console.log('The port is free')

// Second stage: every handler has ended, by itself or because its connection was aborted at the deadline.
await server.finished
console.log('Stopped')
