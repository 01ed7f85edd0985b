import { once } from 'node:events'
import {
  chmodSync,
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
import { expect } from 'chai'
import { ListenError } from '../../src/errors.ts'
import { GatedListener } from '../../src/server/listening-socket.ts'
import { onFile } from '../../src/where-to-listen.ts'
import { behindEachGate, runBehind } from '../helpers/gates.ts'
import { skipIf } from '../helpers/programs.ts'
import { rawClient, rawServer } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import type { Scope } from '../helpers/scope.ts'
import { leaveStale } from '../helpers/stale.ts'
import { turns } from '../helpers/until.ts'

behindEachGate('UnixSocketFile', (gate, scope) => {
  before(function () {
    skipIf(this, process.platform === 'win32', 'needs unix sockets')
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

  describe('whatever the umask', () => {
    for (const umask of ['0022', '0117', '0177', '0777']) {
      it(`${umask}: it listens, with the mode that the umask leaves, and nothing is left beside it`, async function () {
        skipIf(this, process.platform !== 'linux' && umask === '0777', 'needs /proc')
        const dir = scope.tempDir()
        chmodSync(dir, 0o777)
        const program = `
            import { lstatSync, readdirSync } from 'node:fs'
            if (process.getuid() === 0) { process.setgroups([]); process.setgid(65534); process.setuid(65534) }
            process.umask(0o${umask})
            const socket = await GatedListener.bind(onFile('${dir}/s'), options)
            console.log((lstatSync('${dir}/s').mode & 0o777).toString(8), readdirSync('${dir}').join())
            await socket.close()
            console.log(readdirSync('${dir}').length)
          `
        const { stdout, stderr } = await runBehind(gate, program)
        expect(stdout, stderr).to.equal(`${(0o777 & ~Number.parseInt(umask, 8)).toString(8)} s\n0\n`)
      })
    }
  })

  describe('the path is resolved once, at the call', () => {
    it('whenever the working directory changes meanwhile', async () => {
      const [here, there] = [scope.tempDir(), scope.tempDir()]
      const home = process.cwd()
      try {
        for (let turn = 0; turn < 25; turn++) {
          process.chdir(here)
          const pending = GatedListener.bind(onFile('s'), options())
          await turns(turn)
          process.chdir(there)
          const socket = await pending
          expect(readdirSync(here)).to.deep.equal(['s'])
          await socket.close()
          expect(readdirSync(here)).to.deep.equal([])
        }
        expect(readdirSync(there)).to.deep.equal([])
      } finally {
        process.chdir(home)
      }
    })

    it('also if its directory is renamed: the file goes from where it is', async function () {
      skipIf(this, process.platform !== 'linux', 'needs /proc')
      const dir = scope.tempDir()
      mkdirSync(join(dir, 'a'))
      const socket = await bind(scope, join(dir, 'a', 's'))
      renameSync(join(dir, 'a'), join(dir, 'b'))
      mkdirSync(join(dir, 'a'))
      writeFileSync(join(dir, 'a', 's'), 'of somebody else')
      await socket.close()
      expect(readdirSync(join(dir, 'b'))).to.deep.equal([])
      expect(readdirSync(join(dir, 'a'))).to.deep.equal(['s'])
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
})

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
