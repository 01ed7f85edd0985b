import { spawn, spawnSync } from 'node:child_process'
import { chownSync, existsSync, lstatSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { expect } from 'chai'
import { ListenError } from '../../src/errors.ts'
import { GatedListener } from '../../src/server/listening-socket.ts'
import { tryLock } from '../../src/system/file-lock.ts'
import { OpenedDirectory } from '../../src/system/opened-directory.ts'
import { onFile } from '../../src/where-to-listen.ts'
import { behindEachGate, gateOptions, kernelGateAvailableAnyway, MODULES, WITHOUT_LIBC, withImports } from '../helpers/gates.ts'
import { runNode, skipIf } from '../helpers/programs.ts'
import { rawClient } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import type { Scope } from '../helpers/scope.ts'
import { leaveStale } from '../helpers/stale.ts'
import { turns, until } from '../helpers/until.ts'

const ROUNDS = Number(process.env.RACE_ROUNDS ?? 15)
const PROCESSES = 4
const PER_PROCESS = 5

const LOCK = '.it-tcp-s.lock'

/** Who may have the lock for good; each gives how to let go. */
const HOLDERS: Record<string, (dir: string) => Promise<() => unknown>> = {
  'as another process that hangs': async (dir) => {
    const directory = await OpenedDirectory.open(dir)
    const unlock = await tryLock(directory, LOCK)
    return async () => {
      await unlock?.()
      directory.close()
    }
  },
  'as a file of another user': async (dir) => {
    writeFileSync(join(dir, LOCK), '', { mode: 0o666 })
    chownSync(join(dir, LOCK), 65_534, 65_534)
    return () => {}
  },
  'as a link': async (dir) => {
    symlinkSync('nowhere', join(dir, LOCK))
    return () => {}
  }
}

behindEachGate('taking a path over', (gate, scope) => {
  before(function () {
    skipIf(this, process.platform === 'win32', 'needs unix sockets')
  })

  describe('of servers that start at once exactly one wins', () => {
    for (const start of ['fresh', 'stale'] as const) {
      it(`${PROCESSES * PER_PROCESS} in ${PROCESSES} processes, ${ROUNDS} times, the path is ${start}`, async function () {
        this.timeout(10_000 + ROUNDS * 1_000)
        const dir = scope.tempDir()
        const racers = Array.from({ length: PROCESSES }, () => startRacer(scope, gate))
        for (let round = 0; round < ROUNDS; round++) {
          const path = join(dir, `s${round}`)
          if (start === 'stale') await leaveStale(path)
          let missing = 0
          const watch = setInterval(() => {
            if (start === 'stale' && !existsSync(path)) missing++
          })
          const results = await Promise.all(racers.map((racer) => racer(path)))
          clearInterval(watch)
          const outcomes = results.flatMap((line) => line.split(' '))
          expect(
            outcomes.filter((outcome) => outcome === 'won'),
            outcomes.join()
          ).to.have.lengthOf(1)
          expect(outcomes.filter((outcome) => outcome === 'EADDRINUSE')).to.have.lengthOf(PROCESSES * PER_PROCESS - 1)
          expect(missing).to.equal(0)
          await rawClient(scope, path)
          await Promise.all(racers.map((racer) => racer('close')))
          expect(readdirSync(dir)).to.deep.equal([])
        }
      })
    }
  })

  it('of servers in network namespaces of their own exactly one wins', async function () {
    skipIf(this, spawnSync('unshare', ['-n', 'true']).status !== 0, 'needs unshare -n')
    this.timeout(10_000 + ROUNDS * 1_000)
    const dir = scope.tempDir()
    const racers = Array.from({ length: 3 }, () => startRacer(scope, gate, ['unshare', '-n']))
    for (let round = 0; round < ROUNDS; round++) {
      const path = join(dir, `s${round}`)
      await leaveStale(path)
      const outcomes = (await Promise.all(racers.map((racer) => racer(path)))).flatMap((line) => line.split(' '))
      expect(
        outcomes.filter((outcome) => outcome === 'won'),
        outcomes.join()
      ).to.have.lengthOf(1)
      await Promise.all(racers.map((racer) => racer('close')))
    }
    expect(readdirSync(dir)).to.deep.equal([])
  })

  it('the lock of a server that was killed is no obstacle, and goes', async function () {
    skipIf(this, !kernelGateAvailableAnyway(), 'needs libc, for flock(2)')
    const dir = scope.tempDir()
    const path = join(dir, 's')
    await leaveStale(path)
    writeFileSync(join(dir, LOCK), '', { mode: 0o600 })
    const socket = await GatedListener.bind(onFile(path), gateOptions([]))
    expect(readdirSync(dir)).to.deep.equal(['s'])
    await socket.close()
  })

  it('without libc it is taken over too', async () => {
    const dir = scope.tempDir()
    const path = join(dir, 's')
    await leaveStale(path)
    const program = `
      import { readdirSync } from 'node:fs'
      const socket = await GatedListener.bind(onFile('${path}'), options)
      console.log(socket.gate, readdirSync('${dir}').join())
      await socket.close()
      console.log(readdirSync('${dir}').length)
    `
    const { stdout, stderr } = await runNode([...WITHOUT_LIBC, '--no-warnings', '--input-type=module', '-e', withImports(program)], {
      env: { ...process.env, NODE_OPTIONS: '', IT_TCP_GATE: gate }
    })
    expect(stdout, stderr).to.equal('userland s\n0\n')
  })

  describe('while another has the lock', () => {
    it('it waits until that lets go', async () => {
      const dir = scope.tempDir()
      const path = join(dir, 's')
      await leaveStale(path)
      const directory = await OpenedDirectory.open(dir)
      const unlock = await tryLock(directory, LOCK)
      expect(await tryLock(directory, LOCK)).to.equal(undefined)
      const pending = GatedListener.bind(onFile(path), gateOptions([]))
      await turns(50)
      expect(readdirSync(dir)).to.include(LOCK)
      await unlock?.()
      directory.close()
      const socket = await pending
      expect(readdirSync(dir)).to.deep.equal(['s'])
      await socket.close()
    })

    for (const [what, hold] of Object.entries(HOLDERS)) {
      it(`for good, ${what}, the error is the lock's`, async function () {
        skipIf(this, gate === 'userland', 'is the same with both gates')
        skipIf(this, what.includes('user') && process.getuid?.() !== 0, 'needs root')
        this.timeout(20_000)
        const dir = scope.tempDir()
        const path = join(dir, 's')
        await leaveStale(path)
        const letGo = await hold(dir)
        const error = (await rejection(GatedListener.bind(onFile(path), gateOptions([])))) as ListenError
        await letGo()
        expect(error).to.be.an.instanceOf(ListenError)
        expect(error.cause).to.include({ code: 'EBUSY' })
        expect(error.message).to.equal(
          `Cannot listen on ${path}: the lock for taking over a stale socket is held by another process, or left behind: ${LOCK} beside it`
        )
        expect(readdirSync(dir).filter((name) => name.startsWith('.it-tcp-') && name !== LOCK)).to.deep.equal([])
        expect(lstatSync(path).isSocket()).to.equal(true)
      })
    }
  })
})

// Binds each path that it reads several times at once, prints how that went, and closes them when told so.
const RACER = `
  import { createInterface } from 'node:readline'
  const { GatedListener } = await import(MODULES + 'server/listening-socket.js')
  const { onFile } = await import(MODULES + 'where-to-listen.js')
  let open = []
  for await (const path of createInterface({ input: process.stdin })) {
    if (path === 'close') {
      await Promise.all(open.map((socket) => socket.close()))
      open = []
      console.log('closed')
      continue
    }
    const attempts = Array.from({ length: COUNT }, async () => {
      try {
        open.push(await GatedListener.bind(onFile(path), { backlog: 511, keepAlive: false, onAccept() {} }))
        return 'won'
      } catch (error) {
        return error.cause?.code ?? String(error)
      }
    })
    console.log((await Promise.all(attempts)).join(' '))
  }
`

function startRacer(scope: Scope, gate: string, prefix: readonly string[] = []): (line: string) => Promise<string> {
  const program = RACER.replaceAll('MODULES', JSON.stringify(MODULES)).replaceAll('COUNT', String(PER_PROCESS))
  const [command, ...args] = [...prefix, process.execPath, '--input-type=module', '-e', program]
  const child = spawn(command as string, args, {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, IT_TCP_GATE: gate }
  })
  scope.defer(async () => {
    child.stdin.end()
    await until(() => child.exitCode !== null)
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return async (line) => {
    child.stdin.write(`${line}\n`)
    return (await lines.next()).value as string
  }
}
