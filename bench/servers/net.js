// The baseline: node:net with event handlers, written by hand as its documentation has it.

import { createServer } from 'node:net'
import { BEHAVIOUR, BYTES, chunks, ready } from './control.js'

/** @param {import('node:net').Socket} socket */
function echo(socket) {
  socket.on('data', (chunk) => {
    if (socket.write(chunk)) return
    socket.pause()
    socket.once('drain', () => socket.resume())
  })
}

/** @param {import('node:net').Socket} socket */
function receive(socket) {
  let received = 0
  socket.on('data', (chunk) => {
    received += chunk.byteLength
    if (received >= BYTES) socket.write(`${received}\n`)
  })
}

/** @param {import('node:net').Socket} socket */
function send(socket) {
  const source = chunks()
  const pump = () => {
    for (let next = source.next(); !next.done; next = source.next()) {
      if (!socket.write(next.value)) {
        socket.once('drain', pump)
        return
      }
    }
    socket.end()
  }
  pump()
}

const handle = { echo, receive, into: receive, send }[BEHAVIOUR]
const server = createServer({ noDelay: true }, (socket) => {
  socket.on('error', () => socket.destroy())
  handle(socket)
})
server.listen({ port: 0, host: '127.0.0.1' }, () => ready(server.address().port))
