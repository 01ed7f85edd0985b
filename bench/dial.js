// What a dial costs in CPU time, beside net.connect(), in turns within one process: until it is connected, not what closing it costs.
// Run it: npm run build && node bench/dial.js [rounds] [dials in a slice]

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { createServer, connect as netConnect } from 'node:net'
import { fileURLToPath } from 'node:url'
import { connect, connectSocket, toHostAndPort } from '../dist/src/index.js'
import { foreignLoad } from './processes.js'
import { machine, median, table } from './report.js'

const AT_ONCE = 20

if (process.send !== undefined) serve()
else await main(Number(process.argv[2] ?? 20), Number(process.argv[3] ?? 1_000))

/** The server, in a process of its own. */
function serve() {
  const server = createServer((socket) => socket.on('error', () => {}).resume())
  server.listen({ port: 0, host: '127.0.0.1', backlog: 1024 }, () => process.send?.(server.address()))
  process.on('disconnect', () => process.exit())
}

/**
 * @param {number} rounds
 * @param {number} dials
 */
async function main(rounds, dials) {
  const noise = await foreignLoad()
  const child = fork(fileURLToPath(import.meta.url))
  const [{ port }] = await once(child, 'message')
  const host = '127.0.0.1'
  const where = toHostAndPort(host, port)

  /** @param {import('node:net').NetConnectOpts} options */
  const netDial = async (options) => {
    const socket = netConnect(options)
    await new Promise((resolve, reject) => socket.once('connect', () => resolve(undefined)).once('error', reject))
    return socket
  }
  /** @type {{ name: string, dial: () => Promise<import('node:net').Socket | Awaited<ReturnType<typeof connect>>> }[]} */
  const ways = [
    { name: 'net.connect', dial: () => netDial({ host, port }) },
    {
      name: 'net.connect with noDelay and keepAlive, as connect has',
      dial: () => netDial({ host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 })
    },
    { name: 'connectSocket', dial: () => connectSocket(where) },
    { name: 'connect', dial: () => connect(where) }
  ]

  /** @param {typeof ways[number]} way */
  const slice = async ({ dial }) => {
    let used = 0
    for (let i = 0; i < dials; i += AT_ONCE) {
      const before = process.cpuUsage()
      const dialled = await Promise.all(Array.from({ length: AT_ONCE }, dial))
      const { user, system } = process.cpuUsage(before)
      used += user + system
      await Promise.all(dialled.map(close))
    }
    return used / dials
  }

  try {
    for (const way of ways) await slice(way)
    const costs = ways.map(() => /** @type {number[]} */ ([]))
    for (let round = 0; round < rounds; round++) {
      // Each time another begins.
      for (let i = 0; i < ways.length; i++) {
        const index = (i + round) % ways.length
        costs[index]?.push(await slice(/** @type {typeof ways[number]} */ (ways[index])))
      }
    }
    const rows = ways.map(({ name }, index) => {
      const ratios = costs[index]?.map((cost, round) => cost / (costs[0]?.[round] ?? Number.NaN)) ?? []
      return [name, median(costs[index] ?? []).toFixed(1), median(ratios).toFixed(2)]
    })
    console.log(`${machine()}; Node.js ${process.versions.node}; medians of ${rounds} slices of ${dials} dials, ${AT_ONCE} at once\n`)
    console.log(table(['', 'µs of CPU time', 'ratio'], rows))
    if (noise !== '') console.log(`\n${noise}`)
  } finally {
    child.disconnect()
    await once(child, 'exit')
  }
}

/** @param {import('node:net').Socket | Awaited<ReturnType<typeof connect>>} dialled */
async function close(dialled) {
  if ('abort' in dialled) {
    dialled.abort()
    await dialled.closed
  } else {
    dialled.resetAndDestroy()
    await once(dialled, 'close')
  }
}
