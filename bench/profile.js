// What a small echo costs, and where it goes, for docs/performance.md: kernel, C++, JavaScript. Takes Linux and perf(1).
// Run it: npm run build && node bench/profile.js [--write-docs] [seconds]

import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { here, peers } from './peers.js'
import { foreignLoad, Generator, ServerProcess } from './processes.js'
import { machine, median, table, writeDocs } from './report.js'

const { values, positionals } = parseArgs({ allowPositionals: true, options: { 'write-docs': { type: 'boolean', default: false } } })
const SECONDS = Number(positionals[0] ?? 5)
const NAMES = ['node:net', 'it-tcp', 'for await']
const ROUNDS = 3

/** What a sample is counted as: the first that fits. `part` is the program or library, `symbol` the function. */
const KINDS = [
  { name: 'Kernel: receive, send, wait', fits: ({ mode }) => mode === 'k' },
  {
    name: 'Garbage collector',
    fits: ({ symbol }) => /Scaveng|MarkCompact|Marking|Sweep|Evacuat|GarbageCollect|Heap::|GlobalHandles|ArrayBufferSweeper/.test(symbol)
  },
  {
    name: 'malloc and free',
    fits: ({ symbol }) =>
      /malloc|calloc|realloc|cfree|^_?free|_int_free|sysmalloc|unlink_chunk|operator new|operator delete|arena_/.test(symbol)
  },
  { name: 'JavaScript: this library', fits: ({ symbol }) => symbol.includes('/dist/src/') },
  { name: 'JavaScript: the handler', fits: ({ symbol }) => symbol.includes('/bench/') },
  { name: 'JavaScript: Node.js', fits: ({ symbol }) => symbol.includes('node:') },
  { name: 'JavaScript: promises, built-ins', fits: ({ symbol, part }) => symbol.startsWith('Builtins_') || /\.map$|\[JIT\]/.test(part) },
  { name: 'C++: V8', fits: ({ symbol }) => symbol.includes('v8::') },
  { name: 'C++: Node.js, libuv, libc', fits: () => true }
]

const noise = await foreignLoad()
const results = NAMES.map(() => [])
for (let round = 0; round < ROUNDS; round++) {
  for (const [i, name] of NAMES.entries()) results[i].push(await profile(name))
}
const rows = KINDS.map(({ name }, kind) => [name, ...results.map((runs) => median(runs.map(({ costs }) => costs[kind])).toFixed(2))])
rows.push(['All, in µs of CPU time', ...results.map((runs) => median(runs.map(({ cost }) => cost)).toFixed(2))])
const result = `${table(['', ...NAMES], rows)}\n\n${machine()}; Node.js ${process.versions.node}. ${noise}`.trim()
console.log(result)
if (values['write-docs']) writeDocs('performance.md', 'profile', result)

/** @param {string} name */
async function profile(name) {
  mkdirSync(here('results'), { recursive: true })
  const { command } = peers.find((peer) => peer.name === name) ?? peers[0]
  const [node, ...args] = command
  const server = new ServerProcess([node, '--perf-basic-prof', ...args, 'echo', '0'])
  const generator = new Generator()
  try {
    await server.start()
    const { pid } = await server.usage()
    const job = { load: 'echo', size: 64, port: server.port, connections: 50 }
    await generator.ask('open', job)
    await generator.ask('run', { milliseconds: 1_500 })
    const file = here(`results/${name.replaceAll(/\W/g, '-')}.perf`)
    const perf = spawn('perf', ['record', '-q', '-e', 'cpu-clock', '-F', '1999', '-o', file, '-p', String(pid)], { stdio: 'inherit' })
    await once(perf, 'spawn')
    const before = await server.usage()
    const { amount } = await generator.ask('run', { milliseconds: SECONDS * 1000 })
    const after = await server.usage()
    const exit = once(perf, 'exit')
    perf.kill('SIGINT')
    await exit
    await generator.ask('close')
    const cost = ((after.cpu - before.cpu) / amount) * 1e6
    return { cost, costs: shares(file).map((share) => share * cost) }
  } finally {
    generator.stop()
    await server.stop()
  }
}

/** @param {string} file of perf */
function shares(file) {
  const report = spawnSync('perf', ['report', '-i', file, '--stdio', '-F', 'overhead,dso,symbol', '-t', '|', '--percent-limit', '0'], {
    encoding: 'utf8',
    maxBuffer: 2 ** 28
  })
  const sums = KINDS.map(() => 0)
  for (const line of report.stdout.split('\n')) {
    const [, percent, part, mode, symbol] = /^\s*([\d.]+)%\s*\|(.*?)\|\[(.)\]\s*(.*)$/.exec(line) ?? []
    if (percent === undefined) continue
    sums[KINDS.findIndex(({ fits }) => fits({ part: part.trim(), mode, symbol }))] += Number(percent)
  }
  const all = sums.reduce((sum, value) => sum + value, 0)
  return sums.map((sum) => sum / all)
}
