// One address that opens 10,000 connections against a limit of 20, and what the others notice of it.
// Run it: npm run build && node bench/flood.js [connections]

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { fileURLToPath } from 'node:url'
import { onPort, Server } from '../dist/src/index.js'
import { table } from './report.js'

const HOST = '127.0.0.1'
const FLOODER = '127.0.0.2'
const AT_ONCE = 200
/** Clients of others to ask, one after the other, as long as the flood goes on. */
const FEWEST = 400
const LIMIT = 20

const total = Number(process.argv[2] ?? 10_000)

if (process.env.FLOOD_PORT !== undefined) await flood(Number(process.env.FLOOD_PORT))
else await measure()

// The flood, in a process of its own: its work is not the server's.
/** @param {number} port */
async function flood(port) {
  let left = total
  let closed = 0
  const client = async () => {
    while (left-- > 0) {
      const socket = connect({ port, host: HOST, localAddress: FLOODER })
      socket.on('error', () => {})
      socket.resume()
      await once(socket, 'close').catch(() => {})
      // Those that were let in stay.
      if (++closed === total - LIMIT) process.exit()
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, client))
}

async function measure() {
  const rows = []
  for (const isFlooded of [false, true]) {
    const server = await Server.create(
      onPort(0, { host: HOST }),
      { maxConnections: LIMIT + 1, maxConnectionsPerAddress: LIMIT, onHandlerError: 'ignore', warnAtLimit: false },
      ({ reader, writer }) => writer(reader)
    )
    const env = { ...process.env, FLOOD_PORT: String(server.listeningOn) }
    const args = [fileURLToPath(import.meta.url), String(total)]
    const child = isFlooded ? spawn(process.execPath, args, { env, stdio: 'inherit' }) : undefined
    const exit = child && once(child, 'exit')
    if (isFlooded) while (server.statistics().turnedAway.perAddress < 100) await new Promise((resolve) => setTimeout(resolve, 5))
    const waits = []
    let most = 0
    // There is one slot for others: whoever is turned away must never have it.
    while (isFlooded ? child?.exitCode === null : waits.length < FEWEST) {
      waits.push(await ask(server.listeningOn))
      most = Math.max(most, server.numConnections)
    }
    await exit
    const { turnedAway, served } = server.statistics()
    await server.close({ closeExistingConnections: true })
    waits.sort((a, b) => a - b)
    const at = (part) => `${waits[Math.floor((waits.length - 1) * part)].toFixed(1)} ms`
    const name = isFlooded ? `one address opens ${total.toLocaleString('en')}` : 'nobody else'
    rows.push([name, String(waits.length), at(0.5), at(0.99), at(1), String(turnedAway.perAddress), String(served), String(most)])
  }
  console.log(table(['', 'others asked', 'wait, median', 'p99', 'longest', 'turned away', 'served', 'most slots'], rows))
}

/** @param {number} port */
async function ask(port) {
  const start = performance.now()
  const socket = connect({ port, host: HOST })
  socket.write('a')
  await once(socket, 'data')
  const wait = performance.now() - start
  socket.destroy()
  await once(socket, 'close')
  return wait
}
