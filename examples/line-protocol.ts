// Shows a text protocol: a store that understands SET key value, GET key and QUIT, one command a line.
// Run it: npm run build && node dist/examples/line-protocol.js [port]
// Then try `nc localhost 8080`. Ctrl+C ends it, when the clients have.

import { once } from 'node:events'
import { type Connection, DelimiterNotFoundError, onPort, Server } from 'it-tcp'

const port = Number(process.argv[2] ?? 8080)
const store = new Map<string, string>()

function answer(line: string): string {
  const [command = '', key = '', ...rest] = line.split(' ')
  switch (command.toUpperCase()) {
    case 'SET':
      store.set(key, rest.join(' '))
      return 'OK'
    case 'GET':
      return store.get(key) ?? 'NOT FOUND'
    default:
      return `ERROR unknown command ${command}`
  }
}

async function serve({ reader, writer }: Connection): Promise<void> {
  try {
    for await (const line of reader.lines({ maxLength: 1_000 })) {
      if (line === 'QUIT') break
      writer.write(`${answer(line)}\n`)
      // A client that sends commands and reads no answers is not read from either.
      await writer.flushed()
    }
    writer.write('BYE\n')
  } catch (error) {
    // A line without an end is a client's fault, and never takes more than maxLength of memory.
    if (!(error instanceof DelimiterNotFoundError)) throw error
    writer.write('ERROR line too long\n')
  }
}

// What a client brings about, such as a reset, ends that client's connection only.
await using server = await Server.create(onPort(port), { maxConnections: 50, idleTimeout: 300_000 }, serve)
console.log(`Listening on port ${server.listeningOn}`)

await once(process, 'SIGINT')
