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
const OTHERS = 400

const total = Number(process.argv[2] ?? 10_000)

if (process.env.FLOOD_PORT !== undefined) await flood(Number(process.env.FLOOD_PORT))
else await measure()

// The flood, in a process of its own: its work is not the server's.
/** @param {number} port */
async function flood(port) {
  let left = total
  const client = async () => {
    while (left-- > 0) {
      const socket = connect({ port, host: HOST, localAddress: FLOODER })
      socket.on('error', () => {})
      socket.resume()
      await once(socket, 'close').catch(() => {})
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, client))
}

async function measure() {
  const rows = []
  for (const [name, limit, isFlooded] of /** @type {const} */ ([
    ['nobody else', 20, false],
    ['the flood, against a limit of 20', 20, true]
  ])) {
    const server = await Server.create(
      onPort(0, { host: HOST }),
      { maxConnections: 100, maxConnectionsPerAddress: limit, onHandlerError: 'ignore', warnAtLimit: false },
      ({ reader, writer }) => writer(reader)
    )
    const child = isFlooded
      ? spawn(process.execPath, [fileURLToPath(import.meta.url), String(total)], {
          env: { ...process.env, FLOOD_PORT: String(server.listeningOn) },
          stdio: 'inherit'
        })
      : undefined
    const exit = child && once(child, 'exit')
    if (isFlooded) while (server.statistics().turnedAway.perAddress < 100) await new Promise((resolve) => setTimeout(resolve, 5))
    const waits = []
    let during = 0
    for (let i = 0; i < OTHERS; i++) {
      waits.push(await ask(server.listeningOn))
      if (child?.exitCode === null) during++
    }
    const { numConnections } = server
    await server.close({ closeExistingConnections: true })
    child?.kill()
    await exit
    waits.sort((a, b) => a - b)
    const { turnedAway, served } = server.statistics()
    const at = (part) => `${waits[Math.floor((waits.length - 1) * part)].toFixed(1)} ms`
    rows.push([
      name,
      at(0.5),
      at(0.99),
      at(1),
      `${during} of ${OTHERS}`,
      String(turnedAway.perAddress),
      String(served),
      String(numConnections)
    ])
  }
  console.log(table(['', 'wait, median', 'p99', 'longest', 'asked during it', 'turned away', 'served', 'slots at the end'], rows))
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
