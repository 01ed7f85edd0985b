// Compares this library with node:net, other libraries and other runtimes: `npm run bench`, `npm run bench -- --help`.

import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { chart } from './chart.js'
import { nodes } from './nodes.js'
import { BASELINE, here, measures, peers } from './peers.js'
import { foreignLoad, Generator, ServerProcess } from './processes.js'
import { setting, summarize, summaryTables, tables, writeDocs } from './report.js'

const HELP = `npm run bench -- [options]

  --node LINES     lines of Node.js, the one for the chart first (24,26 where bench/node_modules has them, otherwise the one that runs this)
  --quick          ends within two minutes for each; the spread tells how much to trust it
  --only NAMES     measures and peers, comma separated, for instance echo64,accept,it-tcp,Bun
  --processes N    fresh processes of every server (3)
  --rounds N       slices of every process (4)
  --plain-malloc   lets glibc give memory back while servers receive in bulk
  --write-docs     puts the result into docs/performance.md too

Measures: ${measures.map(({ name }) => name).join(', ')}
Peers:    ${peers.map(({ name }) => name).join(', ')}
`

const { values: options } = parseArgs({
  options: {
    node: { type: 'string' },
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    processes: { type: 'string' },
    rounds: { type: 'string' },
    'plain-malloc': { type: 'boolean', default: false },
    'write-docs': { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false }
  }
})

const { quick } = options
const PROCESSES = Number(options.processes ?? (quick ? 1 : 3))
const ROUNDS = Number(options.rounds ?? (quick ? 2 : 4))
const SLICE = quick ? 150 : 500
const WARM_UP = quick ? 400 : 1000
// Of one transfer; a slice has as many as there is time for.
const BYTES = 64 * 2 ** 20
const CONNECTIONS = 50
const IDLE_CONNECTIONS = quick ? 1000 : 5000
// Peers measured between two slices of the baseline. The fewer, the less the machine can change meanwhile.
const BRACKET = quick ? 6 : 2
// Memory that a process has given back to the system is dear to get again. How often glibc does that differs from process to process by
// chance, and would hide what differs between readers.
const STEADY_MALLOC = { MALLOC_TRIM_THRESHOLD_: String(2 ** 28), MALLOC_TOP_PAD_: String(2 ** 26) }

/** @typedef {import('./peers.js').Measure} Measure */
/** @typedef {import('./peers.js').Peer} Peer */
/** @typedef {import('./report.js').Sample} Sample */

/** @typedef {{ version: string, where: string, noise: string, samples: Sample[] }} Result what was measured on one Node.js */

// Set for the processes that measure, each on its own Node.js: where to put what was seen.
const RESULT = process.env.BENCH_RESULT

if (options.help) console.log(HELP)
else if (RESULT !== undefined) await measure(RESULT)
else main()

/** Measures on one Node.js after the other. */
function main() {
  choices()
  mkdirSync(here('results'), { recursive: true })
  const results = nodes(options.node).map(({ line, program }) => {
    const file = here(`results/node-${line}.json`)
    const env = { ...process.env, BENCH_RESULT: file, BENCH_IDENTITY: identity() }
    const { status } = spawnSync(program, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], { stdio: 'inherit', env })
    if (status !== 0) throw new Error(`The benchmark failed on Node.js ${line}`)
    return /** @type {Result} */ (JSON.parse(readFileSync(file, 'utf8')))
  })
  const { wanted, compared } = choices()
  const summaries = results.map(({ samples }) => summarize(samples, wanted, compared))
  const isWhole = !options.quick && options.only === undefined
  const chartFile = isWhole ? 'chart.svg' : 'results/chart.svg'
  writeFileSync(here(chartFile), chart(summaries[0], results[0].where))
  console.log(`\nChart: bench/${chartFile}`)
  if (!options['write-docs']) return
  const texts = results.map(({ version, where, noise }, i) =>
    `### Node.js ${version}\n\n${summaryTables(summaries[i])}\n\n${where}. ${noise}`.trim()
  )
  writeDocs('performance.md', 'bench', texts.join('\n\n'))
}

/** What `--only` asks for. */
function choices() {
  const only = options.only?.split(',') ?? []
  const unknown = only.filter((name) => ![...measures, ...peers].some((known) => known.name === name))
  if (unknown.length > 0) throw new Error(`Unknown in --only: ${unknown.join(', ')}\n\n${HELP}`)
  const wanted = chosen(measures, only).filter(({ isSecure }) => !isSecure || process.env.BENCH_IDENTITY !== '')
  const compared = chosen(peers, only)
  if (!compared.some(({ name }) => name === BASELINE)) compared.unshift(...peers.filter(({ name }) => name === BASELINE))
  return { wanted, compared }
}

/** A key and a self-signed certificate for servers that speak TLS: where they are, without the endings; empty where there is no openssl. */
function identity() {
  const path = here('results/identity')
  const args = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost'.split(' ')
  const { status } = spawnSync('openssl', [...args, '-keyout', `${path}.key`, '-out', `${path}.crt`], { stdio: 'ignore' })
  if (status !== 0) console.error('Left out, since openssl is not installed: TLS')
  process.env.BENCH_IDENTITY = status === 0 ? path : ''
  return process.env.BENCH_IDENTITY
}

/**
 * Measures on the Node.js that runs this.
 *
 * @param {string} file for the result
 */
