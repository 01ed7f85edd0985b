import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, openSync, readlinkSync, writeFileSync } from 'node:fs'
import { devNull } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { expect } from 'chai'
import { ListenError } from '../../src/errors.ts'
import { GatedListener } from '../../src/server/listening-socket.ts'
import { duplicate } from '../../src/system/descriptors.ts'
import { handleOf } from '../../src/system/node-internals.ts'
import { onFileDescriptor } from '../../src/where-to-listen.ts'
import {
  behindEachGate,
  bindGate,
  gateOptions,
  IS_LINUX,
  kernelGateAvailableAnyway,
  MODULES,
  type Where,
  WITHOUT_LIBC,
  withImports
} from '../helpers/gates.ts'
import { skipIf } from '../helpers/programs.ts'
import { rawClient, rawServer, readToEnd, type Target } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { until } from '../helpers/until.ts'

behindEachGate('bind() of a descriptor', (gate, scope) => {
  describe('onFileDescriptor', () => {
    beforeEach(function () {
      skipIf(this, !kernelGateAvailableAnyway(), 'needs koffi to make descriptors')
    })

    const adopted = async (path?: string): Promise<[fd: number, target: Target]> => {
      const { server, target } = await rawServer(scope, path)
      const fd = duplicate(handleOf(server)?.fd ?? -1)
      // Only the duplicate is to accept.
      await new Promise((resolve) => server.close(resolve))
      return [fd, target]
    }

    it('serves an inherited TCP listener', async () => {
      const [fd, target] = await adopted()
      const { socket, accepted } = await bindGate(scope, onFileDescriptor(fd) as Where)
      expect(socket.address).to.deep.equal({ family: 'IPv4', address: '127.0.0.1', port: target })
      await rawClient(scope, target)
      socket.open()
      await until(() => accepted.length === 1)
      await socket.close()
      expect(await rejection(rawClient(scope, target))).to.include({ code: 'ECONNREFUSED' })
    })

    it('serves an inherited unix listener, whose file is left to its maker', async () => {
      const path = join(scope.tempDir(), 's')
      const [fd] = await adopted(path)
      // It went with the server of the test: any other file would have to stay just so.
      writeFileSync(path, '')
      const { socket } = await bindGate(scope, onFileDescriptor(fd) as Where)
      if (IS_LINUX) expect(socket.address).to.deep.equal({ family: 'unix', path })
      await socket.close()
      expect(existsSync(path)).to.equal(true)
    })

    it('tells an abstract name', async function () {
      skipIf(this, !IS_LINUX, 'needs abstract names')
      const path = `\0it-tcp-adopted-${process.pid}`
      const [fd] = await adopted(path)
      const { socket, accepted } = await bindGate(scope, onFileDescriptor(fd) as Where)
      expect(socket.address).to.deep.equal({ family: 'unix', path })
      socket.open()
      await rawClient(scope, path)
      await until(() => accepted.length === 1)
    })

    it('one that is closed, a file, a connection are ListenErrors', async () => {
      const cases: [fd: number, code: string][] = [[987, 'EBADF']]
      const file = openSync(devNull, 'r')
      scope.defer(() => closeSync(file))
      cases.push([file, 'ENOTSOCK'])
      const { target } = await rawServer(scope)
      const connection = duplicate(handleOf(await rawClient(scope, target))?.fd ?? -1)
      scope.defer(() => closeSync(connection))
      cases.push([connection, 'EINVAL'])
      for (const [fd, code] of cases) {
        const error = await rejection(GatedListener.bind(onFileDescriptor(fd), gateOptions([])))
        expect(error).to.be.an.instanceOf(ListenError)
        expect((error as ListenError).address).to.deep.equal({ fd })
        expect((error as ListenError).cause).to.include({ code })
        expect((error as Error).message).to.match(new RegExp(`^Cannot listen on descriptor ${fd}: .*[^.]$`))
      }
    })

    it('serves what a parent process hands down', async () => {
      const [fd, target] = await adopted()
      const program = `
        const socket = await GatedListener.bind(onFileDescriptor(3), { ...options, onAccept(client) {
          ;(client.socket ?? new net.Socket({ handle: client.handle })).end('from the child')
          void socket.close()
        } })
        socket.open()
      `
      const child = spawn(process.execPath, ['--input-type=module', '-e', withImports(program)], {
        stdio: ['ignore', 'ignore', 'inherit', fd],
        env: { ...process.env, IT_TCP_GATE: gate }
      })
      closeSync(fd)
      const client = await rawClient(scope, target)
      expect((await readToEnd(client)).toString()).to.equal('from the child')
      client.end()
      const [code] = await once(child, 'exit')
      expect(code).to.equal(0)
    })

    it('one number is adopted once: a second server is refused, and the first goes on', async () => {
      const [fd, target] = await adopted()
      const { socket, accepted } = await bindGate(scope, onFileDescriptor(fd) as Where)
      for (const where of [onFileDescriptor(fd), onFileDescriptor(fd, { duplicate: true })]) {
        const error = (await rejection(GatedListener.bind(where, gateOptions([])))) as ListenError
        expect(error).to.be.an.instanceOf(ListenError)
        expect(error.cause).to.include({ code: 'EBUSY' })
        expect(error.message).to.equal(
          `Cannot listen on descriptor ${fd}: a server of this process has adopted it already; { duplicate: true } lets several share one`
        )
      }
      socket.open()
      await rawClient(scope, target)
      await until(() => accepted.length === 1)
    })

    it('one number is adopted once, also by two threads', async () => {
      const [fd, target] = await adopted()
      const { socket, accepted } = await bindGate(scope, onFileDescriptor(fd) as Where)
      const worker = new Worker(
        `void (async () => {
          const { GatedListener } = await import('${MODULES}server/listening-socket.js')
          const { onFileDescriptor } = await import('${MODULES}where-to-listen.js')
          const bound = GatedListener.bind(onFileDescriptor(${fd}), { backlog: 5, keepAlive: false, onAccept() {} })
          require('node:worker_threads').parentPort.postMessage(await bound.then(() => 'bound', (error) => error.cause.code))
        })()`,
        { eval: true }
      )
      const [outcome] = await once(worker, 'message')
      await worker.terminate()
      expect(outcome).to.equal('EBUSY')
      socket.open()
      await rawClient(scope, target)
      await until(() => accepted.length === 1)
    })

    it('the number stays taken until the server is closed, and is free then', async function () {
      skipIf(this, !IS_LINUX, 'needs /proc')
      const [fd] = await adopted()
      const { socket } = await bindGate(scope, onFileDescriptor(fd) as Where)
      expect(readlinkSync(`/proc/self/fd/${fd}`)).to.equal('/dev/null')
      expect(socket.fd).not.to.equal(fd)
      await socket.close()
      expect(existsSync(`/proc/self/fd/${fd}`)).to.equal(false)
    })

    it('with duplicate it stays with the caller, several share one queue, and each closes alone', async () => {
      const [fd, target] = await adopted()
      scope.defer(() => closeSync(fd))
      const where = onFileDescriptor(fd, { duplicate: true }) as Where
      const first = await bindGate(scope, where)
      const second = await bindGate(scope, where)
      first.socket.open()
      await rawClient(scope, target)
      await until(() => first.accepted.length === 1)
      await first.socket.close()
      await rawClient(scope, target)
      second.socket.open()
      await until(() => second.accepted.length === 1)
      await second.socket.close()
      const third = await bindGate(scope, where)
      third.socket.open()
      await rawClient(scope, target)
      await until(() => third.accepted.length === 1)
    })

    for (const flags of [[], WITHOUT_LIBC]) {
      it(`standard input is closed with its server${flags.length > 0 ? ', also without libc' : ''}`, async () => {
        const [fd, target] = await adopted()
        const program = `
          const socket = await GatedListener.bind(onFileDescriptor(0), { ...options, onAccept(client) { (client.socket ?? client.handle)[client.socket ? 'destroy' : 'close']() } })
          await socket.close()
          const after = await GatedListener.bind(onFileDescriptor(0), options).catch((error) => error.cause.code)
          console.log(after)
          setInterval(() => {}, 1000)
        `
        const child = spawn(process.execPath, [...flags, '--no-warnings', '--input-type=module', '-e', withImports(program)], {
          stdio: [fd, 'pipe', 'inherit'],
          env: { ...process.env, NODE_OPTIONS: '', IT_TCP_GATE: gate }
        })
        scope.defer(async () => {
          child.kill('SIGKILL')
          await once(child, 'close')
        })
        closeSync(fd)
        const [line] = await once(child.stdout as NodeJS.ReadableStream, 'data')
        expect(String(line)).to.be.oneOf(['EBUSY\n', 'ENOTSOCK\n'])
        expect(await rejection(rawClient(scope, target))).to.include({ code: 'ECONNREFUSED' })
      })
    }
  })
})
