// node:net with its own async iterator.

import { once } from 'node:events'
import { createServer } from 'node:net'
import { BEHAVIOUR, BYTES, chunks, ready } from './control.js'

/**
 * @param {import('node:net').Socket} socket
 * @param {Iterable<Uint8Array> | AsyncIterable<Uint8Array>} source
 */
async function writeAll(socket, source) {
  for await (const chunk of source) {
    if (!socket.write(chunk)) await once(socket, 'drain')
  }
  socket.end()
}

/** @type {Record<string, (socket: import('node:net').Socket) => Promise<void>>} */
const handlers = {
  echo: (socket) => writeAll(socket, socket),
  async receive(socket) {
    let received = 0
    for await (const chunk of socket) {
      received += chunk.byteLength
      if (received >= BYTES) socket.write(`${received}\n`)
    }
  },
  send: (socket) => writeAll(socket, chunks())
}

const server = createServer({ noDelay: true }, (socket) => {
  socket.on('error', () => socket.destroy())
  handlers[BEHAVIOUR](socket).catch(() => socket.destroy())
})
server.listen({ port: 0, host: '127.0.0.1' }, () => ready(server.address().port))
