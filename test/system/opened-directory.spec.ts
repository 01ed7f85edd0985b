import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync
} from 'node:fs'
import promises from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import net from 'node:net'
import { basename, join } from 'node:path'
import { expect } from 'chai'
import { UnixSocketFile } from '../../src/server/unix-socket-file.ts'
import { OpenedDirectory } from '../../src/system/opened-directory.ts'
import { IS_LINUX, MODULES, WITHOUT_LIBC, withImports } from '../helpers/gates.ts'
import { runNode, skipIf } from '../helpers/programs.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'

const NOBODY = 65_534

describe('OpenedDirectory', () => {
  const scope = useScope()

  before(function () {
    skipIf(this, process.platform === 'win32', 'needs unix sockets')
  })

  const open = async (path: string): Promise<OpenedDirectory> => {
    const directory = await OpenedDirectory.open(path)
    scope.defer(() => directory.close())
    return directory
  }

  it('stays the same directory when another takes its name', async () => {
    const dir = scope.tempDir()
    mkdirSync(join(dir, 'a'))
    const directory = await open(join(dir, 'a'))
    renameSync(join(dir, 'a'), join(dir, 'b'))
    mkdirSync(join(dir, 'a'))
    if (IS_LINUX) {
      writeFileSync(directory.at('file'), '')
      expect(readdirSync(join(dir, 'b'))).to.deep.equal(['file'])
    } else {
      expect(() => directory.at('file'))
        .to.throw()
        .that.includes({ code: 'ESTALE' })
    }
    expect(readdirSync(join(dir, 'a'))).to.deep.equal([])
  })

  it('is told by its name where the permission model forbids /proc, and a file there is made all the same', async () => {
    const dir = scope.tempDir()
    const flags = WITHOUT_LIBC.map((flag) =>
      flag === '--allow-fs-write=*' ? `--allow-fs-write=${dir}` : flag === '--allow-fs-read=*' ? `--allow-fs-read=${process.cwd()}` : flag
    )
    const program = `
      import { OpenedDirectory } from '${MODULES}system/opened-directory.js'
      const directory = await OpenedDirectory.open('${dir}')
      console.log(directory.at('s'))
      const socket = await GatedListener.bind(onFile('${dir}/s'), options)
      console.log((await import('node:fs')).readdirSync('${dir}').join())
      await socket.close()
    `
    const args = [...flags, `--allow-fs-read=${dir}`, '--no-warnings', '--input-type=module', '-e', withImports(program)]
    const { stdout, stderr } = await runNode(args, { env: { ...process.env, NODE_OPTIONS: '' } })
    expect(stdout, stderr).to.equal(`${dir}/s\ns\n`)
  })

  it('names nothing any more once it is closed', async function () {
    skipIf(this, !IS_LINUX, 'needs /proc')
    const directory = await open(scope.tempDir())
    directory.close()
    expect(() => directory.at('file'))
      .to.throw()
      .that.includes({ code: 'EBADF' })
  })

  it('makes directories that only this user can enter, whatever the umask', async () => {
    const directory = await open(scope.tempDir())
    for (const umask of [0, 0o022, 0o177]) {
      const before_ = process.umask(umask)
      try {
        const { name, directory: made } = await directory.make('x-')
        scope.defer(() => made.close())
        expect(lstatSync(directory.at(name)).mode & 0o777).to.equal(0o700)
      } finally {
        process.umask(before_)
      }
    }
  })

  describe('refuses a new directory that somebody else has replaced before it was opened', () => {
    const { mkdtemp } = promises
    afterEach(() => {
      promises.mkdtemp = mkdtemp
      syncBuiltinESMExports()
    })

    /** Does `replace` right after the next directory is made, which has been moved away by then. */
    const afterMaking = (replace: (path: string) => void): void => {
      promises.mkdtemp = (async (prefix: string) => {
        const path = await mkdtemp(prefix)
        renameSync(path, `${path}-moved`)
        replace(path)
        return path
      }) as typeof mkdtemp
      syncBuiltinESMExports()
    }

    it('by a link to a directory', async () => {
      const directory = await open(scope.tempDir())
      const target = scope.tempDir()
      afterMaking((path) => symlinkSync(target, path))
      const error = await rejection(directory.make('x-'))
      expect((error as NodeJS.ErrnoException).code).to.be.oneOf(['ENOTDIR', 'ELOOP', 'EPERM'])
      expect(statSync(target).mode & 0o777).to.equal(0o700)
    })

    it('by a directory that others may enter', async () => {
      const directory = await open(scope.tempDir())
      afterMaking((path) => {
        mkdirSync(path)
        chmodSync(path, 0o777)
      })
      const error = await rejection(directory.make('x-'))
      expect(error).to.include({ code: 'EPERM' })
      expect((error as Error).message).to.match(/^the temporary directory .* was replaced by one that is not ours$/)
    })

    it('by a directory of another user', async function () {
      skipIf(this, process.getuid?.() !== 0, 'needs root')
      const directory = await open(scope.tempDir())
      afterMaking((path) => {
        mkdirSync(path, { mode: 0o700 })
        chownSync(path, NOBODY, NOBODY)
      })
      expect(await rejection(directory.make('x-'))).to.include({ code: 'EPERM' })
    })

    it('by a directory with something in it', async () => {
      const directory = await open(scope.tempDir())
      afterMaking((path) => {
        mkdirSync(path, { mode: 0o700 })
        writeFileSync(join(path, 'socket'), '')
      })
      expect(await rejection(directory.make('x-'))).to.include({ code: 'EPERM' })
    })
  })

  describe('whoever swaps the directory of a socket that is being made', () => {
    it('has no file of somebody else changed or removed', async function () {
      skipIf(this, !IS_LINUX, 'needs /proc')
      const dir = scope.tempDir()
      const victim = scope.tempDir()
      const file = await UnixSocketFile.prepare(join(dir, 's'))
      const server = net.createServer()
      scope.defer(() => server.close())
      await new Promise<void>((resolve) => server.listen(file.bindPath, resolve))
      const name = readdirSync(dir)[0] as string
      const known = ['socket', basename(name).slice(-6)]
      for (const each of known) writeFileSync(join(victim, each), 'precious', { mode: 0o600 })
      renameSync(join(dir, name), join(dir, 'moved'))
      symlinkSync(victim, join(dir, name))
      file.rename()
      await file.publish(0o666)
      await file.cleanUp()
      expect(lstatSync(join(dir, 's')).isSocket()).to.equal(true)
      expect(lstatSync(join(dir, 's')).mode & 0o777).to.equal(0o666)
      file.remove()
      for (const each of known) {
        expect(readFileSync(join(victim, each), 'utf8')).to.equal('precious')
        expect(lstatSync(join(victim, each)).mode & 0o777).to.equal(0o600)
      }
      expect(existsSync(join(dir, 's'))).to.equal(false)
      expect(readdirSync(join(dir, 'moved'))).to.deep.equal([])
    })
  })
})
