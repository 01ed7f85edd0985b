// Compares TLS of this library with node:tls and 'data' handlers: CPU time of the server for the same work, in turns. Run: npm run bench:tls
//
// Both servers are up at once and take turns in short bursts, so that whatever else the machine does meets both alike; what is told is the
// median of the ratios of neighbouring bursts. The client is node:tls in this process, the same for both, on a core of its own.
//
//   --rounds N     bursts of each pair of servers (6)
//   --pairs N      pairs of servers, one after the other (3): two processes with the same program differ by some percent
//   --only NAMES   parts of the names below, comma separated
//   --idle N       connections for the memory of an idle one (300)
//   --warm-up N    bursts before those that count (4, and 10 of handshakes): what a server that has just begun costs, and one that goes on for days
//   --json         a line of JSON for each row, for programs
//
// All rows take three minutes on one Node.js with the defaults. Both servers speak what Node.js does by default: the same version and
// cipher, and as many tickets.

import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import tls from 'node:tls'
import { parseArgs } from 'node:util'
import { here } from './peers.js'
import { foreignLoad, moveToCoreOfLoad, ServerProcess } from './processes.js'

const text = /** @type {const} */ ({ type: 'string' })
const { values } = parseArgs({ options: { rounds: text, pairs: text, 'warm-up': text, only: text, idle: text, json: { type: 'boolean' } } })
const ROUNDS = Number(values.rounds ?? 6)
const PAIRS = Number(values.pairs ?? 3)
const IDLE = Number(values.idle ?? 300)
// A server that goes on for days is asked about, and not its first hundred clients: code that is run once a connection is slow to be optimised.
const WARM_UP = Number(values['warm-up'] ?? 4)
const WARM_UP_CONNECTIONS = Number(values['warm-up'] ?? 10)
const MIB = 2 ** 20
const BULK = 32 * MIB
const HOST = '127.0.0.1'

const measures = [
  { name: 'echo 64 B, 1 connection', behaviour: 'tls-echo', per: 'round trip', run: (port) => echo(port, 1, 64, 2_000) },
  { name: 'echo 64 B, 16 connections', behaviour: 'tls-echo', per: 'round trip', run: (port) => echo(port, 16, 64, 4_800) },
  { name: 'echo 16 KiB, 4 connections', behaviour: 'tls-echo', per: 'round trip', run: (port) => echo(port, 4, 16_384, 1_600) },
  { name: 'echo 16 KiB, writer(reader)', behaviour: 'tls-pipe', per: 'round trip', run: (port) => echo(port, 4, 16_384, 1_600) },
  { name: 'receive in bulk', behaviour: 'tls-receive', per: 'MiB', run: receive },
  { name: 'send in bulk', behaviour: 'tls-send', per: 'MiB', run: send },
  {
    name: 'full handshake, one byte, close',
    behaviour: 'tls-echo',
    per: 'connection',
    warmUp: WARM_UP_CONNECTIONS,
    run: (port) => handshakes(port, 100)
  },
  { name: 'resumed handshake, one byte, close', behaviour: 'tls-echo', per: 'connection', warmUp: WARM_UP_CONNECTIONS, run: resumed }
]
const peers = ['net.js', 'it-tcp.js']

const identity = join(mkdtempSync(join(tmpdir(), 'it-tcp-bench-')), 'identity')
process.on('exit', () => rmSync(join(identity, '..'), { recursive: true, force: true }))
const made = spawnSync('openssl', [
  ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', '/CN=localhost'],
  ...['-keyout', `${identity}.key`, '-out', `${identity}.crt`]
])
if (made.status !== 0) throw new Error('openssl is needed')

moveToCoreOfLoad()
const noise = await foreignLoad()
if (noise !== '') console.error(noise)
if (!values.json)
  console.log(
    `Node.js ${process.versions.node}, OpenSSL ${process.versions.openssl}, ${PAIRS} pairs of servers, ${ROUNDS} bursts of each, in turns`
  )
const only = values.only?.split(',') ?? ['']
for (const measure of measures) {
  if (only.some((part) => measure.name.includes(part))) await compare(measure)
}
if (only.some((part) => 'idle'.includes(part))) await idle()
// Tickets may still be on their way.
process.exit()

