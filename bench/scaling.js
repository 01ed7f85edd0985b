// One process or several, or threads: rates and waiting times of short connections at a full gate, for docs/scaling.md.
// Run it: npm run build && node bench/scaling.js [--write-docs] [rounds]

import { spawn } from 'node:child_process'
import cluster from 'node:cluster'
import { once } from 'node:events'
import { connect } from 'node:net'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { listen, onFileDescriptor, onPort, Server } from '../dist/src/index.js'
import { foreignLoad } from './processes.js'
import { figure, machine, median, table, writeDocs } from './report.js'

const HOST = '127.0.0.1'
const INHERITED = 4
const CLIENTS = 64
const SLICE = 2_000
const HOLD = 1_500

/**
 * @typedef {object} Setup
 * @property {string} name
 * @property {number} processes
 * @property {'own' | 'inherit' | 'threads' | 'cluster' | 'reusePort'} listens
 * @property {number} [threads] of each process
 */

/** @type {Setup[]} */
const setups = [
  { name: 'one process', processes: 1, listens: 'own' },
  { name: 'prefork, two processes', processes: 2, listens: 'inherit' },
  { name: 'one process, two threads', processes: 1, threads: 2, listens: 'threads' },
  { name: 'cluster, two workers', processes: 2, listens: 'cluster' },
  { name: '`reusePort`, two processes', processes: 2, listens: 'reusePort' }
]

/**
 * @typedef {object} Experiment
 * @property {string} title
 * @property {number} slots in all processes together
 * @property {number} work microseconds of CPU time for each client
 * @property {boolean} [isHeld] whether one client keeps a slot for most of the time
 */

/** @type {Experiment[]} */
const experiments = [
  { title: 'A byte and its echo, 256 slots: the gate never shuts', slots: 256, work: 0 },
  { title: 'A byte and its echo, 16 slots', slots: 16, work: 0 },
  { title: '1 ms of CPU time for each client, 16 slots', slots: 16, work: 1_000 },
  { title: `Two slots, and one client that keeps its slot for ${HOLD / 1000} s of ${SLICE / 1000}`, slots: 2, work: 0, isHeld: true }
]

const { values, positionals } = parseArgs({ allowPositionals: true, options: { 'write-docs': { type: 'boolean', default: false } } })

if (!isMainThread) await serve(workerData)
else if (process.env.SCALING_JOB === undefined) {
  const result = await measure(Number(positionals[0] ?? 3))
  if (values['write-docs']) writeDocs('scaling.md', 'scaling', result)
} else await serve(JSON.parse(process.env.SCALING_JOB))

// A server process -------------------------------------------------------------------------------------

/** @param {{ index: number, listens: Setup['listens'], port: number, slots: number, work: number, threads?: number, fd?: number }} job */
async function serve(job) {
  if (job.listens === 'threads' && isMainThread) return await startThreads(job)
  const { index, listens, port, slots, work, fd } = job
  const options = { maxConnections: slots, onHandlerError: 'ignore' }
  const own = listens === 'inherit' ? onFileDescriptor(INHERITED) : onPort(port, { host: HOST, reusePort: listens === 'reusePort' })
  const where = fd === undefined ? own : onFileDescriptor(fd, { duplicate: true })
  const server = await Server.create(where, options, async ({ reader, writer }) => {
    const request = await reader.read()
    if (work > 0) burn(work)
    writer.write(new Uint8Array([index]))
    if (request?.[0] === 0x68) await reader.ended
  })
  if (parentPort !== null) {
    parentPort.postMessage('ready')
    return
  }
  process.send({ port: server.address.port })
  await once(process, 'disconnect')
  process.exit()
}

/** @param {Parameters<typeof serve>[0]} job */
async function startThreads(job) {
  const { threads = 1, slots } = job
  const server = await listen(onPort(0, { host: HOST }))
  for (let index = 0; index < threads; index++) {
    const data = { ...job, index, slots: slots / threads, fd: server.listeningSocket.fd }
    await once(new Worker(fileURLToPath(import.meta.url), { workerData: data }), 'message')
  }
  process.send({ port: server.address.port })
  await once(process, 'disconnect')
  process.exit()
}

/** @param {number} microseconds */
function burn(microseconds) {
  const begin = process.cpuUsage()
  let used = begin
  do used = process.cpuUsage(begin)
  while (used.user + used.system < microseconds)
}

// The parent, which is the clients too -----------------------------------------------------------------

