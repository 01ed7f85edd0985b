import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect } from 'chai'
import { type BuildResult, build, stop } from 'esbuild'
import { runNode, skipIf } from '../helpers/programs.ts'
import { useScope } from '../helpers/scope.ts'

const isFlag = (flag: string): boolean => process.allowedNodeEnvironmentFlags.has(flag)
const HAS_FFI = isFlag('--experimental-ffi')
const WITHOUT_FFI = HAS_FFI ? ['--no-experimental-ffi'] : []
const CAN_BUILD_EXECUTABLE = process.allowedNodeEnvironmentFlags.size > 0 && Number(process.versions.node.split('.')[0]) >= 26
const USERLAND =
  /^\(node:\d+\) \[IT_TCP_USERLAND_GATE\] Warning: The accept gate is in userland, since koffi can't be loaded: Cannot find module 'koffi'/

// Listens twice, since the warning is to come once.
const PROGRAM = `
  import { listen, onPort } from 'it-tcp'
  async function main() {
    for (let time = 0; time < 2; time++) {
      const server = await listen(onPort(0, { host: '127.0.0.1' }))
      if (time === 0) console.log(server.acceptGate)
      await server.close()
    }
  }
  main()
`

describe('libc', () => {
  const scope = useScope()

  const bundles = new Map<'esm' | 'cjs', BuildResult<{ write: false; metafile: true }>>()
  // Once, and before a test counts what is open: the bundler is a process of its own.
  before(async function () {
    skipIf(this, process.platform !== 'linux' && process.platform !== 'darwin', 'needs a system with the kernel gate')
    skipIf(this, !existsSync(join('node_modules', 'koffi')), 'needs koffi')
    for (const format of ['esm', 'cjs'] as const) bundles.set(format, await bundleProgram(format))
    await stop()
  })
  const bundle = (format: 'esm' | 'cjs'): string => {
    const file = join(scope.tempDir(), `program.${format === 'esm' ? 'mjs' : 'cjs'}`)
    writeFileSync(file, bundles.get(format)?.outputFiles[0]?.contents as Uint8Array)
    return file
  }

  describe('in a bundle', () => {
    for (const format of ['esm', 'cjs'] as const) {
      it(`${format}: comes from a koffi beside the bundle, and nothing is warned of`, async () => {
        const file = bundle(format)
        linkKoffi(join(file, '..'))
        const { stdout, stderr } = await runNode([...WITHOUT_FFI, file], { env: plain() })
        expect({ stdout, stderr }).to.deep.equal({ stdout: 'kernel\n', stderr: '' })
      })

      it(`${format}: without koffi the gate is in userland, and one warning says so`, async () => {
        const file = bundle(format)
        const { stdout, stderr } = await runNode([...WITHOUT_FFI, file], { env: plain() })
        expect(stdout).to.equal('userland\n')
        expect(stderr).to.match(USERLAND)
        expect(stderr.match(/IT_TCP_USERLAND_GATE/g)).to.have.lengthOf(1)
      })
    }

    it('has nothing of koffi in it, and the bundler nothing to say', () => {
      const { warnings, metafile } = bundles.get('esm') as BuildResult<{ write: false; metafile: true }>
      expect(warnings).to.deep.equal([])
      expect(Object.keys(metafile.inputs).filter((file) => file.includes('koffi'))).to.deep.equal([])
    })

    it('nothing is warned of where the environment asks for userland', async () => {
      const file = bundle('esm')
      const { stdout, stderr } = await runNode([...WITHOUT_FFI, file], { env: { ...plain(), IT_TCP_GATE: 'userland' } })
      expect({ stdout, stderr }).to.deep.equal({ stdout: 'userland\n', stderr: '' })
    })

    it('nothing is warned of where native code is forbidden', async () => {
      const file = bundle('esm')
      linkKoffi(join(file, '..'))
      const forbidden = isFlag('--permission')
        ? ['--permission', '--allow-fs-read=*', ...(isFlag('--allow-net') ? ['--allow-net'] : [])]
        : ['--no-addons']
      const { stdout, stderr } = await runNode([...WITHOUT_FFI, ...forbidden, file], { env: plain() })
      expect(stdout).to.equal('userland\n')
      expect(stderr).not.to.include('IT_TCP_')
    })

    it('comes from node:ffi where there is no koffi', async function () {
      skipIf(this, !HAS_FFI || process.platform !== 'linux', 'needs node:ffi')
      const file = bundle('esm')
      const { stdout } = await runNode(['--no-warnings', file], { env: plain() })
      expect(stdout).to.equal('kernel\n')
    })
  })

  describe('in a single executable', () => {
    it('comes from a koffi beside the executable', async function () {
      skipIf(this, !CAN_BUILD_EXECUTABLE, 'needs node --build-sea')
      this.timeout(60_000)
      const main = bundle('cjs')
      const directory = join(main, '..')
      const config = { main, output: join(directory, 'program'), disableExperimentalSEAWarning: true, execArgv: WITHOUT_FFI }
      writeFileSync(join(directory, 'sea.json'), JSON.stringify(config))
      execFileSync(process.execPath, ['--build-sea', join(directory, 'sea.json')], { stdio: 'ignore' })
      linkKoffi(directory)
      expect(execFileSync(config.output, { encoding: 'utf8', env: plain() })).to.equal('kernel\n')
    })
  })

  it('through node:ffi does the same as through koffi', async function () {
    skipIf(this, !HAS_FFI || process.platform !== 'linux', 'needs node:ffi')
    // A copy of the built files that no koffi is beside.
    const directory = scope.tempDir()
    cpSync(join('dist', 'src', 'system'), join(directory, 'system'), { recursive: true })
    writeFileSync(join(directory, 'package.json'), '{ "type": "module" }')
    const program = (modules: string): string => `
      import net from 'node:net'
      import { once } from 'node:events'
      const { descriptorLimit, duplicate, isDescriptorFree, isOccupied, occupy, vacate } = await import('${modules}/descriptors.js')
      const { checkListening, unixPathOf } = await import('${modules}/inherited-socket.js')
      const { setUserTimeout, waitingClients } = await import('${modules}/socket-facts.js')
      const { libc, libcFailure } = await import('${modules}/libc.js')
      const code = (call) => { try { return call() ?? 'ok' } catch (error) { return error.code + error.syscall } }
      const server = net.createServer().listen(0, '127.0.0.1')
      await once(server, 'listening')
      const { fd } = server._handle
      const copy = duplicate(fd)
      occupy(copy)
      const unix = net.createServer().listen('\\0it-tcp-ffi-' + process.pid)
      await once(unix, 'listening')
      console.log(JSON.stringify([
        descriptorLimit(), isDescriptorFree(2), code(() => checkListening(fd)), code(() => checkListening(999)), code(() => duplicate(999)),
        isOccupied(copy), isOccupied(fd), waitingClients(fd), setUserTimeout(fd, 5000), unixPathOf(unix._handle.fd).startsWith('\\0it-tcp-ffi-'), libcFailure() === undefined,
        libc().flock(fd, 6)
      ]))
      process.exit()
    `
    const outputs = await Promise.all(
      [resolve('dist', 'src', 'system'), join(directory, 'system')].map((modules) =>
        runNode(['--no-warnings', '--input-type=module', '-e', program(modules)], { env: plain() })
      )
    )
    const [koffi, ffi] = outputs.map(({ stdout }) => stdout)
    expect(ffi, outputs[1]?.stderr).to.equal(koffi)
    expect(koffi).to.include('"EBADFfcntl",true,false,0,true,true,true')
  })
})

function bundleProgram(format: 'esm' | 'cjs'): Promise<BuildResult<{ write: false; metafile: true }>> {
  return build({
    stdin: { contents: PROGRAM.replace("'it-tcp'", "'./dist/src/index.js'"), resolveDir: process.cwd() },
    bundle: true,
    platform: 'node',
    format,
    write: false,
    metafile: true,
    // CommonJS has no such thing, and the library knows.
    logOverride: { 'empty-import-meta': 'silent' }
  })
}

function linkKoffi(directory: string): void {
  mkdirSync(join(directory, 'node_modules'))
  symlinkSync(resolve('node_modules', 'koffi'), join(directory, 'node_modules', 'koffi'))
}

function plain(): NodeJS.ProcessEnv {
  return { ...process.env, NODE_OPTIONS: '', IT_TCP_GATE: '' }
}
