// redis-benchmark directly, through socat, and through `it-tcp forward`, in turns. Takes redis-server, redis-benchmark and socat.
// Run it: npm run build && node bench/forward.js [rounds]

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { foreignLoad } from './processes.js'
import { figure, machine, median, table } from './report.js'

const ROUNDS = Number(process.argv[2] ?? 3)
const CLIENTS = 50

/** Each is `arguments` to redis-benchmark; the number of requests makes it a second or so. */
const LOADS = [
  { name: 'GET, 1 at a time', unit: 'requests/s', requests: 60_000, args: ['-P', '1', '-t', 'get'] },
  { name: 'SET and GET, 16 at a time', unit: 'requests/s', requests: 400_000, args: ['-P', '16', '-t', 'set,get'] },
  { name: 'SET and GET of 64 KiB, 4 at a time', unit: 'requests/s', requests: 8_000, args: ['-P', '4', '-d', '65536', '-t', 'set,get'] },
  { name: 'A connection per request', unit: 'requests/s', requests: 5_000, args: ['-k', '0', '-t', 'get'] }
]

const MAIN = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url))
const directory = mkdtempSync(join(tmpdir(), 'it-tcp-'))
/** @type {import('node:child_process').ChildProcess[]} */
const children = []

/** A port that nobody has. */
async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
  server.close()
  await once(server, 'close')
  return port
}

/**
 * Starts a program, and resolves when it listens on `port`.
 * @param {number} port
 * @param {string} program
 * @param {string[]} args
 */
async function start(port, program, args) {
  const child = spawn(program, args, { stdio: 'ignore' })
  children.push(child)
  child.on('error', (error) => console.error(error.message))
  for (let tries = 0; tries < 200; tries++) {
    const socket = connect(port, '127.0.0.1')
    const isThere = await new Promise((resolve) => socket.on('connect', () => resolve(true)).on('error', () => resolve(false)))
    socket.destroy()
    if (isThere) return child
    await sleep(25)
  }
  throw new Error(`${program} does not listen`)
}

/**
 * Requests per second, one figure for each command of the load.
 * @param {number} port
 * @param {typeof LOADS[number]} load
 */
async function measure(port, { requests, args }) {
  const all = ['-p', String(port), '-c', String(CLIENTS), '-n', String(requests), '--csv', ...args]
  const { stdout } = await promisify(execFile)('redis-benchmark', all, { timeout: 120_000 })
  const rates = [...stdout.matchAll(/^"(?:GET|SET)","([\d.]+)"/gm)].map(([, rate]) => Number(rate))
  if (rates.length === 0) throw new Error(`redis-benchmark said nothing: ${stdout}`)
  // The mean of rates of equal shares.
  return rates.length / rates.reduce((sum, rate) => sum + 1 / rate, 0)
}

try {
  const [redis, socat, forward] = [await freePort(), await freePort(), await freePort()]
  await start(redis, 'redis-server', ['--port', String(redis), '--bind', '127.0.0.1', '--save', '', '--dir', directory])
  await start(socat, 'socat', [`TCP-LISTEN:${socat},fork,reuseaddr,nodelay,backlog=511`, `TCP:127.0.0.1:${redis},nodelay`])
  await start(forward, process.execPath, [process.env.IT_TCP_MAIN ?? MAIN, 'forward', `127.0.0.1:${forward}`, `127.0.0.1:${redis}`])
  const ways = [
    { name: 'direct', port: redis },
    { name: 'socat', port: socat },
    { name: 'it-tcp forward', port: forward }
  ]
  const note = await foreignLoad()
  /** @type {Map<string, number[]>} */
  const results = new Map()
  for (let round = 0; round < ROUNDS; round++) {
    for (const load of LOADS) {
      for (const { name, port } of ways) {
        const key = `${load.name} ${name}`
        results.set(key, [...(results.get(key) ?? []), await measure(port, load)])
      }
    }
  }
  const rows = LOADS.map((load) => [load.name, ...ways.map(({ name }) => figure(median(results.get(`${load.name} ${name}`) ?? [])))])
  console.log(`${machine()}; redis-benchmark with ${CLIENTS} connections, requests per second, medians of ${ROUNDS} rounds\n`)
  console.log(table(['load', ...ways.map(({ name }) => name)], rows))
  if (note !== '') console.log(`\n${note}`)
} finally {
  for (const child of children.reverse()) {
    if (child.exitCode === null && child.signalCode === null && child.kill()) await once(child, 'exit')
  }
  rmSync(directory, { recursive: true, force: true })
}
