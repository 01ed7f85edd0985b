// Shows pipelines: a reader, a transform and a writer, put together with it-pipe.
// Run it: npm run build && node dist/examples/upper-case.js [word …]

import { pipe } from 'it-pipe'
import { onPortChosenByOs, Server, toHostAndPort, withConnection } from 'it-tcp'

const words = process.argv.length > 2 ? process.argv.slice(2) : ['bytes', 'in,', 'bytes', 'out']

// Any function from an async iterable to an async iterable is a transform.
async function* upperCase(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  // The decoder keeps what one chunk has of a character until the next brings the rest.
  const decoder = new TextDecoder()
  const encoder = new TextEncoder()
  for await (const chunk of source) yield encoder.encode(decoder.decode(chunk, { stream: true }).toUpperCase())
}

await using server = await Server.create(onPortChosenByOs({ host: 'localhost' }), async ({ reader, writer }) => {
  await pipe(reader, upperCase, writer)
})

const answer = await withConnection(toHostAndPort('localhost', server.listeningOn), async (connection) => {
  // A connection is both ends of a pipeline: in the middle of one, it is the server that transforms.
  return await pipe(
    words.map((word) => new TextEncoder().encode(`${word} `)),
    connection,
    toText
  )
})
console.log(answer.trim())

async function toText(source: AsyncIterable<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder()
  let text = ''
  for await (const chunk of source) text += decoder.decode(chunk, { stream: true })
  return text
}
