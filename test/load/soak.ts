// node soak.js [--minutes N] [--write-docs]: everything at once for a while: two servers that live through it all, and every scenario in turn. Ends with 0
// only if nothing was lost.

import { parseArgs } from 'node:util'
import { writeSection } from './docs.ts'
import type { Kind, Scenario } from './lab.ts'
import { inMiB } from './meter.ts'
import { Mixture, type Tally } from './mixture.ts'
import { runScenario } from './runner.ts'
import { scenarios } from './scenarios.ts'

const STATUS_EVERY = 1_000

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '3' }, 'write-docs': { type: 'boolean', default: false } } })
const minutes = Number(values.minutes)
if (!(minutes > 0)) {
  console.error(`Cannot soak as '--minutes' must be a positive number: received ${values.minutes}`)
  process.exit(2)
}

const isTerminal = process.stdout.isTTY === true
const end = performance.now() + minutes * 60_000
const faults: string[] = []
let turns = 0
let current = ''
let printed = 0

const mixtures = await Promise.all([Mixture.start('tcp', 'kernel'), Mixture.start('unix', 'kernel'), Mixture.start('tcp', 'userland')])
const status = setInterval(showStatus, STATUS_EVERY)
await Promise.all([takeTurns(), ...mixtures.map((mixture) => mixture.run(end - performance.now()))])
clearInterval(status)
for (const mixture of mixtures) faults.push(...(await mixture.end()))
summarize()
process.exitCode = faults.length === 0 ? 0 : 1

/** Every scenario beside the servers that live on, again and again: they come up, are attacked or killed, and go. */
async function takeTurns(): Promise<void> {
  const all = Object.entries(scenarios).flatMap(([name, scenario]) =>
    (['tcp', 'unix'] as const).map((kind) => [name, scenario, kind] as const)
  )
  while (performance.now() < end) {
    const [name, scenario, kind] = all[turns % all.length] as [string, Scenario, Kind]
    current = `${name} over ${kind}`
    try {
      const report = await runScenario(name, kind, scenario.reduced, { killAfter: 120_000 })
      faults.push(...report.faults.map((fault) => `${current}: ${fault}`))
    } catch (error) {
      faults.push(`${current}: ${error}`)
    }
    turns++
  }
}

function showStatus(): void {
  const left = Math.max(0, end - performance.now()) / 1000
  const { clients, bytes, open, resident, wrong } = mixtures.map((mixture) => mixture.tally).reduce(sum)
  const line = [
    `${Math.floor(left / 60)}:${String(Math.floor(left % 60)).padStart(2, '0')} left`,
    `${clients.toLocaleString('en')} clients`,
    `${(bytes / 1e9).toFixed(2)} GB`,
    `${open} open`,
    `${inMiB(resident)} resident`,
    `${turns} scenarios, now ${current}`,
    `${wrong + faults.length} faults`
  ].join(' | ')
  if (isTerminal) process.stdout.write(`\r\x1b[K${line}`)
  // A log needs less of it.
  else if (printed++ % 15 === 0) console.log(line)
}

function summarize(): void {
  if (isTerminal) process.stdout.write('\r\x1b[K')
  const total = mixtures.map((mixture) => mixture.tally).reduce(sum)
  const verdict = faults.length === 0 ? 'Nothing was lost.' : `${faults.length} faults.`
  const lines = [
    `${minutes} minutes: ${total.clients.toLocaleString('en')} clients, ${(total.bytes / 1e9).toFixed(2)} GB, ${turns} scenarios. ${verdict}`,
    ...mixtures.map((mixture) => `- ${mixture.name}: ${mixture.summary}`)
  ]
  console.log([...lines, ...faults.map((fault) => `LOST: ${fault}`)].join('\n'))
  if (values['write-docs']) writeSection('soak', `${lines[0]}\n\n${lines.slice(1).join('\n')}`)
}

function sum(one: Tally, other: Tally): Tally {
  return {
    clients: one.clients + other.clients,
    bytes: one.bytes + other.bytes,
    open: one.open + other.open,
    resident: one.resident + other.resident,
    wrong: one.wrong + other.wrong
  }
}
