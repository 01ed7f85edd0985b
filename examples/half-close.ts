// Shows half-closing: the client says that it is done, and still gets the whole answer.
// Run it: npm run build && node dist/examples/half-close.js [number …]

import { onPortChosenByOs, Server, toHostAndPort, withConnection } from 'it-tcp'

const numbers = process.argv.length > 2 ? process.argv.slice(2) : ['3', '4', '5']

// The sum is known when the last number is: the server reads until the client's FIN, then answers.
await using server = await Server.create(onPortChosenByOs({ host: 'localhost' }), async ({ reader, writer }) => {
  let sum = 0
  for await (const line of reader.lines()) sum += Number(line)
  // The loop has come to the end of the input. The other direction is as open as before.
  writer.write(`The sum is ${sum}\n`)
})

const answer = await withConnection(toHostAndPort('localhost', server.listeningOn), async ({ reader, writer }) => {
  for (const number of numbers) writer.write(`${number}\n`)
  // Flushes and sends FIN. The reader stays open.
  await writer.close()
  console.log(`Sent ${numbers.length} numbers, and closed our side`)
  return await reader.readLine()
})
console.log(answer)
