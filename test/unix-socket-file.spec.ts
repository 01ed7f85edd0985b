import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  writeFileSync
} from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { expect } from 'chai'
import { ListenError } from '../src/errors.ts'
import { GatedListener } from '../src/server/listening-socket.ts'
import { kernelGateAvailable } from '../src/system/descriptors.ts'
import { onFile } from '../src/where-to-listen.ts'
import { skipIf } from './helpers/programs.ts'
import { rawClient, rawServer } from './helpers/raw.ts'
import { rejection } from './helpers/rejection.ts'
import { type Scope, useScope } from './helpers/scope.ts'
import { until } from './helpers/until.ts'

const MODULES = new URL('../src/', import.meta.url).href
const ROUNDS = Number(process.env.RACE_ROUNDS ?? 15)
const PROCESSES = 4
const PER_PROCESS = 5

for (const gate of ['kernel', 'userland'] as const) {
  describe(`UnixSocketFile (${gate} gate)`, () => {
    const scope = useScope()

    before(function () {
      skipIf(this, process.platform === 'win32', 'needs unix sockets')
      skipIf(this, gate === 'kernel' && !kernelGateAvailable(), 'needs koffi')
    })

    const before_ = process.env.IT_TCP_GATE
    beforeEach(() => {
      process.env.IT_TCP_GATE = gate
    })
    afterEach(() => {
      if (before_ === undefined) delete process.env.IT_TCP_GATE
      else process.env.IT_TCP_GATE = before_
    })

    describe('a path on which a live server answers is refused', () => {
      it('which goes on serving, and nothing is left beside it', async () => {
        const path = join(scope.tempDir(), 's')
        const live = await rawServer(scope, path)
        await expectInUse(path)
        await rawClient(scope, path)
        await live.accept()
        expect(readdirSync(join(path, '..'))).to.deep.equal(['s'])
      })

      it('also if its queue is full', async function () {
        skipIf(this, gate === 'userland', 'has no queue to fill')
        const path = join(scope.tempDir(), 's')
        const live = await bind(scope, path, 1)
        for (let waiting = 0; waiting < 2; waiting++) await rawClient(scope, path)
        const next = net.connect(path)
        const [error] = await once(next, 'error')
        // Linux fails the client that meets a full queue; where it would wait instead there is nothing to see.
        expect((error as NodeJS.ErrnoException).code).to.be.oneOf(['EAGAIN', 'ECONNREFUSED'])
        if (process.platform === 'linux') await expectInUse(path)
        expect(live.isOpen).to.equal(false)
      })
    })

    describe('a stale one is taken over', () => {
      it('and the path is never missing', async () => {
        const path = join(scope.tempDir(), 's')
        await leaveStale(path)
        const stale = lstatSync(path).ino
        const socket = await bind(scope, path)
        expect(lstatSync(path).ino).not.to.equal(stale)
        await rawClient(scope, path)
        expect(readdirSync(join(path, '..'))).to.deep.equal(['s'])
        await socket.close()
        expect(existsSync(path)).to.equal(false)
      })
    })

    describe('a path that is not a socket is never touched', () => {
      it('a plain file, a directory, and symbolic links to a file, to nothing, to a stale and to a live socket', async () => {
        const dir = scope.tempDir()
        writeFileSync(join(dir, 'file'), 'text')
        mkdirSync(join(dir, 'directory'))
        await leaveStale(join(dir, 'stale'))
        await rawServer(scope, join(dir, 'live'))
        for (const target of ['file', 'nothing', 'stale', 'live']) symlinkSync(target, join(dir, `to-${target}`))
        const files = readdirSync(dir)
        for (const name of ['file', 'directory', 'to-file', 'to-nothing', 'to-stale', 'to-live']) await expectInUse(join(dir, name))
        expect(readdirSync(dir)).to.deep.equal(files)
        expect(readFileSync(join(dir, 'file'), 'utf8')).to.equal('text')
        expect(readlinkSync(join(dir, 'to-nothing'))).to.equal('nothing')
      })
    })

    describe('mode is set before the first client can connect', () => {
      it('as asked for', async () => {
        const path = join(scope.tempDir(), 's')
        for (const mode of [0o600, 0o666, 0o777, 0]) {
          const socket = await GatedListener.bind(onFile(path, { mode }), options())
          expect(lstatSync(path).mode & 0o777).to.equal(mode)
          await socket.close()
        }
      })

      it('without one as the umask says', async () => {
        const path = join(scope.tempDir(), 's')
        await bind(scope, path)
        expect(lstatSync(path).mode & 0o777).to.equal(0o777 & ~process.umask())
      })
    })

    describe('on close the file is removed first, if it is still ours', () => {
      it('and left alone if it is not', async () => {
        const path = join(scope.tempDir(), 's')
        const socket = await bind(scope, path)
        unlinkSync(path)
        const other = await rawServer(scope, path)
        const { ino } = lstatSync(path)
        await socket.close()
        expect(lstatSync(path).ino).to.equal(ino)
        await rawClient(scope, path)
        await other.accept()
      })

      it('is gone when close() returns, before the socket is', async () => {
        const path = join(scope.tempDir(), 's')
        const socket = await bind(scope, path)
        const closed = socket.close()
        expect(existsSync(path)).to.equal(false)
        await closed
      })

      it('one that vanished is nothing to fail for', async () => {
        const path = join(scope.tempDir(), 's')
        const socket = await bind(scope, path)
        unlinkSync(path)
        await socket.close()
      })

      it('a relative path is the same file after a change of directory', async () => {
        const dir = scope.tempDir()
        const cwd = process.cwd()
        try {
          process.chdir(dir)
          const socket = await bind(scope, 's')
          expect(socket.address.path).to.equal('s')
          process.chdir(cwd)
          expect(readdirSync(dir)).to.deep.equal(['s'])
          await socket.close()
          expect(readdirSync(dir)).to.deep.equal([])
        } finally {
          process.chdir(cwd)
        }
      })
    })

    it('a path as long as the system allows leaves room to bind', async function () {
      skipIf(this, process.platform !== 'linux', 'needs /proc/self/fd')
      const dir = scope.tempDir()
      const deep = join(dir, 'd'.repeat(107 - dir.length - 3))
      mkdirSync(deep)
      const path = join(deep, 's')
      expect(path).to.have.lengthOf(107)
      const socket = await bind(scope, path)
      await rawClient(scope, path)
      expect(readdirSync(deep)).to.deep.equal(['s'])
      await socket.close()
      expect(readdirSync(deep)).to.deep.equal([])
    })

    it('a directory that is not there is a ListenError with the cause ENOENT', async () => {
      const path = join(scope.tempDir(), 'missing', 's')
      const error = await rejection(GatedListener.bind(onFile(path), options()))
      expect(error).to.be.an.instanceOf(ListenError)
      expect((error as ListenError).cause).to.include({ code: 'ENOENT' })
      expect((error as ListenError).address).to.deep.equal({ family: 'unix', path })
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
  })
}

function options(backlog = 511): Parameters<typeof GatedListener.bind>[1] {
  return { backlog, keepAlive: false, onAccept() {} }
}

async function bind(scope: Scope, path: string, backlog?: number): Promise<GatedListener<{ family: 'unix'; path: string }>> {
  const socket = await GatedListener.bind(onFile(path), options(backlog))
  scope.defer(() => socket.close())
  return socket
}

async function expectInUse(path: string): Promise<void> {
  const error = await rejection(GatedListener.bind(onFile(path), options()))
  expect(error).to.be.an.instanceOf(ListenError)
  expect((error as Error).message).to.equal(`Cannot listen on ${path}: address already in use`)
  expect((error as ListenError).cause).to.include({ code: 'EADDRINUSE', syscall: 'listen' })
}

/** A socket's file without a socket: libuv unlinks the name that it bound, not the one that the file has by then. */
async function leaveStale(path: string): Promise<void> {
  const server = net.createServer()
  await new Promise<void>((resolve) => server.listen(`${path}~`, resolve))
  renameSync(`${path}~`, path)
  await new Promise((resolve) => server.close(resolve))
  expect(lstatSync(path).isSocket()).to.equal(true)
}

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

function startRacer(scope: Scope, gate: string): (line: string) => Promise<string> {
  const program = RACER.replaceAll('MODULES', JSON.stringify(MODULES)).replaceAll('COUNT', String(PER_PROCESS))
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
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
