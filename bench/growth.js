// What an operation costs as the work grows: `npm run bench:growth -- [--quick] [--node 24] [--write-docs]`.

import { execFileSync, spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { nodes } from './nodes.js'
import { here, peers } from './peers.js'
import { plot } from './plot.js'
import { foreignLoad, Generator, ServerProcess } from './processes.js'
import { figure, machine, median, table, writeDocs } from './report.js'

const { values } = parseArgs({
  options: { node: { type: 'string' }, quick: { type: 'boolean', default: false }, 'write-docs': { type: 'boolean', default: false } }
})
const RUNS = values.quick ? 1 : 3
const [{ line, program }] = nodes(values.node)
const descriptors = Number(spawnSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' }).stdout) || Number.POSITIVE_INFINITY

/**
 * @typedef {object} Growth
 * @property {string} title
 * @property {string} unit of what an operation costs
 * @property {number[]} sizes
 * @property {(size: number) => Promise<number> | number} measure
 */

/** @type {Growth[]} */
const growths = [
  {
    title: 'An echo of 64 bytes, by connections that are open',
    unit: 'µs',
    // Of its descriptors a server leaves a tenth to the program; and each client needs a port of its own.
    sizes: [10, 100, 1_000, 10_000, 50_000].map((size) => Math.min(size, 0.9 * descriptors - 100, 25_000)),
    measure: echoBeside
  },
  { title: 'A byte read by lines(), by the length of the line', unit: 'ns', sizes: powers(10, 10_000_000), measure: inCase('lines') },
  { title: 'A write of 16 bytes, by how many wait', unit: 'µs', sizes: powers(1, 100_000), measure: inCase('writes') },
  {
    title: 'A short connection, by slots that are taken',
    unit: 'µs',
    // Both ends are in one process.
    sizes: powers(1, 10_000).map((size) => Math.min(size, Math.floor(descriptors / 2) - 500)),
    measure: inCase('slots')
  }
]

const noise = await foreignLoad()
/** @type {{ title: string, unit: string, points: { size: number, cost: number }[] }[]} */
const lines = []
for (const { title, unit, sizes, measure } of growths) {
  const points = []
  for (const size of new Set(sizes)) {
    const costs = []
    for (let i = 0; i < RUNS; i++) costs.push(await measure(size))
    points.push({ size, cost: median(costs) })
    process.stderr.write(`${title}: ${size}: ${figure(points.at(-1)?.cost)} ${unit}\n`)
  }
  lines.push({ title, unit, points })
}

const sizes = [...new Set(lines.flatMap(({ points }) => points.map(({ size }) => size)))].sort((a, b) => a - b)
const rows = lines.map(({ title, unit, points }) => [
  `${title}, ${unit}`,
  ...sizes.map((size) => {
    const point = points.find((one) => one.size === size)
    return point === undefined ? '' : figure(point.cost)
  })
])
const where = `${machine()}; Node.js ${line}; ${new Date().toISOString().slice(0, 10)}`
const result = `${table(['CPU time', ...sizes.map((size) => size.toLocaleString('en-US'))], rows)}\n\n${where}. ${noise}`.trim()
console.log(result)
const file = values.quick ? 'results/growth.svg' : 'growth.svg'
writeFileSync(here(file), plot(lines, where))
console.log(`\nPlot: bench/${file}`)
if (values['write-docs']) writeDocs('performance.md', 'growth', result)

/**
 * @param {number} from
 * @param {number} to
 */
function powers(from, to) {
  const all = []
  for (let size = from; size <= to; size *= 10) all.push(size)
  return all
}

/** @param {string} name of bench/growth-case.js */
function inCase(name) {
  /** @param {number} size */
  return (size) => {
    const output = execFileSync(program, ['--no-warnings', here('growth-case.js'), name, String(size)], { encoding: 'utf8' })
    return JSON.parse(output).result
  }
}

/**
 * The server's CPU time for an echo on one of some connections, while others are open and silent.
 *
 * @param {number} open
 */
async function echoBeside(open) {
  const active = Math.min(50, open)
  const { command } = peers.find(({ name }) => name === 'it-tcp') ?? peers[0]
  const server = new ServerProcess([program, ...command.slice(1), 'echo', '0'])
  const idle = new Generator()
  const busy = new Generator()
  try {
    await server.start()
    const { port } = server
    if (open > active) await idle.ask('open', { load: 'echo', size: 1, port, connections: open - active })
    await busy.ask('open', { load: 'echo', size: 64, port, connections: active })
    await busy.ask('run', { milliseconds: 1_000 })
    const before = await server.usage()
    const { amount } = await busy.ask('run', { milliseconds: 1_000 })
    const after = await server.usage()
    return ((after.cpu - before.cpu) / amount) * 1e6
  } finally {
    idle.stop()
    busy.stop()
    await server.stop()
  }
}
