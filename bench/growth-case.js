// One point of bench/growth.js: a process of its own that does some work of a given size, and tells what an operation cost.

import { once } from 'node:events'
import net from 'node:net'
import { connect, onPortChosenByOs, Server, toHostAndPort } from '../dist/src/index.js'

const HOST = '127.0.0.1'
const [name = '', size = '1'] = process.argv.slice(2)

const cases = {
  /** Lines of so many bytes, from a raw socket to `lines()`: nanoseconds a byte. */
  async lines(length) {
    const count = Math.min(200_000, Math.max(4, Math.round(20_000_000 / length)))
    const line = Buffer.alloc(length, 'a').fill('\n', length - 1)
    const block = Buffer.concat(Array.from({ length: Math.max(1, Math.floor(65_536 / length)) }, () => line))
    const perBlock = block.byteLength / length
    const rounds = Math.ceil(count / perBlock)
    let lines = 0
    const { promise, resolve } = deferred()
    const server = await Server.create(onPortChosenByOs({ host: HOST }), async ({ reader }) => {
      for await (const text of reader.lines({ maxLength: length })) if (text.length > 0) lines++
      resolve()
    })
    const cost = await cpu(async () => {
      const socket = net.connect(server.listeningOn, HOST)
      for (let i = 0; i < rounds; i++) if (!socket.write(block)) await once(socket, 'drain')
      socket.end()
      await promise
    })
    if (lines !== rounds * perBlock) throw new Error(`${lines} lines, not ${rounds * perBlock}`)
    await server.close()
    return (cost * 1000) / (lines * length)
  },

  /** So many writes of 16 bytes at once, until the system has them all: microseconds a write. */
  async writes(count) {
    const repeats = Math.max(1, Math.round(200_000 / count))
    const data = new Uint8Array(16)
    const server = await Server.create(onPortChosenByOs({ host: HOST }), async ({ reader }) => {
      await reader.discard()
    })
    const connection = await connect(toHostAndPort(HOST, server.listeningOn))
    const cost = await cpu(async () => {
      for (let i = 0; i < repeats; i++) {
        for (let j = 0; j < count; j++) connection.writer.write(data)
        await connection.writer.flushed()
      }
    })
    await connection.close()
    await server.close()
    return cost / (repeats * count)
  },

  /** Connections that each say a byte, in a server with so many slots that are all taken: microseconds a connection. */
  async slots(count) {
    const total = 5_000
    const server = await Server.create(
      onPortChosenByOs({ host: HOST, backlog: 4096 }),
      { maxConnections: count + 1 },
      async ({ reader, writer }) => {
        for await (const chunk of reader) writer.write(chunk)
      }
    )
    const stay = []
    for (let i = 0; i < count; i += 50)
      stay.push(...(await Promise.all(Array.from({ length: Math.min(50, count - i) }, () => talk(server.listeningOn)))))
    // One slot is left.
    const cost = await cpu(async () => {
      let left = total
      const client = async () => {
        while (left-- > 0) {
          const socket = await talk(server.listeningOn)
          socket.end()
          await once(socket, 'close')
        }
      }
      await Promise.all(Array.from({ length: 20 }, client))
    })
    for (const socket of stay) socket.destroy()
    await server.close()
    return cost / total
  }
}

const result = await cases[name](Number(size))
console.log(JSON.stringify({ result }))
process.exit()

/** Microseconds of CPU time, of both sides. */
async function cpu(act) {
  const before = process.cpuUsage()
  await act()
  const { user, system } = process.cpuUsage(before)
  return user + system
}

/** A connection that has sent a byte and got it back. */
async function talk(port) {
  const socket = net.connect({ port, host: HOST, noDelay: true })
  socket.write('a')
  await once(socket, 'data')
  return socket
}

function deferred() {
  let resolve
  const promise = new Promise((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}
