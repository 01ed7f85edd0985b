// Runs the whole suite on every supported Node.js, and the contract suite on Bun and Deno. Run: npm run test:runtimes -- [RUNTIME …]
//
// The runtimes come as npm packages and go into a cache of the user's, not into this tree: together they are half a gigabyte.

import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const CACHE = process.env.IT_TCP_RUNTIMES ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'it-tcp', 'runtimes')
const SUITE_LIMIT = 15 * 60_000

const PLATFORM = process.platform === 'win32' ? 'win' : process.platform
const EXE = process.platform === 'win32' ? '.exe' : ''
const WHOLE = [join('node_modules', 'mocha', 'bin', 'mocha.js'), '--reporter', 'dot', '--no-color']
const CONTRACT = [join('dist', 'test', 'runtimes', 'contract.js')]

const node = (version) => ({
  name: `node${version}`,
  // The package `node` would fetch this one by a script.
  install: `node-${PLATFORM}-${process.arch}@${version}`,
  binary: `node${EXE}`,
  args: WHOLE
})
const RUNTIMES = [
  node(20),
  node(22),
  node(24),
  node(26),
  { name: 'bun', install: 'bun@1', binary: `bun${EXE}`, args: CONTRACT },
  { name: 'deno', install: 'deno@2', binary: `deno${EXE}`, args: ['run', '--allow-all', ...CONTRACT] }
]

const wanted = process.argv.slice(2)
const unknown = wanted.filter((name) => !RUNTIMES.some((runtime) => runtime.name === name))
if (unknown.length > 0) {
  console.error(`No such runtime: ${unknown.join(', ')}. There are ${RUNTIMES.map(({ name }) => name).join(', ')}`)
  process.exit(2)
}

const results = []
for (const runtime of RUNTIMES.filter(({ name }) => wanted.length === 0 || wanted.includes(name))) {
  console.log(`\n=== ${runtime.name}`)
  results.push({ name: runtime.name, ...(await test(runtime)) })
}

const WIDTHS = [8, 11, 8, 8, 8, 8]
const row = (...columns) =>
  console.log(
    columns
      .map((column, index) => String(column ?? '').padEnd(WIDTHS[index] ?? 0))
      .join(' ')
      .trimEnd()
  )
console.log()
row('runtime', 'version', 'passed', 'failed', 'skipped', 'seconds')
for (const { name, version, passed, failed, skipped, seconds, problem } of results)
  row(name, version, passed, failed, skipped, seconds, problem)
const skipped = results.filter(({ version }) => version === undefined)
for (const { name, problem } of skipped) console.log(`\n!!! SKIPPED: ${name} was not tested: ${problem}`)
process.exitCode = results.some(({ isOk }) => !isOk) || skipped.length === results.length ? 1 : 0

async function test({ name, install, binary, args }) {
  let program
  let version
  try {
    program = await provide(name, install, binary)
    const told = await run(program, ['--version'], {})
    version = /\d+\.\d+\.\d+/.exec(told.output)?.[0]
    if (version === undefined) throw new Error(`its binary does not run: ${told.output.trim()}`)
  } catch (error) {
    return { isOk: true, problem: error.message }
  }
  const start = performance.now()
  const { code, output } = await run(program, args, { isShown: true, cwd: ROOT, timeout: SUITE_LIMIT })
  const count = (what) => Number(new RegExp(`^ *(\\d+) ${what}\\b`, 'm').exec(output)?.[1] ?? 0)
  const failed = count('failing')
  const problem = code === 0 ? undefined : failed > 0 ? 'FAILED' : `FAILED outside of a test: exit code ${code}`
  const seconds = Math.round((performance.now() - start) / 1000)
  return { isOk: code === 0, version, passed: count('passing'), failed, skipped: count('pending'), seconds, problem }
}

/** The path of the runtime's program, which is fetched first if it is not there yet. */
async function provide(name, install, binary) {
  const directory = join(CACHE, name)
  const found = find(directory, binary)
  if (found !== undefined) return found
  console.log(`Fetching ${install} into ${directory}`)
  mkdirSync(directory, { recursive: true })
  if (!existsSync(join(directory, 'package.json'))) writeFileSync(join(directory, 'package.json'), '{}')
  const args = ['install', '--ignore-scripts', '--no-audit', '--no-fund', install]
  const { npm_execpath: npm } = process.env
  const { code, output } = await (npm === undefined
    ? run('npm', args, { cwd: directory })
    : run(process.execPath, [npm, ...args], { cwd: directory }))
  if (code !== 0) throw new Error(`${install} can't be fetched: ${/npm (?:error|ERR!) .*/.exec(output)?.[0] ?? `npm ended with ${code}`}`)
  const fetched = find(directory, binary)
  if (fetched === undefined) throw new Error(`${install} has no program for ${process.platform} on ${process.arch}`)
  return fetched
}

// The program itself is in a package for the platform; what a main package has under `bin` needs its install script.
function find(directory, binary) {
  const modules = join(directory, 'node_modules')
  if (!existsSync(modules)) return undefined
  const files = readdirSync(modules, { recursive: true, withFileTypes: true })
  const programs = files.filter((file) => file.isFile() && file.name === binary && !file.parentPath.includes('.bin'))
  const ofPlatform = programs.filter(({ parentPath }) => parentPath.includes(PLATFORM) || parentPath.includes(process.platform))
  const [program] = ofPlatform.filter(({ parentPath }) => !['musl', 'baseline'].some((kind) => parentPath.includes(kind)))
  return program && join(program.parentPath, basename(program.name))
}

function run(file, args, { isShown = false, cwd = ROOT, timeout }) {
  return new Promise((resolve) => {
    // What npm sets for its scripts would be taken for settings by an inner npm.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_(config|package|lifecycle)_/.test(name)))
    const child = spawn(file, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'], timeout, killSignal: 'SIGKILL' })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        output += text
        if (isShown) process.stdout.write(text)
      })
    }
    child.on('error', (error) => resolve({ code: -1, output: output + error.message }))
    child.on('close', (code, signal) => resolve({ code: code ?? signal, output }))
  })
}
