// redis-benchmark directly, and through HAProxy, socat and `it-tcp forward`, in turns. Takes redis-server, redis-benchmark, haproxy and socat.
// Run it: npm run build && node bench/forward.js [--rounds 3] [--write-docs]

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs, promisify } from 'node:util'
import { foreignLoad } from './processes.js'
import { figure, machine, median, table, writeDocs } from './report.js'

const { values } = parseArgs({ options: { rounds: { type: 'string' }, 'write-docs': { type: 'boolean', default: false } } })
const ROUNDS = Number(values.rounds ?? 3)
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

/**
 * The plainest configuration that carries bytes both ways.
 * @param {number} port
 * @param {number} target
 */
function haproxyConfiguration(port, target) {
  const file = join(directory, 'haproxy.cfg')
  const limits = '  timeout connect 10s\n  timeout client 1m\n  timeout server 1m\n'
  const lines = ['global', '  maxconn 2000', 'defaults', '  mode tcp', limits, 'listen redis', `  bind 127.0.0.1:${port}`]
  writeFileSync(file, [...lines, `  server redis 127.0.0.1:${target}`, ''].join('\n'))
  return file
}

try {
  const [redis, haproxy, socat, forward] = [await freePort(), await freePort(), await freePort(), await freePort()]
  await start(redis, 'redis-server', ['--port', String(redis), '--bind', '127.0.0.1', '--save', '', '--dir', directory])
  await start(haproxy, 'haproxy', ['-db', '-f', haproxyConfiguration(haproxy, redis)])
  await start(socat, 'socat', [`TCP-LISTEN:${socat},fork,reuseaddr,nodelay,backlog=511`, `TCP:127.0.0.1:${redis},nodelay`])
  await start(forward, process.execPath, [process.env.IT_TCP_MAIN ?? MAIN, 'forward', `127.0.0.1:${forward}`, `127.0.0.1:${redis}`])
  const ways = [
    { name: 'direct', port: redis },
    { name: 'HAProxy', port: haproxy },
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
  const about = `redis-benchmark with ${CLIENTS} connections, medians of ${ROUNDS} rounds`
  const where = `${machine()}; Node.js ${process.versions.node}; ${about}; ${new Date().toISOString().slice(0, 10)}. ${note}`.trim()
  const result = `${table(['requests per second', ...ways.map(({ name }) => name)], rows)}\n\n${where}`
  console.log(result)
  if (values['write-docs']) writeDocs('performance.md', 'forward', result)
} finally {
  for (const child of children.reverse()) {
    if (child.exitCode === null && child.signalCode === null && child.kill()) await once(child, 'exit')
  }
  rmSync(directory, { recursive: true, force: true })
}