async function measure(file) {
  const { wanted, compared } = choices()
  const noise = await foreignLoad()
  if (noise !== '') console.error(noise)
  /** @type {Sample[]} */
  const samples = []
  const begin = Date.now()
  for (let i = 0; i < PROCESSES; i++) {
    for (const measure of wanted) {
      const able = compared.filter(({ name, lacks = [] }) =>
        measure.isForTwo ? name === BASELINE || name === 'it-tcp' : !lacks.includes(measure.behaviour)
      )
      samples.push(...(measure.load === 'idle' ? await idle(measure, able) : await interleaved(measure, able)))
      process.stderr.write(`${i + 1}/${PROCESSES} ${measure.name}, ${Math.round((Date.now() - begin) / 1000)} s\n`)
    }
  }

  const summary = summarize(samples, wanted, compared)
  const where = setting(compared)
  console.log(`${tables(summary)}\n\n${where}`)
  writeFileSync(file, JSON.stringify({ version: process.versions.node, where, noise, samples }, undefined, 1))
}

/**
 * @template {{ name: string }} T
 * @param {T[]} from
 * @param {string[]} names
 */
function chosen(from, names) {
  const some = from.filter(({ name }) => names.includes(name))
  return some.length > 0 ? some : [...from]
}

/**
 * One process of each server, a slice of one after a slice of another, in brackets of the baseline.
 *
 * @param {Measure} measure
 * @param {Peer[]} able
 */
async function interleaved(measure, able) {
  const env = measure.load === 'receive' && !options['plain-malloc'] ? STEADY_MALLOC : {}
  const generator = new Generator()
  /** @type {Map<string, ServerProcess>} */
  const servers = new Map()
  /** @type {Sample[]} */
  const samples = []
  try {
    for (const peer of able) {
      const server = new ServerProcess([...peer.command, measure.behaviour, String(BYTES)], env)
      try {
        await server.start()
        // Just-in-time compilers have to be done first.
        await slice(measure, server, generator, WARM_UP)
        servers.set(peer.name, server)
      } catch (error) {
        await server.stop()
        if (peer.name === BASELINE) throw error
        console.error(`${measure.name}, ${peer.name}: ${error.message}`)
      }
    }
    const others = [...servers.keys()].filter((name) => name !== BASELINE)
    const take = async (name) => ({ measure: measure.name, peer: name, ...(await slice(measure, servers.get(name), generator, SLICE)) })
    let before = await take(BASELINE)
    samples.push(before)
    for (let round = 0; round < ROUNDS; round++) {
      // Each time in another order, so that nobody always runs beside the same neighbour.
      const order = others.map((_, i) => others[(i + round) % others.length])
      for (let i = 0; i < order.length; i += BRACKET) {
        const between = []
        for (const name of order.slice(i, i + BRACKET)) between.push(await take(name))
        const after = await take(BASELINE)
        for (const sample of between) {
          samples.push({
            ...sample,
            baseRate: (before.rate + after.rate) / 2,
            baseCost: (before.cost + after.cost) / 2,
            drift: Math.max(before.cost / after.cost, after.cost / before.cost) - 1
          })
        }
        samples.push(after)
        before = after
      }
    }
  } finally {
    generator.stop()
    await Promise.all([...servers.values()].map((server) => server.stop()))
  }
  return samples
}

/**
 * @param {Measure} measure
 * @param {ServerProcess} server
 * @param {Generator} generator
 * @param {number} milliseconds
 */
async function slice({ load, size, isSecure }, server, generator, milliseconds) {
  const job = { load, size, isSecure, milliseconds, port: server.port, bytes: BYTES, connections: CONNECTIONS }
  const { port } = await generator.ask('open', job)
  const before = await server.usage()
  const dialled = { port, connections: CONNECTIONS, milliseconds }
  const { amount, seconds, cpu } = load === 'dial' ? await server.dial(dialled) : await generator.ask('run', job)
  const after = await server.usage()
  await generator.ask('close')
  const isBulk = load === 'receive' || load === 'send'
  const done = isBulk ? amount / 1e9 : amount
  const used = after.cpu - before.cpu
  return {
    rate: done / seconds,
    // Microseconds an operation, or seconds a gigabyte.
    cost: (used / done) * (isBulk ? 1 : 1e6),
    system: (after.system - before.system) / used,
    serverBusy: used / seconds,
    generatorBusy: cpu === undefined ? undefined : cpu / seconds
  }
}

/**
 * One server after another: each is given connections that have been served once, and then say nothing.
 *
 * @param {Measure} measure
 * @param {Peer[]} able
 */
async function idle(measure, able) {
  /** @type {Sample[]} */
  const samples = []
  for (const peer of able) {
    const generator = new Generator()
    const server = new ServerProcess([...peer.command, measure.behaviour, '0'])
    try {
      await server.start()
      const job = { load: 'echo', size: measure.size, isSecure: measure.isSecure, port: server.port }
      await generator.ask('open', { ...job, connections: CONNECTIONS })
      await generator.ask('close')
      const before = await server.usage()
      await generator.ask('open', { ...job, connections: IDLE_CONNECTIONS })
      const after = await server.usage()
      await generator.ask('close')
      samples.push({ measure: measure.name, peer: peer.name, rate: (after.rss - before.rss) / 1024 / IDLE_CONNECTIONS })
    } catch (error) {
      console.error(`${measure.name}, ${peer.name}: ${error.message}`)
    } finally {
      generator.stop()
      await server.stop()
    }
  }
  const base = samples.filter(({ peer }) => peer === BASELINE)[0]
  if (base === undefined) return []
  return samples.map((sample) => ({ ...sample, baseRate: base.rate }))
}
