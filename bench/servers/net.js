// The baseline: node:net with event handlers, written by hand as its documentation has it.

import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import tls from 'node:tls'
import { BEHAVIOUR, BYTES, chunks, IS_SECURE, identity, ready, readyToDial } from './control.js'

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

const handle = { echo, pipe: echo, receive, into: receive, send }[BEHAVIOUR]
/** @param {number} port */
async function dial(port) {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 })
  socket.write('a')
  socket.on('data', () => socket.end())
  await once(socket, 'close')
}

/** @param {import('node:net').Socket} socket */
function onConnection(socket) {
  socket.on('error', () => socket.destroy())
  handle(socket)
}

if (BEHAVIOUR === 'dial') {
  readyToDial(dial)
} else {
  const server = IS_SECURE
    ? tls.createServer({ ...identity(), noDelay: true }, onConnection)
    : createServer({ noDelay: true }, onConnection)
  server.listen({ port: 0, host: '127.0.0.1' }, () => ready(server.address().port))
}