/** @param {number} rounds */
async function measure(rounds) {
  const hasReusePort = await canReusePort()
  if (!hasReusePort) console.error('Left out, since it takes Linux and Node.js 22.12: reusePort')
  const able = setups.filter(({ listens }) => hasReusePort || listens !== 'reusePort')
  const noise = await foreignLoad()
  const parts = []
  for (const experiment of experiments) {
    const results = able.map(() => [])
    for (let round = 0; round < rounds; round++) {
      for (const [i, setup] of able.entries()) results[i].push(await run(setup, experiment))
    }
    const rows = able.map(({ name }, i) => {
      const middle = (pick) => median(results[i].map(pick))
      return [
        name,
        figure(middle(({ rate }) => rate)),
        ...['half', 'most', 'longest'].map((part) => `${middle((result) => result[part]).toFixed(1)} ms`),
        `${Math.round(middle(({ share }) => share) * 100)} %`
      ]
    })
    parts.push(`${experiment.title}:`, table(['', 'connections/s', 'wait, median', 'p99', 'longest', "busiest one's share"], rows))
    console.log(`${parts.slice(-2).join('\n\n')}\n`)
  }
  parts.push(`${machine()}; Node.js ${process.versions.node}; ${CLIENTS} clients at a time. ${noise}`.trim())
  console.log(parts.at(-1))
  return parts.join('\n\n')
}

/**
 * @param {Setup} setup
 * @param {Experiment} experiment
 */
async function run(setup, { slots, work, isHeld = false }) {
  const parent = setup.listens === 'inherit' ? await listen(onPort(0, { host: HOST })) : undefined
  const children = []
  try {
    let port = parent?.listeningOn ?? 0
    for (let index = 0; index < setup.processes; index++) {
      const child = start(
        { index, listens: setup.listens, port, slots: slots / setup.processes, work, threads: setup.threads },
        parent?.listeningSocket.fd
      )
      children.push(child)
      const bound = await portOf(child)
      // All workers of a cluster that ask for any port are given the same one.
      if (setup.listens !== 'cluster' || index === setup.processes - 1) port = bound
    }
    await load(port, 300)
    if (!isHeld) return await load(port, SLICE)
    const holder = connect({ port, host: HOST })
    holder.write('h')
    await once(holder, 'data')
    setTimeout(() => holder.destroy(), HOLD)
    return await load(port, SLICE)
  } finally {
    const exits = children.map((child) => (child.exitCode === null ? once(child, 'exit') : undefined))
    for (const child of children) if (child.connected) child.disconnect()
    await Promise.all(exits)
    await parent?.close()
  }
}

/**
 * @param {Parameters<typeof serve>[0]} job
 * @param {number | undefined} fd a listening descriptor
 */
function start(job, fd) {
  const env = { SCALING_JOB: JSON.stringify(job), NODE_NO_WARNINGS: '1' }
  if (job.listens === 'cluster') return cluster.fork(env).process
  return spawn(process.execPath, [fileURLToPath(import.meta.url)], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc', ...(fd === undefined ? [] : [fd])]
  })
}

/** @param {import('node:child_process').ChildProcess} child */
function portOf(child) {
  return new Promise((resolve, reject) => {
    child.on('message', (message) => {
      if (typeof message.port === 'number') resolve(message.port)
    })
    child.once('exit', () => reject(new Error('A server process did not start')))
  })
}

async function canReusePort() {
  try {
    const server = await listen(onPort(0, { host: HOST, reusePort: true }))
    await server.close()
    return true
  } catch {
    return false
  }
}

/**
 * Clients that come again and again for so long. The wait is from the call of connect to the answer.
 *
 * @param {number} port
 * @param {number} milliseconds
 */
async function load(port, milliseconds) {
  const begin = performance.now()
  const waits = []
  const served = []
  const client = async () => {
    while (performance.now() - begin < milliseconds) {
      const start = performance.now()
      const socket = connect({ port, host: HOST })
      socket.write('a')
      const [[index]] = await once(socket, 'data')
      waits.push(performance.now() - start)
      served[index] = (served[index] ?? 0) + 1
      socket.destroy()
      await once(socket, 'close')
    }
  }
  await Promise.all(Array.from({ length: CLIENTS }, client))
  const seconds = (performance.now() - begin) / 1000
  const sorted = waits.toSorted((a, b) => a - b)
  return {
    rate: waits.length / seconds,
    half: sorted[sorted.length >> 1],
    most: sorted[Math.floor(sorted.length * 0.99)],
    longest: sorted.at(-1),
    share: Math.max(...served.filter((count) => count !== undefined)) / waits.length
  }
}
