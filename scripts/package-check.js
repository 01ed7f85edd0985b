// Packs the package as it would be published and looks at the tarball as its users meet it. Run: npm run package:check

import { execFile } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { build } from 'esbuild'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'

const MAX_TARBALL = 300_000
const ROOT = fileURLToPath(new URL('..', import.meta.url))
// Packing clears dist, so it is done in a copy.
const SOURCES = [
  'src',
  'cli',
  'tsconfig.json',
  'tsconfig.package.json',
  'package.json',
  'README.md',
  'CHANGELOG.md',
  'LICENSE-APACHE',
  'LICENSE-MIT'
]

/** Serves one client by itself and tells which gate it has. */
const ROUND_TRIP = `
  const server = await Server.create(onPortChosenByOs({ host: '127.0.0.1' }), async ({ reader, writer }) => writer(reader))
  const answer = await withConnection(toHostAndPort('127.0.0.1', server.listeningOn), async ({ reader, writer }) => {
    await writer([new TextEncoder().encode('hello')])
    return new TextDecoder().decode(await reader.readAll())
  })
  await server.close()
  console.log(answer, server.acceptGate)
`
const NAMES = '{ Server, onPortChosenByOs, toHostAndPort, withConnection }'
const AS_MODULE = `import ${NAMES} from 'it-tcp'\n${ROUND_TRIP}`
const AS_COMMONJS = `const ${NAMES} = require('it-tcp')\n;(async () => {${ROUND_TRIP}})()`

const directory = mkdtempSync(join(tmpdir(), 'it-tcp-package-'))
let failed = 0
try {
  const { tarball, files, size } = await pack()
  await check(`the tarball has ${files.length} files, ${(size / 1000).toFixed(1)} kB of at most ${MAX_TARBALL / 1000}`, () => {
    expect(size <= MAX_TARBALL, 'It is too large')
  })
  await check('it has what users need and nothing of how it is made', () => checkFiles(files))
  await check('no script of the package runs when it is installed', () => checkScripts())
  await check('publint has nothing to say', () => lint(tarball))
  await check('the types are not wrong (attw)', () => run('node', [bin('@arethetypeswrong/cli', 'attw'), tarball, '--profile', 'esm-only']))
  const slim = await install('slim', tarball, ['--omit=optional'])
  // Where Node.js has node:ffi the gate is in the kernel all the same.
  const slimGate = process.platform === 'linux' && process.allowedNodeEnvironmentFlags.has('--experimental-ffi') ? 'kernel' : 'userland'
  await check(
    `it installs and runs without koffi and without scripts, with the gate in ${slimGate === 'kernel' ? 'the kernel' : 'userland'}`,
    async () => {
      expect(!existsSync(join(slim, 'node_modules', 'koffi')), 'koffi is there')
      expect((await program(slim, 'module.mjs', AS_MODULE)) === `hello ${slimGate}\n`, 'The server did not answer as it should')
    }
  )
  const full = await install('full', tarball, [])
  await check('it installs and runs with koffi, still without scripts and compiler, with the gate in the kernel', async () => {
    const gate = process.platform === 'win32' ? 'userland' : 'kernel'
    expect((await program(full, 'module.mjs', AS_MODULE)) === `hello ${gate}\n`, 'The server did not answer as it should')
  })
  await check('require() of it works', async () => {
    // Node.js 20.19 can do it too, with a warning on standard error.
    expect((await program(slim, 'commonjs.cjs', AS_COMMONJS)) === `hello ${slimGate}\n`, 'The server did not answer as it should')
  })
  await check('importing nothing leaves nothing in a bundle', async () => {
    const { size } = await bundle(slim, `import 'it-tcp'`)
    expect(size === 0, `${size} bytes are left`)
  })
  await check('consumerPool in a bundle brings no socket code', async () => {
    const { files, external, size } = await bundle(slim, `export { consumerPool } from 'it-tcp'`)
    // What tells whose fault an error is comes with it, and that knows no sockets.
    expect(!external.some((module) => /^node:(?:net|tls|dns|fs|cluster)/.test(module)), `It imports ${external.join(', ')}`)
    expect(
      !files.some((file) => /transport|net-socket|listening|byte-connection|dial|descriptors/.test(file)),
      `It has ${files.join(', ')}`
    )
    console.log(`    ${size} bytes: ${files.join(', ')}`)
  })
  await check('the bundle of a client brings no server code', async () => {
    const { files } = await bundle(slim, `export { connect, toHostAndPort } from 'it-tcp'`)
    // `startTls` is for both sides.
    const left = files.filter((file) => /listen|server|unix-socket-file/.test(file) && !file.endsWith('tls/server-hello.js'))
    expect(left.length === 0, `It has ${left.join(', ')}`)
  })
} finally {
  rmSync(directory, { recursive: true, force: true })
}
console.log(failed === 0 ? 'The package is as it should be' : `${failed} checks failed`)
process.exitCode = failed === 0 ? 0 : 1

