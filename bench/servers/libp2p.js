// @libp2p/tcp: its listener, iterated, with an upgrader that hands over the bare connection.

import { defaultLogger } from '@libp2p/logger'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { BEHAVIOUR, BYTES, chunks, ready } from './control.js'

// Not onDrain(): its promise is not renewed (in @libp2p/utils 7.4), so that it waits only once.
const drained = (connection) => new Promise((resolve) => connection.addEventListener('drain', resolve, { once: true }))

const handlers = {
  async echo(connection) {
    for await (const chunk of connection) if (!connection.send(chunk)) await drained(connection)
  },
  async receive(connection) {
    let received = 0
    for await (const chunk of connection) {
      received += chunk.byteLength
      if (received >= BYTES) connection.send(new TextEncoder().encode(`${received}\n`))
    }
  },
  async send(connection) {
    for (const chunk of chunks()) if (!connection.send(chunk)) await drained(connection)
    await connection.close()
  }
}

const upgradeInbound = (connection) => {
  handlers[BEHAVIOUR](connection).catch((error) => connection.abort(error))
  return Promise.resolve()
}
const listener = tcp()({ logger: defaultLogger() }).createListener({ upgrader: { upgradeInbound } })
await listener.listen(multiaddr('/ip4/127.0.0.1/tcp/0'))
ready(Number(/\/tcp\/(\d+)/.exec(String(listener.getAddrs()[0]))?.[1]))
