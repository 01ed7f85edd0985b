// The load: a process of its own on raw node:net, told by its parent what to do. Every answer is checked.

import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import tls from 'node:tls'

const HOST = '127.0.0.1'
// All connections read into this: their bytes are looked at and dropped at once.
const buffer = new Uint8Array(1 << 20)
const block = new Uint8Array(1 << 18).fill(0x61)

/**
 * @param {{ port: number, isSecure?: boolean }} server
 * @param {(length: number, bytes: Uint8Array) => void} received
 */
function dial({ port, isSecure }, received) {
  const callback = (length) => {
    received(length, buffer)
    return true
  }
  const socket = isSecure
    ? tls.connect({ port, host: HOST, rejectUnauthorized: false }).on('data', (bytes) => received(bytes.byteLength, bytes))
    : connect({ port, host: HOST, noDelay: true, onread: { buffer, callback } })
  socket.on('error', (error) => fail(error))
  return socket
}

/** @type {(error: Error) => void} */
let fail = () => {}

/** A number of connections with one message in flight on each. */
class Echo {
  #sockets = []
  #starts = []
  #isRunning = false
  #operations = 0
  #inFlight = 0
  #onIdle = () => {}

  async open({ connections, size, ...server }) {
    // In batches: a server's queue is shorter than what an idle test wants.
    while (this.#sockets.length < connections) {
      const batch = Math.min(50, connections - this.#sockets.length)
      await Promise.all(Array.from({ length: batch }, () => this.#add(server, size)))
    }
    // Every connection has been served once, so that none is still in a queue.
    await this.#idle(() => {
      for (const start of this.#starts) start()
    })
  }

  async #add(server, size) {
    const message = new Uint8Array(size).fill(0x61)
    let sequence = 0
    let received = 0
    const start = () => {
      sequence = (sequence + 1) % 250
      message[0] = message[size - 1] = sequence
      received = 0
      this.#inFlight++
      socket.write(message)
    }
    const socket = dial(server, (length, bytes) => {
      if (received === 0 && bytes[0] !== sequence) fail(new Error(`A wrong answer begins with ${bytes[0]}, not with ${sequence}`))
      received += length
      if (received < size) return
      if (received > size || bytes[length - 1] !== sequence) fail(new Error(`A wrong answer of ${received} bytes`))
      this.#inFlight--
      this.#operations++
      if (this.#isRunning) start()
      else if (this.#inFlight === 0) this.#onIdle()
    })
    await once(socket, server.isSecure ? 'secureConnect' : 'connect')
    this.#sockets.push(socket)
    this.#starts.push(start)
  }

  async #idle(act) {
    await new Promise((resolve) => {
      this.#onIdle = resolve
      act()
    })
  }

  async run({ milliseconds }) {
    this.#operations = 0
    this.#isRunning = true
    const begin = performance.now()
    await this.#idle(() => {
      for (const start of this.#starts) start()
      setTimeout(() => {
        this.#isRunning = false
      }, milliseconds)
    })
    return { amount: this.#operations, seconds: (performance.now() - begin) / 1000 }
  }

  async close() {
    const closes = this.#sockets.map((socket) => once(socket, 'close'))
    for (const socket of this.#sockets) socket.destroy()
    await Promise.all(closes)
  }
}

/** Connect, one byte there and back, close: a number of clients at a time, each again and again. */
class Accept {
  open() {}

  async run({ connections, milliseconds, ...server }) {
    const begin = performance.now()
    let amount = 0
    const client = async () => {
      while (performance.now() - begin < milliseconds) {
        await new Promise((resolve, reject) => {
          let isAnswered = false
          const socket = dial(server, () => {
            isAnswered = true
            socket.destroy()
          })
          socket.write('a')
          socket.once('close', () => (isAnswered ? resolve() : reject(new Error('A client was not answered'))))
        })
        amount++
      }
    }
    await Promise.all(Array.from({ length: connections }, client))
    return { amount, seconds: (performance.now() - begin) / 1000 }
  }

  close() {}
}

/** Transfers one after the other, each on a connection of its own. */
class Bulk {
  #transfer

  /** @param {(server: { port: number, isSecure?: boolean }, bytes: number) => Promise<void>} transfer */
  constructor(transfer) {
    this.#transfer = transfer
  }

  open() {}

  async run({ bytes, milliseconds, ...server }) {
    const begin = performance.now()
    let amount = 0
    do {
      await this.#transfer(server, bytes)
      amount += bytes
    } while (performance.now() - begin < milliseconds)
    return { amount, seconds: (performance.now() - begin) / 1000 }
  }

  close() {}
}

/** Sends so many bytes, and waits until the server has counted them. */
async function upload(server, bytes) {
  let answer = ''
  const socket = dial(server, (length, part) => {
    answer += Buffer.from(part.subarray(0, length)).toString()
    if (answer.endsWith('\n')) socket.destroy()
  })
  const closed = once(socket, 'close')
  await once(socket, 'connect')
  for (let left = bytes; left > 0; left -= block.byteLength) {
    if (!socket.write(left < block.byteLength ? block.subarray(0, left) : block)) await once(socket, 'drain')
  }
  await closed
  if (Number(answer) !== bytes) throw new Error(`The server counted ${answer.trim()} bytes, not ${bytes}`)
}

/** Is sent so many bytes. */
async function download(server, bytes) {
  let received = 0
  const socket = dial(server, (length) => {
    received += length
  })
  await once(socket, 'close')
  if (received !== bytes) throw new Error(`The server sent ${received} bytes, not ${bytes}`)
}

/** Milliseconds that each of some clients has to wait, one after the other, from its connect to its byte. */
async function probe({ port, count }) {
  const waits = []
  for (let i = 0; i < count; i++) {
    const begin = performance.now()
    await new Promise((resolve) => {
      const socket = dial({ port }, () => {
        waits.push(performance.now() - begin)
        socket.destroy()
      })
      socket.write('a')
      socket.once('close', resolve)
    })
  }
  return waits
}

/** The other side of those who dial: gives a byte back, and ends when they do. */
class Listen {
  #server = createServer({ noDelay: true }, (socket) => socket.on('error', () => {}).on('data', (chunk) => socket.write(chunk)))

  async open() {
    await new Promise((resolve) => this.#server.listen({ port: 0, host: HOST, backlog: 511 }, () => resolve(undefined)))
    return { port: this.#server.address().port }
  }

  close() {
    this.#server.close()
  }
}

const LOADS = {
  dial: () => new Listen(),
  echo: () => new Echo(),
  accept: () => new Accept(),
  receive: () => new Bulk(upload),
  send: () => new Bulk(download)
}
let load

process.on('message', async ({ act, ...options }) => {
  const failed = new Promise((_, reject) => {
    fail = reject
  })
  failed.catch(() => {})
  try {
    if (act === 'probe') {
      process.send({ waits: await probe(options) })
      return
    }
    if (act === 'open') load = LOADS[options.load]()
    const before = process.cpuUsage()
    const result = await Promise.race([load[act](options), failed])
    const { user, system } = process.cpuUsage(before)
    process.send({ ...result, cpu: (user + system) / 1e6 })
  } catch (error) {
    process.send({ error: error.message })
  }
})
process.on('disconnect', () => process.exit())
