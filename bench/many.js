// Many idle connections: `npm run bench:many -- [connections]`: what each costs, how long accepting one more takes then, and how long a major
// garbage collection. A process may have only so many descriptors: connections are spread over as many processes as that takes.

import { spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'
import { nodes } from './nodes.js'
import { BASELINE, peers } from './peers.js'
import { foreignLoad, Generator, ServerProcess } from './processes.js'
import { figure, machine, median, table, writeDocs } from './report.js'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { node: { type: 'string' }, 'write-docs': { type: 'boolean', default: false } }
})
const CONNECTIONS = Number(positionals[0] ?? 100_000)
/** What a process has open besides. */
const SPARE_DESCRIPTORS = 500
const PROBES = 200

// Each process of servers and each of clients may have so many; of these a server leaves a tenth to the program.
const limit = Number(spawnSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' }).stdout) || Number.POSITIVE_INFINITY
// And from one address no more than there are ports for.
const PER_PROCESS = Math.min(0.9 * limit - SPARE_DESCRIPTORS, 20_000)

const noise = await foreignLoad()
const rows = []
for (const { line, program } of nodes(values.node)) {
  for (const { name, command } of peers.filter((peer) => peer.name === BASELINE || peer.name === 'it-tcp')) {
    rows.push([`${name}, Node.js ${line}`, ...(await hold([program, '--expose-gc', ...command.slice(1)]))])
    process.stderr.write(`${rows.at(-1).join(' ')}\n`)
  }
}
const count = CONNECTIONS.toLocaleString('en-US')
const head = [
  `${count} idle connections`,
  'processes',
  'KiB each',
  'accept and echo: first',
  'with all open',
  'garbage collection: first',
  'with all open'
]
const result = `${table(head, rows)}\n\n${machine()}; ${new Date().toISOString().slice(0, 10)}. ${noise}`.trim()
console.log(result)
if (values['write-docs']) writeDocs('performance.md', 'many', result)

/** @param {string[]} command */
async function hold(command) {
  /** @type {{ server: ServerProcess, generator: Generator }[]} */
  const pairs = []
  try {
    let open = 0
    let memory = 0
    /** @type {{ probe: number, collection: number } | undefined} */
    let first
    while (open < CONNECTIONS) {
      const pair = { server: new ServerProcess([...command, 'echo', '0']), generator: new Generator() }
      pairs.push(pair)
      await pair.server.start()
      first ??= await look(pair)
      const before = await pair.server.usage()
      const connections = Math.min(PER_PROCESS, CONNECTIONS - open)
      await pair.generator.ask('open', { load: 'echo', size: 1, port: pair.server.port, connections })
      const after = await pair.server.usage()
      memory += after.rss - before.rss
      open += connections
    }
    // The last process may have fewer.
    const seen = await look(pairs[0])
    const milliseconds = (value) => `${value.toFixed(value < 10 ? 2 : 0)} ms`
    return [
      String(pairs.length),
      figure(memory / open / 1024),
      milliseconds(first.probe),
      milliseconds(seen.probe),
      milliseconds(first.collection),
      milliseconds(seen.collection)
    ]
  } finally {
    for (const { generator } of pairs) generator.stop()
    await Promise.all(pairs.map(({ server }) => server.stop()))
  }
}

/**
 * How long a client has to wait, from its connect() to its byte; and how long a collection takes.
 *
 * @param {{ server: ServerProcess }} pair
 */
async function look({ server }) {
  const prober = new Generator()
  try {
    const { waits } = await prober.ask('probe', { port: server.port, count: PROBES })
    const collections = []
    for (let i = 0; i < 5; i++) collections.push(await server.collect())
    return { probe: median(waits), collection: median(collections) }
  } finally {
    prober.stop()
  }
}
