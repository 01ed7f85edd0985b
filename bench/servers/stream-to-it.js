// node:net with stream-to-it and it-pipe.

import { createServer } from 'node:net'
import { pipe } from 'it-pipe'
import { duplex } from 'stream-to-it'
import { BEHAVIOUR, BYTES, chunks, ready } from './control.js'

/** @type {Record<string, (stream: ReturnType<typeof duplex>) => Promise<void>>} */
const handlers = {
  echo: (stream) => pipe(stream, stream),
  receive: (stream) => pipe(stream, count, stream),
  send: (stream) => pipe(chunks(), stream)
}

/** @param {AsyncIterable<Uint8Array>} source */
async function* count(source) {
  let received = 0
  for await (const chunk of source) {
    received += chunk.byteLength
    if (received >= BYTES) yield `${received}\n`
  }
}

const server = createServer({ noDelay: true }, (socket) => {
  socket.on('error', () => socket.destroy())
  handlers[BEHAVIOUR](duplex(socket)).catch(() => socket.destroy())
})
server.listen({ port: 0, host: '127.0.0.1' }, () => ready(server.address().port))
