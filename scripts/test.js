// Runs all specs in two processes side by side, and sums up what they found: `npm run coverage`, and so `npm test`.
//
// Half of them wait for other programs and the other half computes, so that two cores have done in little more than half the time.

import { spawn } from 'node:child_process'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'

const ROOT = join('dist', 'test')
// Folders, and files at the top, that start other programs; and two that do not, so that both processes take as long.
const WITH_OTHERS = [
  'testing',
  'tls',
  'cli',
  'examples',
  'faults',
  'interop',
  'load',
  'model',
  'realms',
  'documentation.spec.js',
  'examples.spec.js',
  'readme.spec.js'
]
const MOCHA = [
  join('node_modules', 'mocha', 'bin', 'mocha.js'),
  ...['--no-config', '--enable-source-maps', '--forbid-only', '--timeout', '10000'],
  ...['--require', join(ROOT, 'helpers', 'root-hooks.js')]
]

const specs = readdirSync(ROOT, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.spec.js'))
  .sort()
const isWithOthers = (file) => WITH_OTHERS.includes(file.split(/[\\/]/)[0])
const groups = [specs.filter((file) => !isWithOthers(file)), specs.filter(isWithOthers)]

const runs = await Promise.all(groups.map(run))
// The first was shown as it went.
for (const { output } of runs.slice(1)) process.stdout.write(output)
for (const [word, of] of [
  ['passing', count('passing')],
  ['pending', count('pending')],
  ['failing', count('failing')]
]) {
  if (of > 0 || word === 'passing') console.log(`  ${of} ${word}`)
}
// All that mocha says of them; `.ci/run` shows it once more as the last thing.
mkdirSync('coverage', { recursive: true })
writeFileSync(join('coverage', 'failures.txt'), runs.map(failures).join(''))
process.exitCode = runs.some(({ code }) => code !== 0) ? 1 : 0

function run(files, index) {
  const child = spawn(process.execPath, [...MOCHA, ...files.map((file) => join(ROOT, file))], { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text) => {
    output += text
    if (index === 0) process.stdout.write(text)
  })
  return new Promise((resolve, reject) => {
    child.on('error', reject).on('close', (code) => resolve({ code, output, text: stripVTControlCharacters(output) }))
  })
}

function failures({ text }) {
  return /^ *\d+ failing\b.*/ms.exec(text)?.[0] ?? ''
}

// Mocha's own summary: `  123 passing (4s)`, `  2 pending`, `  1 failing`.
function count(word) {
  const pattern = new RegExp(`^ *(\\d+) ${word}\\b`, 'm')
  return runs.reduce((sum, { text }) => sum + Number(pattern.exec(text)?.[1] ?? 0), 0)
}