async function check(title, body) {
  try {
    await body()
    console.log(`✔ ${title}`)
  } catch (error) {
    failed++
    console.log(`✘ ${title}\n${error.message}\n${error.stdout ?? ''}${error.stderr ?? ''}`)
  }
}

function expect(condition, message) {
  if (!condition) throw new Error(message)
}

async function pack() {
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

function checkFiles(files) {
  const { exports, bin = {} } = readPackage()
  const needed = [exports['.'].types, exports['.'].default, ...Object.values(bin)].map((path) => path.replace(/^\.\//, ''))
  const missing = [...needed, 'README.md', 'CHANGELOG.md', 'LICENSE-APACHE', 'LICENSE-MIT'].filter((path) => !files.includes(path))
  expect(missing.length === 0, `These are missing: ${missing.join(', ')}`)
  const surplus = files.filter((path) =>
    /\.map$|\.tsbuildinfo$|(^|[^d])\.ts$|^(test|bench|examples|scripts|coverage)\//.test(path.replace('.d.ts', ''))
  )
  expect(surplus.length === 0, `These are too many: ${surplus.join(', ')}`)
}

function checkScripts() {
  const { scripts } = readPackage()
  const run = ['preinstall', 'install', 'postinstall', 'prepare'].filter((name) => name in scripts)
  expect(run.length === 0, `It has ${run.join(', ')}`)
}

async function lint(tarball) {
  const bytes = readFileSync(tarball)
  const { messages, pkg } = await publint({
    pack: { tarball: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) },
    strict: true
  })
  expect(messages.length === 0, messages.map((message) => formatMessage(message, pkg)).join('\n'))
}

async function install(name, tarball, flags) {
  const project = join(directory, name)
  mkdirSync(project)
  writeFileSync(join(project, 'package.json'), '{}')
  await npm(['install', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline', ...flags, tarball], project)
  return project
}

async function program(project, file, text) {
  writeFileSync(join(project, file), text)
  const { stdout } = await run(process.execPath, [file], project)
  return stdout
}

/** The files of the package that are left in the bundle of `text`, and what it imports from Node.js. */
async function bundle(project, text) {
  writeFileSync(join(project, 'entry.mjs'), text)
  const { metafile } = await build({
    absWorkingDir: project,
    entryPoints: ['entry.mjs'],
    outfile: 'bundle.mjs',
    bundle: true,
    platform: 'node',
    format: 'esm',
    minify: true,
    metafile: true,
    logLevel: 'error'
  })
  const output = metafile.outputs['bundle.mjs']
  const files = Object.entries(output.inputs).filter(([, { bytesInOutput }]) => bytesInOutput > 0)
  const packageRoot = relative(project, join(project, 'node_modules', 'it-tcp', 'dist', 'src'))
  return {
    size: output.bytes,
    files: files.map(([file]) => relative(packageRoot, file)).filter((file) => !file.endsWith('entry.mjs')),
    external: output.imports.map(({ path }) => path)
  }
}

function bin(name, command) {
  const file = createRequire(import.meta.url).resolve(`${name}/package.json`)
  const { bin } = JSON.parse(readFileSync(file, 'utf8'))
  return resolve(file, '..', typeof bin === 'string' ? bin : bin[command])
}

function readPackage() {
  return JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
}

function npm(args, cwd) {
  // Under `npm run` npm tells where it is: its file can be run without a shell on every system.
  const { npm_execpath: path } = process.env
  return path === undefined ? run('npm', args, cwd) : run(process.execPath, [path, ...args], cwd)
}

function run(file, args, cwd = ROOT) {
  // No coverage of what runs here, and no settings of an outer npm.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(npm_(config|package|lifecycle)_|NODE_V8_)/.test(name)))
  return promisify(execFile)(file, args, { cwd, env, maxBuffer: 64 * 1024 * 1024 })
}
