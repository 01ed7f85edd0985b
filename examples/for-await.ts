// Shows the server as an async iterator: one client at a time, the others wait in the kernel until the loop comes round.
// Run it: npm run build && node dist/examples/for-await.js [name …]

import { listen, onPortChosenByOs, toHostAndPort, withConnection } from 'it-tcp'

const names = process.argv.length > 2 ? process.argv.slice(2) : ['Ada', 'Barbara', 'Grace']

const server = await listen(onPortChosenByOs({ host: 'localhost' }))

// All of them are connected at once, and nobody is accepted yet: that takes somebody who asks for a connection.
const replies = names.map((name) =>
  withConnection(toHostAndPort('localhost', server.listeningOn), async ({ reader, writer }) => {
    writer.write(`${name}\n`)
    return await reader.readLine()
  })
)

let served = 0
// `await using` closes each connection at the end of its turn, also when the turn throws.
for await (await using connection of server) {
  const name = await connection.reader.readLine()
  connection.writer.write(`Hello, ${name}. You have us to yourself: ${server.numConnections} connection is open.\n`)
  served++
  // Leaving a loop over a server closes it. To take some clients and go on, call server.accept().
  if (served === names.length) break
}

for (const reply of await Promise.all(replies)) console.log(reply)
console.log(`Served ${served}. The server is ${server.isClosed ? 'closed' : 'open'}.`)