async function compare({ name, behaviour, per, run, warmUp = WARM_UP }) {
  const times = peers.map(() => [])
  for (let pair = 0; pair < PAIRS; pair++) {
    const servers = []
    for (const file of peers) servers.push(await serve(file, behaviour))
    for (let round = -warmUp; round < ROUNDS; round++) {
      for (let turn = 0; turn < peers.length; turn++) {
        const index = (turn + round + warmUp) % peers.length
        const before = await servers[index].usage()
        const amount = await run(servers[index].port)
        const { cpu } = await servers[index].usage()
        if (round >= 0) times[index].push(((cpu - before.cpu) / amount) * 1e6)
      }
    }
    for (const server of servers) await server.stop()
  }
  const [base, ours] = times
  const ratios = base.map((time, round) => time / ours[round]).sort((one, other) => one - other)
  const [ratio, low, high] = [0.5, 0.25, 0.75].map((part) => quantile(ratios, part).toFixed(2))
  const [node, us] = times.map((all) => quantile(all, 0.5).toFixed(1))
  if (values.json) tell({ name, ratio, low, high, us, node, unit: `µs of CPU a ${per}` })
  else console.log(`${name}: ${ratio} of node:tls (quartiles ${low} to ${high}); ${us} µs of CPU a ${per}, node:tls ${node}`)
}

async function idle() {
  const told = []
  for (const file of peers) {
    const server = await serve(file, 'tls-echo', ['--expose-gc'])
    const sockets = []
    // The first ones bring what a process has once.
    for (let count = 0; count < 20; count++) sockets.push(await used(server.port))
    await server.collect()
    const { rss } = await server.usage()
    for (let count = 0; count < IDLE; count++) sockets.push(await used(server.port))
    await server.collect()
    told.push((((await server.usage()).rss - rss) / IDLE / 1024).toFixed(1))
    for (const socket of sockets) socket.destroy()
    await server.stop()
  }
  const [node, us] = told
  if (values.json) tell({ name: 'memory of an idle connection', ratio: (node / us).toFixed(2), us, node, unit: 'KiB' })
  else console.log(`memory of an idle connection: ${us} KiB, node:tls ${node} KiB`)
}

function tell(row) {
  console.log(JSON.stringify({ version: process.versions.node, rounds: PAIRS * ROUNDS, ...row }))
}

async function serve(file, behaviour, flags = []) {
  const command = [process.execPath, ...flags, here(`servers/${file}`), behaviour, String(BULK)]
  const server = new ServerProcess(command, { BENCH_IDENTITY: identity })
  await server.start()
  return server
}

/** A connection, when its handshake is done. */
async function dial(port, options = {}) {
  const socket = tls.connect({ port, host: HOST, rejectUnauthorized: false, ...options })
  await once(socket, 'secureConnect')
  socket.setNoDelay(true)
  return socket
}

/** The same, over which a byte has gone and come back. */
async function used(port) {
  const socket = await dial(port)
  socket.write('a')
  await once(socket, 'data')
  return socket
}

async function echo(port, connections, size, amount) {
  const message = Buffer.alloc(size, 'a')
  const each = async () => {
    const socket = await dial(port)
    let [left, got] = [amount / connections, 0]
    await new Promise((resolve) => {
      socket.on('data', ({ length }) => {
        got += length
        if (got < size) return
        got -= size
        if (--left === 0) resolve()
        else socket.write(message)
      })
      socket.write(message)
    })
    socket.destroy()
  }
  await Promise.all(Array.from({ length: connections }, each))
  return amount
}

async function receive(port) {
  const socket = await dial(port)
  const chunk = Buffer.alloc(65_536)
  const done = once(socket, 'data')
  for (let left = BULK; left > 0; left -= chunk.length) if (!socket.write(chunk)) await once(socket, 'drain')
  await done
  socket.destroy()
  return BULK / MIB
}

async function send(port) {
  const socket = await dial(port)
  let left = BULK
  await new Promise((resolve) => {
    socket.on('data', ({ length }) => {
      left -= length
      if (left === 0) resolve()
    })
  })
  socket.destroy()
  return BULK / MIB
}

async function handshakes(port, amount, session) {
  const each = async () => {
    for (let count = 0; count < amount / 4; count++) await visit(port, session)
  }
  await Promise.all([each(), each(), each(), each()])
  return amount
}

async function resumed(port) {
  const session = await new Promise((resolve) => void visit(port, undefined, resolve))
  return await handshakes(port, 200, session)
}

async function visit(port, session, onSession) {
  const socket = await dial(port, { session })
  if (session !== undefined && !socket.isSessionReused()) throw new Error('The session was not taken up')
  if (onSession !== undefined) socket.once('session', onSession)
  socket.write('a')
  await once(socket, 'data')
  socket.end()
  await once(socket, 'close')
}

function quantile(values, part) {
  const sorted = [...values].sort((one, other) => one - other)
  return sorted[Math.floor((sorted.length - 1) * part)]
}
