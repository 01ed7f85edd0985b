// Shows a client: sends standard input to a server, and prints what comes back.
// Run it: npm run build && node dist/examples/echo-client.js [port] [host]
// It talks to the echo-server beside this file, or to any other. Ctrl+D ends the input.

import { toHostAndPort, withConnection } from 'it-tcp'

const [port = 8080, host = 'localhost'] = process.argv.slice(2)

try {
  await withConnection(toHostAndPort(host, Number(port)), { timeout: 5_000 }, async ({ reader, writer }) => {
    // Pulls from standard input only as fast as the server takes the bytes, then half-closes: the rest of the answer still comes.
    const sent = writer(process.stdin)
    for await (const chunk of reader) process.stdout.write(chunk)
    await sent
  })
} catch (error) {
  // 'Cannot connect to localhost:8080: connection refused'
  console.error((error as Error).message)
  process.exitCode = 1
}
