// What `import 'it-tcp'` adds to the start of a bare Node.js, and listening after it, as published and one module for each source: medians of
// interleaved runs. Run: npm run package:import-time -- [RUNS] [NODE …]

import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { install, pack, ROOT } from './packing.js'

const [runs = '31', ...given] = process.argv.slice(2)
const RUNS = Number(runs)
const nodes = given.length > 0 ? given : [process.execPath]

const LISTEN = `
  const server = await Server.create(onPortChosenByOs({ host: '127.0.0.1' }), async () => {})
  await server.close()`
const PROGRAMS = {
  'bare Node.js': '',
  "import 'node:net'": "import 'node:net'",
  'node:net and node:tls': "import 'node:net'\nimport 'node:tls'",
  'it-tcp, a module each': "import './built/src/index.js'",
  'it-tcp, as published': "import 'it-tcp'",
  'node:net, listening': "import net from 'node:net'\nconst server = net.createServer().listen(0, '127.0.0.1', () => server.close())",
  'a module each, listening': `import { onPortChosenByOs, Server } from './built/src/index.js'${LISTEN}`,
  'as published, listening': `import { onPortChosenByOs, Server } from 'it-tcp'${LISTEN}`
}
// On exit, and without loading anything more. It has the time of all threads.
const TELL_CPU = '\nprocess.on("exit", () => { const { user, system } = process.cpuUsage(); process._rawDebug(user + system) })'

const directory = mkdtempSync(join(tmpdir(), 'it-tcp-import-'))
try {
  const { tarball } = await pack(directory)
  const project = await install(directory, 'project', tarball)
  // Beside the installed one, so that both find the same koffi.
  cpSync(join(ROOT, 'dist'), join(project, 'built'), { recursive: true, filter: (path) => !/[\\/]dist[\\/](?:test|examples)/.test(path) })
  writeFileSync(join(project, 'package.json'), '{ "type": "module" }')
  const programs = Object.entries(PROGRAMS).map(([name, text], index) => {
    writeFileSync(join(project, `${index}.js`), text + TELL_CPU)
    return { name, file: join(project, `${index}.js`) }
  })
  for (const node of nodes) measure(node, programs)
} finally {
  rmSync(directory, { recursive: true, force: true })
}

function measure(node, programs) {
  const times = programs.map(({ name }) => ({ name, wall: [], cpu: [] }))
  // The first round fills the caches of the file system and is not counted.
  for (let round = 0; round <= RUNS; round++) {
    for (const [index, { name, file }] of programs.entries()) {
      const start = performance.now()
      const { status, stderr } = spawnSync(node, ['--no-warnings', file], { stdio: ['ignore', 'inherit', 'pipe'], encoding: 'utf8' })
      const wall = performance.now() - start
      const cpu = Number(stderr) / 1000
      if (status !== 0 || Number.isNaN(cpu)) throw new Error(`${name} ended with ${status}: ${stderr}`)
      if (round > 0) {
        times[index].wall.push(wall)
        times[index].cpu.push(cpu)
      }
    }
  }
  const { stdout: version } = spawnSync(node, ['--version'], { encoding: 'utf8' })
  console.log(`Node.js ${version.trim()}, ${RUNS} interleaved runs of each, milliseconds: median (first quartile) and what it adds`)
  console.log(`${''.padEnd(26)}${'CPU'.padEnd(26)}wall`)
  for (const { name, wall, cpu } of times) console.log(`${name.padEnd(26)}${column(cpu, times[0].cpu)}${column(wall, times[0].wall)}`)
}

function column(values, bare) {
  const median = at(values, 0.5)
  const added = median - at(bare, 0.5)
  return `${median.toFixed(1).padStart(6)} (${at(values, 0.25).toFixed(1)}) ${added < 0 ? '' : '+'}${added.toFixed(1)}`.padEnd(26)
}

function at(values, part) {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor((sorted.length - 1) * part)]
}
