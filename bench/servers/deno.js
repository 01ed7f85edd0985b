// Deno's own listener and connections.

import { BEHAVIOUR, BYTES, chunks, ready } from './control.js'

const { Deno } = globalThis

async function writeAll(connection, bytes) {
  for (let written = await connection.write(bytes); written < bytes.byteLength; ) written += await connection.write(bytes.subarray(written))
}

const answer = (connection, received) => writeAll(connection, new TextEncoder().encode(`${received}\n`))

const handlers = {
  async echo(connection) {
    const buffer = new Uint8Array(65_536)
    for (let length = await connection.read(buffer); length !== null; length = await connection.read(buffer)) {
      await writeAll(connection, buffer.subarray(0, length))
    }
    connection.close()
  },
  async receive(connection) {
    let received = 0
    // The connection is closed at the end of its stream.
    for await (const chunk of connection.readable) {
      received += chunk.byteLength
      if (received >= BYTES) await answer(connection, received)
    }
  },
  async into(connection) {
    const buffer = new Uint8Array(65_536)
    let received = 0
    for (let length = await connection.read(buffer); length !== null; length = await connection.read(buffer)) {
      received += length
      if (received >= BYTES) await answer(connection, received)
    }
    connection.close()
  },
  async send(connection) {
    for (const chunk of chunks()) await writeAll(connection, chunk)
    connection.close()
  }
}

const listener = Deno.listen({ hostname: '127.0.0.1', port: 0 })
ready(listener.addr.port)
for await (const connection of listener) handlers[BEHAVIOUR](connection).catch(() => {})
