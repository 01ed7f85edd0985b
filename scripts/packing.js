// Packs the package as it would be published, and installs it as its users do.

import { execFile } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

export const ROOT = fileURLToPath(new URL('..', import.meta.url))
// Packing clears dist, so it is done in a copy.
const SOURCES = [
  'src',
  'cli',
  'scripts/bundle.js',
  'tsconfig.json',
  'tsconfig.package.json',
  'package.json',
  'README.md',
  'CHANGELOG.md',
  'LICENSE-APACHE',
  'LICENSE-MIT'
]

/** Packs it into `directory`. */
export async function pack(directory) {
  const copy = join(directory, 'copy')
  mkdirSync(copy)
  for (const name of SOURCES) {
    if (existsSync(join(ROOT, name))) cpSync(join(ROOT, name), join(copy, name), { recursive: true })
  }
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'), 'junction')
  const { stdout } = await npm(['pack', '--json', '--pack-destination', directory], copy)
  // The scripts print to standard output too. npm 12 names the packages, older ones list them.
  const told = JSON.parse(stdout.slice(stdout.search(/^[[{]/m)))
  const { filename, files, size } = Object.values(told)[0]
  return { tarball: join(directory, filename), files: files.map(({ path }) => path), size }
}

/** Makes a project in `directory` that has it. Gives the project's path. */
export async function install(directory, name, tarball, flags = []) {
  const project = join(directory, name)
  mkdirSync(project)
  writeFileSync(join(project, 'package.json'), '{}')
  await npm(['install', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline', ...flags, tarball], project)
  return project
}

export function run(file, args, cwd = ROOT) {
  // No coverage of what runs here, and no settings of an outer npm.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(npm_(config|package|lifecycle)_|NODE_V8_)/.test(name)))
  return promisify(execFile)(file, args, { cwd, env, maxBuffer: 64 * 1024 * 1024 })
}

function npm(args, cwd) {
  // Under `npm run` npm tells where it is: its file can be run without a shell on every system.
  const { npm_execpath: path } = process.env
  return path === undefined ? run('npm', args, cwd) : run(process.execPath, [path, ...args], cwd)
}
