// node run.js [NAME …] [--reduced] [--kind tcp|unix] [--gate kernel|userland] [--write-docs]: runs scenarios at full scale, and prints what was measured.

import { execFileSync } from 'node:child_process'
import { parseArgs } from 'node:util'
import { writeSection } from './docs.ts'
import type { Kind, Report } from './lab.ts'
import { inMiB } from './meter.ts'
import { runScenario } from './runner.ts'
import { scenarios } from './scenarios.ts'

/** Ten thousand connections, and some more. */
const NEEDED_DESCRIPTORS = 12_000

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    reduced: { type: 'boolean', default: false },
    kind: { type: 'string' },
    gate: { type: 'string' },
    'write-docs': { type: 'boolean', default: false }
  }
})
const unknown = positionals.filter((name) => scenarios[name] === undefined)
if (unknown.length > 0) {
  console.error(`There is no ${unknown.join(', ')}: choose from ${Object.keys(scenarios).join(', ')}`)
  process.exit(2)
}

if (values['write-docs'] && (positionals.length > 0 || values.reduced || values.kind !== undefined || values.gate !== undefined)) {
  console.error('Only a run of everything is worth writing down: give --write-docs alone')
  process.exit(2)
}

const limit = process.platform === 'win32' ? NEEDED_DESCRIPTORS : Number(execFileSync('sh', ['-c', 'ulimit -n'], { encoding: 'utf8' }))
if (limit < NEEDED_DESCRIPTORS) console.error(`Only ${limit} descriptors are allowed: run \`ulimit -n ${NEEDED_DESCRIPTORS}\` first`)

const rows: string[] = []
let faults = 0
for (const [name, scenario] of Object.entries(scenarios)) {
  if (positionals.length > 0 && !positionals.includes(name)) continue
  console.log(`\n${name}: ${scenario.promise}`)
  for (const kind of ['tcp', 'unix'] as const) {
    if (values.kind !== undefined && values.kind !== kind) continue
    await run(name, kind)
  }
}
console.log(faults === 0 ? '\nEvery promise was kept.' : `\n${faults} promises were broken.`)
if (values['write-docs']) {
  const table = ['| scenario | over | resident before, at most, after | figures |', '| --- | --- | --- | --- |', ...rows].join('\n')
  writeSection('load', `${table}\n\nPromises broken: ${faults}.`)
}
process.exitCode = faults === 0 ? 0 : 1

async function run(name: string, kind: Kind): Promise<void> {
  const scenario = scenarios[name] as (typeof scenarios)[string]
  let report: Report
  try {
    const gate = values.gate as 'kernel' | 'userland' | undefined
    report = await runScenario(name, kind, values.reduced ? scenario.reduced : scenario.full, gate === undefined ? {} : { gate })
  } catch (error) {
    report = { figures: [], faults: [String(error)], seconds: 0 }
  }
  const { figures, memory, seconds } = report
  const resident = memory && [memory.before, memory.peak, memory.after].map((one) => inMiB(one.resident)).join(', ')
  console.log(`  ${kind}, ${seconds.toFixed(1)} s`)
  if (resident !== undefined) console.log(`    resident before, at most, after: ${resident}`)
  for (const [figure, value] of figures) console.log(`    ${figure}: ${value}`)
  for (const fault of report.faults) console.log(`    BROKEN: ${fault}`)
  faults += report.faults.length
  rows.push(`| ${name} | ${kind} | ${resident ?? ''} | ${figures.map(([figure, value]) => `${figure}: ${value}`).join('; ')} |`)
}
