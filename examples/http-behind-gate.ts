// Shows a server of node:http behind the gate: the clients it has no slot for wait in the kernel, not in its memory.
// Run it: npm run build && node dist/examples/http-behind-gate.js [port] [connections]
// Then, elsewhere: curl http://localhost:8080
//
// The first byte tells who comes: who begins with a capital letter speaks HTTP, others get their line back. SIGINT ends it, and cuts nobody off.

import { createServer } from 'node:http'
import { onPort, Server } from 'it-tcp'

const [port = '8080', maxConnections = '50'] = process.argv.slice(2)

const http = createServer((request, response) => {
  response.end(`Hello, ${request.socket.remoteAddress}. You asked for ${request.url}\n`)
})
// It does not listen itself. As if it did, it keeps account of its clients from now on: for its timeouts, and for closeIdleConnections().
http.emit('listening')

const options = { maxConnections: Number(maxConnections), onHandlerError: 'ignore' } as const
const server = await Server.create(onPort(Number(port)), options, async (connection) => {
  const { reader, writer } = connection
  const [first] = (await reader.peek(1, { timeout: 10_000 })) ?? []
  if (first === undefined) return
  if (first >= 65 && first <= 90) {
    // From here on the socket is node:http's, with what was peeked at. The slot is free when it closes.
    http.emit('connection', await connection.detach())
  } else {
    writer.write(`${await reader.readLine()}\n`)
  }
})
console.log(`Listening on port ${server.listeningOn}`)

process.once('SIGINT', async () => {
  await server.close({ forceAfter: 10_000 })
  // Who keeps a connection open without asking anything would keep the process, too; who is being answered is awaited.
  const closing = setInterval(() => http.closeIdleConnections(), 50)
  await server.finished
  clearInterval(closing)
  http.close()
})
