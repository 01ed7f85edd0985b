// Bun's own sockets. Its write() takes what the system takes; the rest is the caller's to keep.

import { BEHAVIOUR, BYTES, chunks, ready } from './control.js'

const { Bun } = globalThis

/** Writes what waits, then `next`, until the system takes no more. */
function pump(socket) {
  const { data } = socket
  for (;;) {
    if (data.rest.byteLength === 0) {
      const { done, value } = data.source.next()
      if (done) {
        socket.end()
        return
      }
      data.rest = value
    }
    const written = socket.write(data.rest)
    data.rest = data.rest.subarray(Math.max(0, written))
    if (data.rest.byteLength > 0) return
  }
}

const handlers = {
  echo: {
    open(socket) {
      socket.data = { queue: [] }
    },
    data(socket, chunk) {
      const { queue } = socket.data
      const written = queue.length > 0 ? 0 : Math.max(0, socket.write(chunk))
      if (written === chunk.byteLength) return
      queue.push(chunk.slice(written))
      socket.pause()
    },
    drain(socket) {
      const { queue } = socket.data
      while (queue.length > 0) {
        const written = Math.max(0, socket.write(queue[0]))
        if (written < queue[0].byteLength) {
          queue[0] = queue[0].subarray(written)
          return
        }
        queue.shift()
      }
      socket.resume()
    }
  },
  receive: {
    open(socket) {
      socket.data = { received: 0 }
    },
    data(socket, chunk) {
      socket.data.received += chunk.byteLength
      if (socket.data.received >= BYTES) socket.write(`${socket.data.received}\n`)
    }
  },
  send: {
    open(socket) {
      socket.data = { source: chunks(), rest: new Uint8Array(0) }
      pump(socket)
    },
    data() {},
    drain: pump
  }
}

const server = Bun.listen({
  hostname: '127.0.0.1',
  port: 0,
  socket: { close() {}, error() {}, drain() {}, ...handlers[BEHAVIOUR] }
})
ready(server.port)
