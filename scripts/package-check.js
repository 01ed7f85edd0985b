// Packs the package as it would be published and looks at the tarball as its users meet it. Run: npm run package:check

import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { build } from 'esbuild'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'
import { install, pack, ROOT, run } from './packing.js'

const MAX_TARBALL = 300_000
// Each costs some 0.6 ms at every start.
const MAX_MODULES = 10
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
  const { tarball, files, size } = await pack(directory)
  await check(`the tarball has ${files.length} files, ${(size / 1000).toFixed(1)} kB of at most ${MAX_TARBALL / 1000}`, () => {
    expect(size <= MAX_TARBALL, 'It is too large')
  })
  await check('it has what users need and nothing of how it is made', () => checkFiles(files))
  await check(`a program loads ${libraryFiles(files).length} modules of it at most`, () => {
    expect(libraryFiles(files).length <= MAX_MODULES, 'They are too many')
  })
  await check('no script of the package runs when it is installed', () => checkScripts())
  await check('publint has nothing to say', () => lint(tarball))
  await check('the types are not wrong (attw)', () => run('node', [bin('@arethetypeswrong/cli', 'attw'), tarball, '--profile', 'esm-only']))
  const slim = await install(directory, 'slim', tarball, ['--omit=optional'])
  // Where Node.js has node:ffi the gate is in the kernel all the same.
  const slimGate = process.platform === 'linux' && process.allowedNodeEnvironmentFlags.has('--experimental-ffi') ? 'kernel' : 'userland'
  await check(
    `it installs and runs without koffi and without scripts, with the gate in ${slimGate === 'kernel' ? 'the kernel' : 'userland'}`,
    async () => {
      expect(!existsSync(join(slim, 'node_modules', 'koffi')), 'koffi is there')
      expect((await program(slim, 'module.mjs', AS_MODULE)) === `hello ${slimGate}\n`, 'The server did not answer as it should')
    }
  )
  const fullGate = process.platform === 'win32' ? 'userland' : 'kernel'
  const full = await install(directory, 'full', tarball)
  await check('it installs and runs with koffi, still without scripts and compiler, with the gate in the kernel', async () => {
    expect((await program(full, 'module.mjs', AS_MODULE)) === `hello ${fullGate}\n`, 'The server did not answer as it should')
  })
  await check('every kind of connection works, and the test kit and the command', async () => {
    const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost']
    const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', ...names]
    await run('openssl', [...args, '-keyout', 'key.pem', '-out', 'cert.pem'], full)
    copyFileSync(join(ROOT, 'scripts', 'packed-program.js'), join(full, 'all.mjs'))
    const { stdout } = await run(process.execPath, ['all.mjs', join('node_modules', 'it-tcp', 'dist', 'cli', 'main.js')], full)
    expect(stdout === 'all of it works\n', `It said ${stdout}`)
  })
  await check('require() of it works', async () => {
    // Node.js 20.19 can do it too, with a warning on standard error.
    expect((await program(slim, 'commonjs.cjs', AS_COMMONJS)) === `hello ${slimGate}\n`, 'The server did not answer as it should')
  })
  await check('a CommonJS bundle of it works', async () => {
    await bundle(full, `import ${NAMES} from 'it-tcp'\n;(async () => {${ROUND_TRIP}})()`, { format: 'cjs', outfile: 'bundle.cjs' })
    const { stdout } = await run(process.execPath, ['bundle.cjs'], full)
    expect(stdout === `hello ${fullGate}\n`, 'The server did not answer as it should')
  })
  await check('every export stands in a part that bundlers can leave out', () => {
    const index = readFileSync(join(slim, 'node_modules', 'it-tcp', 'dist', 'src', 'index.js'), 'utf8')
    expect(!/^\/\/ src\//m.test(index), 'Its index has code of its own: a source is missing in the parts of bundle.js')
  })
  await check('importing nothing leaves nothing in a bundle', async () => {
    const { size } = await bundle(slim, `import 'it-tcp'`)
    expect(size === 0, `${size} bytes are left`)
  })
  await check('consumerPool in a bundle brings no socket code', async () => {
    const { files, external, size } = await bundle(slim, `export { consumerPool } from 'it-tcp'`)
    expect(files.includes('consumer-pool.ts'), 'Its files do not name their sources')
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
    expect(files.includes('connect.ts'), 'Its files do not name their sources')
    const left = files.filter((file) => /listen|server|unix-socket-file/.test(file) && !file.endsWith('tls/server-hello.ts'))
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

async function program(project, file, text) {
  writeFileSync(join(project, file), text)
  const { stdout } = await run(process.execPath, [file], project)
  return stdout
}

/** The sources whose code is left in the bundle of `text`, at most, and what it imports from Node.js. */
async function bundle(project, text, options = {}) {
  const outfile = options.outfile ?? 'bundle.mjs'
  writeFileSync(join(project, 'entry.mjs'), text)
  const { metafile } = await build({
    absWorkingDir: project,
    entryPoints: ['entry.mjs'],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    minify: true,
    metafile: true,
    logLevel: 'error',
    ...options
  })
  const output = metafile.outputs[outfile]
  const left = Object.entries(output.inputs).filter(([, { bytesInOutput }]) => bytesInOutput > 0)
  // Each file of the package names its sources.
  const sources = left.flatMap(([file]) => [...readFileSync(join(project, file), 'utf8').matchAll(/^\/\/ src\/(\S+\.ts)$/gm)])
  return { size: output.bytes, files: [...new Set(sources.map(([, source]) => source))], external: output.imports.map(({ path }) => path) }
}

/** The modules of the library itself, all of which `import 'it-tcp'` loads but the entry of the test kit. */
function libraryFiles(files) {
  return files.filter((path) => /^dist\/src\/.*\.js$/.test(path))
}

function bin(name, command) {
  const file = createRequire(import.meta.url).resolve(`${name}/package.json`)
  const { bin } = JSON.parse(readFileSync(file, 'utf8'))
  return resolve(file, '..', typeof bin === 'string' ? bin : bin[command])
}

function readPackage() {
  return JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
}
