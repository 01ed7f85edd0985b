// Shows messages in place of bytes: it-length-prefixed before and behind a connection, in a pipe on both sides.
// Run it: npm run build && node dist/examples/length-prefixed.js [message …]

import * as lp from 'it-length-prefixed'
import { pipe } from 'it-pipe'
import { onPortChosenByOs, Server, toHostAndPort, withConnection } from 'it-tcp'
import type { Uint8ArrayList } from 'uint8arraylist'

const messages = process.argv.length > 2 ? process.argv.slice(2) : ['one', '', 'a message\nof two lines', 'x'.repeat(100_000)]
// What a peer may make us hold. Beyond it decoding throws, and that ends the one connection.
const limits = { maxDataLength: 1_000_000 }

const decode = (source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8ArrayList> => lp.decode(source, limits)
const encode = (source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): AsyncGenerator<Uint8Array> => lp.encode(source, limits)

// However the network cuts the bytes, each turn of the loop has one whole message.
async function* measured(source: AsyncIterable<Uint8ArrayList>): AsyncGenerator<Uint8Array> {
  for await (const message of source) yield new TextEncoder().encode(`${message.byteLength} bytes`)
}

// What decoding throws is the client's fault and no reason to stop: it is reported, and that client's connection is closed.
const options = { onHandlerError: (_: unknown, error: unknown): void => console.error((error as Error).message) }

await using server = await Server.create(onPortChosenByOs({ host: 'localhost' }), options, async ({ reader, writer }) => {
  await pipe(reader, decode, measured, encode, writer)
})

await withConnection(toHostAndPort('localhost', server.listeningOn), async (connection) => {
  const sent = messages.map((message) => new TextEncoder().encode(message))
  await pipe(sent, encode, connection, decode, async (answers) => {
    for await (const answer of answers) console.log(new TextDecoder().decode(answer.subarray()))
  })
})
