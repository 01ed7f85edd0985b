import { closeSync, fstatSync, openSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { devNull } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { descriptorLimit, duplicate, isDescriptorFree, kernelGateAvailable } from '../../src/system/descriptors.ts'
import { checkListening } from '../../src/system/inherited-socket.ts'
import { adopt, handleOf } from '../../src/system/node-internals.ts'
import { systemErrorNamed } from '../../src/system/system-error.ts'
import { CAN_COUNT_DESCRIPTORS, descriptors } from '../helpers/descriptors.ts'
import { WITHOUT_LIBC } from '../helpers/gates.ts'
import { needs, run, runNode, skipIf } from '../helpers/programs.ts'
import { rawServer } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'
import { until } from '../helpers/until.ts'

const MODULES = new URL('../../src/system/', import.meta.url).href

describe('descriptors', () => {
  const scope = useScope()

  describe('kernelGateAvailable()', () => {
    it('is false where the environment asks for the userland gate', async () => {
      const { stdout } = await script('console.log(kernelGateAvailable())', { IT_TCP_GATE: 'userland' })
      expect(stdout).to.equal('false\n')
    })

    it('is false in a cluster worker', async () => {
      // A worker runs a file.
      const file = join(scope.tempDir(), 'worker.mjs')
      const program = `
        import cluster from 'node:cluster'
        if (cluster.isPrimary) cluster.fork()
        else { console.log(kernelGateAvailable()); process.disconnect() }
      `
      writeFileSync(file, withImports(program))
      const { stdout, stderr } = await runNode([file], { env: { ...process.env, NODE_OPTIONS: '' } })
      expect(stdout, stderr).to.equal('false\n')
    })

    it('is false where loading native code is forbidden', async () => {
      const { stdout, stderr } = await script('console.log(kernelGateAvailable(), descriptorLimit())', {}, WITHOUT_LIBC)
      expect(stdout, stderr).to.match(/^false \d+\n$/)
    })
  })

  describe('duplicate() and adopt()', () => {
    beforeEach(function () {
      skipIf(this, !kernelGateAvailable(), 'needs koffi')
    })

    it('duplicates a descriptor, which the handle closes once', async () => {
      const { server } = await rawServer(scope)
      const before = descriptors()
      const handle = adopt(duplicate(handleOf(server)?.fd ?? -1))
      expect(handle.fd).to.be.above(2)
      if (CAN_COUNT_DESCRIPTORS) expect(descriptors()).to.equal(before + 1)
      await new Promise<void>((resolve) => handle.close(resolve))
      expect(descriptors()).to.equal(before)
    })

    it('throws EBADF as Node.js would for a descriptor that is closed', () => {
      const fd = closedDescriptor()
      expect(() => duplicate(fd))
        .to.throw(Error, 'fcntl EBADF: bad file descriptor')
        .that.includes({ code: 'EBADF', errno: -9, syscall: 'fcntl' })
    })

    it('duplicates are not inherited by child processes', async function () {
      needs(this, 'ls')
      skipIf(this, !CAN_COUNT_DESCRIPTORS, 'needs /proc')
      const { server } = await rawServer(scope)
      const fd = duplicate(handleOf(server)?.fd ?? -1)
      const { stdout } = await run('ls', ['/proc/self/fd'])
      closeSync(fd)
      expect(stdout.split('\n')).not.to.include(String(fd))
    })

    it('a worker thread that ends closes what it adopted', async function () {
      skipIf(this, !CAN_COUNT_DESCRIPTORS, 'needs /proc')
      const { Worker } = await import('node:worker_threads')
      const before = descriptors()
      const worker = new Worker(
        `(async () => {
          const net = require('node:net')
          const { duplicate } = await import('${MODULES}descriptors.js')
          const { adopt, handleOf } = await import('${MODULES}node-internals.js')
          const server = net.createServer().listen(0, () => {
            for (let count = 0; count < 5; count++) adopt(duplicate(handleOf(server).fd))
            require('node:worker_threads').parentPort.postMessage('adopted')
          })
        })()`,
        { eval: true }
      )
      await new Promise((resolve) => worker.once('message', resolve))
      expect(descriptors()).to.be.at.least(before + 6)
      await worker.terminate()
      await until(() => descriptors() <= before)
    })
  })

  describe('descriptorLimit()', () => {
    it('is the soft limit of this process', async function () {
      needs(this, 'sh')
      const { stdout } = await limited(64, 'console.log(descriptorLimit())')
      expect(stdout).to.equal('64\n')
    })

    it('is the same without koffi', async function () {
      needs(this, 'sh')
      skipIf(this, process.platform !== 'linux', 'needs /proc')
      const { stdout } = await limited(64, 'console.log(descriptorLimit())', WITHOUT_LIBC.join(' '))
      expect(stdout).to.equal('64\n')
    })

    it('is a number above that of any open descriptor, or unknown', () => {
      expect(descriptorLimit() ?? Number.POSITIVE_INFINITY).to.be.above(descriptors())
    })
  })

  describe('isDescriptorFree()', () => {
    // Tries what it says by opening as many: with descriptors left at the top, in the middle and at the bottom.
    const program = `
      import { openSync, closeSync } from 'node:fs'
      const opened = []
      const fill = () => { for (;;) { try { opened.push(openSync('/dev/null')) } catch { return } } }
      const answers = () => [isDescriptorFree(1), isDescriptorFree(2)].map(Number).join('')
      const seen = [answers()]
      fill()
      seen.push(answers())
      for (const end of ['pop', 'shift']) {
        closeSync(opened[end]())
        seen.push(answers())
        closeSync(opened[end]())
        seen.push(answers())
        fill()
        opened.sort((a, b) => a - b)
        seen.push(answers())
      }
      closeSync(opened.pop())
      closeSync(opened.shift())
      seen.push(answers())
      console.log(seen.join(' '))
    `
    const expected = '11 00 10 11 00 10 11 00 11\n'

    it('tells whether one or two more can be opened, wherever the unused numbers are', async function () {
      needs(this, 'sh')
      const { stdout, stderr } = await limited(64, program)
      expect(stdout, stderr).to.equal(expected)
    })

    it('tells the same without koffi', async function () {
      needs(this, 'sh')
      const { stdout, stderr } = await limited(64, program, WITHOUT_LIBC.join(' '))
      expect(stdout, stderr).to.equal(expected)
    })

    it('leaves nothing open', () => {
      const before = descriptors()
      for (let count = 0; count < 100; count++) expect(isDescriptorFree(2)).to.equal(true)
      expect(descriptors()).to.equal(before)
    })
  })

  describe('checkListening()', () => {
    it('accepts a listening socket', async () => {
      const { server } = await rawServer(scope)
      checkListening(handleOf(server)?.fd ?? -1)
    })

    it('refuses a descriptor that is closed, and one of a file', () => {
      const fd = openSync(devNull, 'r')
      try {
        expect(() => checkListening(fd))
          .to.throw()
          .that.includes({ code: 'ENOTSOCK' })
      } finally {
        closeSync(fd)
      }
      expect(() => checkListening(closedDescriptor()))
        .to.throw()
        .that.includes({ code: 'EBADF' })
    })

    it('refuses a socket that does not listen, also without koffi', async () => {
      const program = `
        import { createServer, connect } from 'node:net'
        const server = createServer().listen(0, '127.0.0.1', () => {
          checkListening(server._handle.fd)
          const client = connect(server.address().port, '127.0.0.1', () => {
            try { checkListening(client._handle.fd) } catch (error) { console.log(error.code) }
            process.exit()
          })
        })
      `
      expect((await script(program)).stdout).to.equal('EINVAL\n')
      const { stdout, stderr } = await script(program, {}, WITHOUT_LIBC)
      if (process.platform === 'linux') expect(stdout, stderr).to.equal('EINVAL\n')
    })
  })

  it('systemErrorNamed() is like the error of Node.js itself', async () => {
    const { target } = await rawServer(scope)
    const second = createServer().listen(target as number, '127.0.0.1')
    const theirs = await new Promise<NodeJS.ErrnoException>((resolve) => second.once('error', resolve))
    const ours = systemErrorNamed('EADDRINUSE', 'listen')
    expect(ours).to.include({ code: theirs.code, errno: theirs.errno, syscall: theirs.syscall })
    expect(theirs.message.startsWith(ours.message)).to.equal(true)
  })
})

function closedDescriptor(): number {
  let fd = 900
  for (;;) {
    try {
      fstatSync(++fd)
    } catch {
      return fd
    }
  }
}

/** Runs a program that has everything of the module at hand. */
function script(program: string, env: Record<string, string> = {}, flags: readonly string[] = []): ReturnType<typeof run> {
  return runNode([...flags, '--no-warnings', '--input-type=module', '-e', withImports(program)], {
    env: { ...process.env, NODE_OPTIONS: '', IT_TCP_GATE: '', ...env }
  })
}

function limited(limit: number, program: string, flags = ''): ReturnType<typeof run> {
  const command = `ulimit -n ${limit} && exec "$NODE" ${flags} --no-warnings --input-type=module -e "$PROGRAM"`
  return run('sh', ['-c', command], { env: { ...process.env, NODE_OPTIONS: '', NODE: process.execPath, PROGRAM: withImports(program) } })
}

function withImports(program: string): string {
  return `
    import { descriptorLimit, isDescriptorFree, kernelGateAvailable } from '${MODULES}descriptors.js'
    import { checkListening } from '${MODULES}inherited-socket.js'
    ${program}
  `
}
