import { AsyncLocalStorage } from 'node:async_hooks'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import net from 'node:net'
import { devNull } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { expect } from 'chai'
import type { InetAddress, SocketAddress } from '../src/address.ts'
import { ListenError } from '../src/errors.ts'
import { type Accepted, ListeningSocket, type ListeningSocketOptions } from '../src/server/listening-socket.ts'
import { duplicate, handleOf, kernelGateAvailable, systemErrorNamed } from '../src/system/descriptor.ts'
import { onFile, onFileDescriptor, onPort, onPortChosenByOs, type WhereToListen } from '../src/where-to-listen.ts'
import { CAN_COUNT_DESCRIPTORS, descriptors } from './helpers/descriptors.ts'
import { needs, run, runNode, skipIf } from './helpers/programs.ts'
import { closedPort, rawClient, rawServer, readToEnd, type Target } from './helpers/raw.ts'
import { rejection } from './helpers/rejection.ts'
import { type Scope, useScope } from './helpers/scope.ts'
import { turns, until } from './helpers/until.ts'

const MODULES = new URL('../src/', import.meta.url).href
const IS_LINUX = process.platform === 'linux'
const LOOPBACK = { host: '127.0.0.1' }

type Where = WhereToListen<SocketAddress, unknown>

/** A listening socket, and the clients that came in. */
interface Gate {
  readonly socket: ListeningSocket
  readonly target: Target
  readonly accepted: Accepted[]
}

/** The gate's name, and how to have a server behind one. */
const KINDS: Record<string, (scope: Scope) => Where> = {
  tcp: () => onPortChosenByOs(LOOPBACK) as Where,
  unix: (scope) => onFile(join(scope.tempDir(), 's')) as Where,
  ...(IS_LINUX && { abstract: () => onFile(`\0it-tcp-test-${process.pid}-${Math.random()}`) as Where })
}

for (const gate of ['kernel', 'userland'] as const) {
  describe(`ListeningSocket (${gate} gate)`, () => {
    const scope = useScope()
    const asBefore = process.env.IT_TCP_GATE

    before(function () {
      skipIf(this, gate === 'kernel' && !kernelGateAvailable(), 'needs koffi')
    })
    beforeEach(() => {
      process.env.IT_TCP_GATE = gate
    })
    afterEach(() => {
      if (asBefore === undefined) delete process.env.IT_TCP_GATE
      else process.env.IT_TCP_GATE = asBefore
    })

    for (const [kind, where] of Object.entries(KINDS)) {
      describe(kind, () => {
        const listen = (options?: Partial<ListeningSocketOptions>): Promise<Gate> => bind(scope, where(scope), options)

        it('bind() resolves when a connect succeeds, and nobody is let in', async () => {
          const { socket, target, accepted } = await listen()
          expect(socket.gate).to.equal(gate)
          expect(socket.isOpen).to.equal(false)
          for (let client = 0; client < 4; client++) await rawClient(scope, target)
          if (gate === 'userland') await until(() => socket.parked === 4)
          else await turns()
          expect(accepted).to.have.lengthOf(0)
          if (gate === 'kernel') {
            expect(socket.parked).to.equal(0)
            if (IS_LINUX && kind !== 'abstract') expect(await queued(target)).to.equal(4)
          }
        })

        it('open() lets in those that wait, and those that come', async () => {
          const { socket, target, accepted } = await listen()
          const early = await rawClient(scope, target)
          expect(socket.open()).to.equal(true)
          expect(accepted, 'never inside open()').to.have.lengthOf(0)
          expect(socket.isOpen).to.equal(true)
          await until(() => accepted.length === 1)
          const late = await rawClient(scope, target)
          await until(() => accepted.length === 2)
          for (const [index, client] of [early, late].entries()) {
            write(accepted[index] as Accepted, `to ${index}`)
            expect((await readToEnd(client)).toString()).to.equal(`to ${index}`)
          }
        })

        it('clients come in the order of their arrival', async () => {
          const { socket, target, accepted } = await listen()
          const clients: net.Socket[] = []
          for (let client = 0; client < 5; client++) clients.push(await rawClient(scope, target))
          socket.open()
          await until(() => accepted.length === 5)
          for (const [index, client] of accepted.entries()) write(client, String(index))
          const received = await Promise.all(clients.map(readToEnd))
          expect(received.join('')).to.equal('01234')
        })

        it('shut() inside onAccept lets nobody else in', async () => {
          const limit = 2
          const { socket, target, accepted } = await listen({
            onAccept(client) {
              if (accepted.push(client) === limit) socket.shut()
            }
          })
          for (let client = 0; client < 6; client++) await rawClient(scope, target)
          if (gate === 'userland') await until(() => socket.parked === 6)
          socket.open()
          await until(() => !socket.isOpen)
          await turns()
          expect(accepted).to.have.lengthOf(2)
          if (gate === 'kernel' && IS_LINUX && kind !== 'abstract') expect(await queued(target)).to.equal(4)
          if (gate === 'userland') expect(socket.parked).to.equal(4)
        })

        it('all microtasks of one client run before the next', async () => {
          let pending = 0
          let most = 0
          const { socket, target, accepted } = await listen({
            onAccept(client) {
              accepted.push(client)
              most = Math.max(most, ++pending)
              void longWay().then(() => pending--)
            }
          })
          const come = (): Promise<unknown> => Promise.all(Array.from({ length: 10 }, () => rawClient(scope, target)))
          await come()
          if (gate === 'userland') await until(() => socket.parked === 10)
          socket.open()
          await come()
          await until(() => accepted.length === 20)
          expect(most).to.equal(1)
        })

        it('opens and shuts thousands of times without a loss', async () => {
          const { socket, target, accepted } = await listen({
            onAccept(client) {
              accepted.push(client)
              socket.shut()
            }
          })
          const before = descriptors()
          for (let cycle = 0; cycle < 5_000; cycle++) {
            expect(socket.open()).to.equal(true)
            socket.shut()
            if (cycle % 500 === 0) await turns(1)
          }
          for (let client = 0; client < 50; client++) {
            await rawClient(scope, target)
            socket.open()
            await until(() => accepted.length === client + 1)
            expect(socket.isOpen).to.equal(false)
          }
          expect(descriptors()).to.be.at.most(before + 100)
        })

        it('a client never sees the async context of whoever opened the gate', async () => {
          const context = new AsyncLocalStorage<string>()
          const seen: unknown[] = []
          const { socket, target, accepted } = await context.run('bind', () =>
            listen({
              onAccept(client) {
                seen.push(context.getStore())
                accepted.push(client)
                socket.shut()
                context.run('handler', () => socket.open())
              }
            })
          )
          for (let client = 0; client < 3; client++) await rawClient(scope, target)
          if (gate === 'userland') await until(() => socket.parked === 3)
          context.run('first', () => socket.open())
          await rawClient(scope, target)
          await until(() => seen.length === 4)
          expect(seen).to.deep.equal(['bind', 'bind', 'bind', 'bind'])
        })

        it('close() resets those that wait, resolves when the address is free, and is idempotent', async () => {
          const { socket, target } = await listen()
          const clients = [await rawClient(scope, target), await rawClient(scope, target)]
          if (gate === 'userland') await until(() => socket.parked === 2)
          const ends = clients.map((client) => new Promise((resolve) => client.once('end', resolve).once('error', resolve).resume()))
          const closed = socket.close()
          expect(socket.close()).to.equal(closed)
          await closed
          await Promise.all(ends)
          expect(socket.open()).to.equal(false)
          const again = typeof target === 'number' ? onPort(target, LOOPBACK) : onFile(target)
          await bind(scope, again as Where)
          await rawClient(scope, target)
        })

        it('close() of an open gate, inside onAccept, lets nobody else in', async () => {
          const { socket, target, accepted } = await listen({
            onAccept(client) {
              accepted.push(client)
              void socket.close()
            }
          })
          for (let client = 0; client < 3; client++) await rawClient(scope, target)
          socket.open()
          await until(() => accepted.length === 1)
          await socket.close()
          await turns()
          expect(accepted).to.have.lengthOf(1)
        })

        it('fd is the listening descriptor, and -1 once closed', async () => {
          const { socket } = await listen()
          if (CAN_COUNT_DESCRIPTORS) expect(socket.fd).to.be.above(2)
          await socket.close()
          expect(socket.fd).to.equal(-1)
        })
      })
    }

    describe('an open listener keeps the process alive also while the gate is shut', () => {
      it('until it is closed', async () => {
        // The timer alone would not: it fires only in a process that something else keeps alive.
        const { stdout, stderr } = await script(
          gate,
          `const socket = await ListeningSocket.bind(onPort(0), options)
           setTimeout(() => { console.log('alive'); void socket.close() }, 200).unref()`
        )
        expect(stdout, stderr).to.equal('alive\n')
      })

      for (const state of ['shut', 'open']) {
        it(`unref() opts out while the gate is ${state}`, async () => {
          const { code, stdout, stderr } = await script(
            gate,
            `const socket = await ListeningSocket.bind(onPort(0), options)
             socket.unref()
             ${state === 'open' ? 'socket.open()' : ''}
             process.on('exit', () => console.log(socket.isOpen))`
          )
          expect({ code, stdout }, stderr).to.deep.equal({ code: 0, stdout: `${state === 'open'}\n` })
        })
      }

      it('ref() undoes unref()', async () => {
        const { stdout } = await script(
          gate,
          `const socket = await ListeningSocket.bind(onPort(0), options)
           socket.unref(); socket.ref()
           setTimeout(() => { console.log('alive'); void socket.close() }, 200).unref()`
        )
        expect(stdout).to.equal('alive\n')
      })

      it('close() leaves nothing active', async () => {
        const { stdout } = await script(
          gate,
          `const socket = await ListeningSocket.bind(onPort(0), options)
           socket.open(); socket.shut(); socket.open()
           await socket.close()
           // The handles go at the end of this turn, or of the next.
           for (let turn = 0; turn < 2; turn++) await new Promise(setImmediate)
           console.log(process.getActiveResourcesInfo().filter((name) => /TCP|Timeout|Immediate/.test(name)).join())`
        )
        expect(stdout).to.equal('\n')
      })
    })

    describe('child processes inherit nothing', () => {
      it('the port can be bound again and waiting clients are reset while a child lives', async function () {
        needs(this, 'cat')
        const { socket, target } = await bind(scope, onPortChosenByOs(LOOPBACK) as Where)
        socket.open()
        const child = spawn('cat', { stdio: ['pipe', 'ignore', 'inherit'] })
        scope.defer(async () => {
          child.stdin.end()
          await once(child, 'exit')
        })
        await once(child, 'spawn')
        socket.shut()
        const client = await rawClient(scope, target)
        const end = new Promise((resolve) => client.once('end', resolve).once('error', resolve).resume())
        await socket.close()
        await end
        await bind(scope, onPort(target as number, LOOPBACK) as Where)
        expect(child.exitCode).to.equal(null)
      })
    })

    describe('a worker thread that is terminated', () => {
      it('leaves neither descriptor nor port behind', async () => {
        const before = descriptors()
        const worker = new Worker(
          `void (async () => {
            const { ListeningSocket } = await import('${MODULES}listening-socket.js')
            const { onPort } = await import('${MODULES}where-to-listen.js')
            const socket = await ListeningSocket.bind(onPort(0, { host: '127.0.0.1' }), { backlog: 5, keepAlive: false, onAccept() {} })
            for (let cycle = 0; cycle < 100; cycle++) { socket.open(); socket.shut() }
            socket.open()
            require('node:worker_threads').parentPort.postMessage(socket.address.port)
          })()`,
          { eval: true }
        )
        const [port] = (await once(worker, 'message')) as [number]
        await rawClient(scope, port)
        await worker.terminate()
        await bind(scope, onPort(port, LOOPBACK) as Where)
        if (CAN_COUNT_DESCRIPTORS) await until(() => descriptors() <= before + 3)
      })
    })

    describe('onPort', () => {
      it('without a host serves IPv4 and, where there is one, IPv6', async () => {
        const { socket, accepted } = await bind(scope, onPortChosenByOs() as Where)
        const { family, address, port } = socket.address as InetAddress
        expect(address).to.equal(family === 'IPv6' ? '::' : '0.0.0.0')
        expect(port).to.be.above(0)
        socket.open()
        await rawClient(scope, port)
        await until(() => accepted.length === 1)
        if (family !== 'IPv6') return
        const client = net.connect(port, '::1')
        scope.defer(() => client.destroy())
        await once(client, 'connect')
        await until(() => accepted.length === 2)
      })

      it('with ipv6Only leaves IPv4 alone', async function () {
        const socket = await ListeningSocket.bind(onPort(0, { ipv6Only: true }), options([])).catch((error: ListenError) => error)
        skipIf(this, socket instanceof ListenError, 'needs IPv6')
        const listening = socket as ListeningSocket<InetAddress>
        scope.defer(() => listening.close())
        const error = await rejection(rawClient(scope, listening.address.port))
        expect(error).to.include({ code: 'ECONNREFUSED' })
      })

      it('a host name is looked up', async () => {
        const { socket, target } = await bind(scope, onPort(0, { host: 'localhost' }) as Where)
        expect((socket.address as InetAddress).address).to.be.oneOf(['127.0.0.1', '::1'])
        expect(target).to.be.above(0)
      })

      it('a port that is taken is a ListenError with the cause EADDRINUSE', async () => {
        const { target } = await rawServer(scope)
        const error = await rejection(ListeningSocket.bind(onPort(target as number, LOOPBACK), options([])))
        expect(error).to.be.an.instanceOf(ListenError)
        expect((error as Error).message).to.equal(`Cannot listen on 127.0.0.1:${target}: address already in use`)
        expect((error as ListenError).cause).to.include({ code: 'EADDRINUSE', syscall: 'listen' })
        expect((error as ListenError).address).to.deep.equal({ family: 'IPv4', address: '127.0.0.1', port: target })
      })

      it('a host that is not ours, and one that does not resolve, are ListenErrors', async () => {
        const foreign = await rejection(ListeningSocket.bind(onPort(0, { host: '192.0.2.1' }), options([])))
        expect(foreign).to.be.an.instanceOf(ListenError)
        expect((foreign as ListenError).cause).to.include({ code: 'EADDRNOTAVAIL' })
        const unknown = await rejection(ListeningSocket.bind(onPort(0, { host: 'nowhere.invalid' }), options([])))
        expect(unknown).to.be.an.instanceOf(ListenError)
        expect((unknown as Error).message).to.match(/^Cannot listen on nowhere\.invalid:0: /)
      })

      it('reusePort lets two listeners have one port, or says that it is not supported', async () => {
        const first = await ListeningSocket.bind(onPort(0, { ...LOOPBACK, reusePort: true }), options([])).catch((error: unknown) => error)
        if (first instanceof ListenError) {
          expect(first.cause).to.include({ code: 'ENOTSUP' })
          return
        }
        const socket = first as ListeningSocket<InetAddress>
        scope.defer(() => socket.close())
        await bind(scope, onPort(socket.address.port, { ...LOOPBACK, reusePort: true }) as Where)
      })

      describe('a port chosen by the system that turns out to be taken is tried again, up to 10 times', () => {
        const { listen } = net.Server.prototype
        afterEach(() => {
          net.Server.prototype.listen = listen
        })

        /** Makes the next `count` attempts to listen fail as if the port had been taken; returns how many were made. */
        function failToListen(count: number): () => number {
          let attempts = 0
          net.Server.prototype.listen = function (this: net.Server, ...args: unknown[]): net.Server {
            if (++attempts > count) return Reflect.apply(listen, this, args)
            process.nextTick(() => this.emit('error', systemErrorNamed('EADDRINUSE', 'listen')))
            return this
          } as typeof listen
          return () => attempts
        }

        it('9 failures are got over', async () => {
          const attempts = failToListen(9)
          const { target } = await bind(scope, onPortChosenByOs(LOOPBACK) as Where)
          expect(attempts()).to.equal(10)
          await rawClient(scope, target)
        })

        it('the 10th is reported', async () => {
          const attempts = failToListen(10)
          const error = await rejection(ListeningSocket.bind(onPortChosenByOs(LOOPBACK), options([])))
          expect(attempts()).to.equal(10)
          expect((error as ListenError).cause).to.include({ code: 'EADDRINUSE' })
        })

        it('a port that was asked for is tried once', async () => {
          const attempts = failToListen(10)
          expect(await rejection(ListeningSocket.bind(onPort(await freePort(listen), LOOPBACK), options([])))).to.be.an.instanceOf(
            ListenError
          )
          expect(attempts()).to.equal(1)
        })
      })

      it('a failed bind leaves no descriptor open', async () => {
        const { target } = await rawServer(scope)
        const before = descriptors()
        for (let attempt = 0; attempt < 100; attempt++) {
          await rejection(ListeningSocket.bind(onPort(target as number, LOOPBACK), options([])))
        }
        await until(() => descriptors() <= before)
      })
    })

    describe('backlog', () => {
      it('is that of the kernel', async function () {
        needs(this, 'ss')
        const { socket, target } = await bind(scope, onPortChosenByOs(LOOPBACK) as Where, { backlog: 7 })
        expect(await backlogOf(target)).to.equal(7)
        socket.open()
        expect(await backlogOf(target)).to.equal(7)
        socket.shut()
        expect(await backlogOf(target)).to.equal(7)
      })

      it('bounds those parked: one more is closed', async function () {
        skipIf(this, gate === 'kernel', 'is about the userland gate')
        const { socket, target, accepted } = await bind(scope, onPortChosenByOs(LOOPBACK) as Where, { backlog: 2 })
        const clients: net.Socket[] = []
        for (let client = 0; client < 4; client++) clients.push(await rawClient(scope, target))
        const gone = clients.map((client) => new Promise((resolve) => client.once('end', resolve).once('error', resolve).resume()))
        await Promise.all([gone[2], gone[3]])
        expect(socket.parked).to.equal(2)
        socket.open()
        await until(() => accepted.length === 2)
        expect(socket.parked).to.equal(0)
      })

      it('a client that left while it was parked comes in all the same', async function () {
        skipIf(this, gate === 'kernel', 'is about the userland gate')
        const { socket, target, accepted } = await bind(scope, onPortChosenByOs(LOOPBACK) as Where)
        const client = await rawClient(scope, target)
        await until(() => socket.parked === 1)
        client.resetAndDestroy()
        await once(client, 'close')
        socket.open()
        await until(() => accepted.length === 1)
      })
    })

    describe('socket options', () => {
      it('TCP_NODELAY and keep-alive are inherited where it says so', async function () {
        skipIf(this, !IS_LINUX || !kernelGateAvailableAnyway(), 'needs Linux and koffi')
        const { socket, target, accepted } = await bind(scope, onPortChosenByOs(LOOPBACK) as Where, { keepAlive: 41_500 })
        expect(socket.inheritsSocketOptions).to.equal(true)
        socket.open()
        await rawClient(scope, target)
        await until(() => accepted.length === 1)
        const { fd } = (accepted[0] as { handle: { fd: number } }).handle
        // TCP_NODELAY, SO_KEEPALIVE, TCP_KEEPIDLE
        expect([socketOption(fd, 6, 1), socketOption(fd, 1, 9), socketOption(fd, 6, 4)]).to.deep.equal([1, 1, 42])
      })

      it('without keep-alive there is none', async function () {
        skipIf(this, !IS_LINUX || !kernelGateAvailableAnyway(), 'needs Linux and koffi')
        const { socket, target, accepted } = await bind(scope, onPortChosenByOs(LOOPBACK) as Where, { keepAlive: false })
        socket.open()
        await rawClient(scope, target)
        await until(() => accepted.length === 1)
        const { fd } = (accepted[0] as { handle: { fd: number } }).handle
        expect([socketOption(fd, 6, 1), socketOption(fd, 1, 9)]).to.deep.equal([1, 0])
      })
    })

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
        const { socket, accepted } = await bind(scope, onFileDescriptor(fd) as Where)
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
        const { socket } = await bind(scope, onFileDescriptor(fd) as Where)
        if (IS_LINUX) expect(socket.address).to.deep.equal({ family: 'unix', path })
        await socket.close()
        expect(existsSync(path)).to.equal(true)
      })

      it('tells an abstract name', async function () {
        skipIf(this, !IS_LINUX, 'needs abstract names')
        const path = `\0it-tcp-adopted-${process.pid}`
        const [fd] = await adopted(path)
        const { socket, accepted } = await bind(scope, onFileDescriptor(fd) as Where)
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
          const error = await rejection(ListeningSocket.bind(onFileDescriptor(fd), options([])))
          expect(error).to.be.an.instanceOf(ListenError)
          expect((error as ListenError).address).to.deep.equal({ fd })
          expect((error as ListenError).cause).to.include({ code })
          expect((error as Error).message).to.match(new RegExp(`^Cannot listen on descriptor ${fd}: .*[^.]$`))
        }
      })

      it('serves what a parent process hands down', async () => {
        const [fd, target] = await adopted()
        const program = `
          const socket = await ListeningSocket.bind(onFileDescriptor(3), { ...options, onAccept(client) {
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
    })

    describe('open() needs two free descriptors', () => {
      it('otherwise it is false, nothing has changed, and the clients wait', async function () {
        skipIf(this, gate === 'userland', 'is about the kernel gate')
        needs(this, 'sh')
        const program = `
          import { openSync, closeSync } from 'node:fs'
          import { setImmediate } from 'node:timers/promises'
          const accepted = []
          const socket = await ListeningSocket.bind(onPort(0), { ...options, onAccept(client) { accepted.push(client); socket.shut() } })
          const client = net.connect(socket.address.port)
          await new Promise((resolve) => client.once('connect', resolve))
          const taken = []
          for (;;) { try { taken.push(openSync('/dev/null')) } catch { break } }
          const results = [socket.open(), socket.isOpen]
          closeSync(taken.pop())
          results.push(socket.open(), socket.isOpen)
          closeSync(taken.pop())
          results.push(socket.open())
          while (accepted.length === 0) await setImmediate()
          console.log(results.join(' '), accepted.length)
          process.exit()
        `
        const { stdout, stderr } = await run('sh', ['-c', 'ulimit -n 64 && exec "$NODE" --no-warnings --input-type=module -e "$PROGRAM"'], {
          env: { ...process.env, NODE_OPTIONS: '', NODE: process.execPath, PROGRAM: withImports(program) }
        })
        expect(stdout, stderr).to.equal('false false false false true 1\n')
      })

      it('bind() without any is a ListenError with the cause EMFILE', async function () {
        needs(this, 'sh')
        const program = `
          import { openSync, closeSync } from 'node:fs'
          await (await ListeningSocket.bind(onPort(0), options)).close()
          const taken = []
          for (;;) { try { taken.push(openSync('/dev/null')) } catch { break } }
          const codes = []
          for (let free = 0; free < 3; free++) {
            try {
              await (await ListeningSocket.bind(onPort(0), options)).close()
              codes.push('ok')
            } catch (error) { codes.push(error.name + ' ' + error.cause.code) }
            closeSync(taken.pop())
          }
          console.log(codes.join())
          process.exit()
        `
        const { stdout, stderr } = await run('sh', ['-c', 'ulimit -n 64 && exec "$NODE" --no-warnings --input-type=module -e "$PROGRAM"'], {
          env: { ...process.env, NODE_OPTIONS: '', IT_TCP_GATE: gate, NODE: process.execPath, PROGRAM: withImports(program) }
        })
        const failure = 'ListenError EMFILE'
        expect(stdout, stderr).to.equal(`${failure},${gate === 'kernel' ? failure : 'ok'},ok\n`)
      })
    })
  })
}

describe('ListeningSocket in a cluster worker', () => {
  const scope = useScope()

  it('has the userland gate, shares the port and the path of the primary, and takes over a stale path', async function () {
    skipIf(this, process.platform === 'win32', 'needs unix sockets')
    const dir = scope.tempDir()
    const file = join(dir, 'worker.mjs')
    const path = join(dir, 's')
    const stale = net.createServer()
    await new Promise<void>((resolve) => stale.listen(`${path}~`, resolve))
    await run('mv', [`${path}~`, path])
    await new Promise((resolve) => stale.close(resolve))
    writeFileSync(
      file,
      withImports(`
        import cluster from 'node:cluster'
        import { once } from 'node:events'
        if (cluster.isPrimary) {
          const ask = async (where) => {
            const workers = [cluster.fork(), cluster.fork()]
            await Promise.all(workers.map((worker) => once(worker, 'message')))
            for (const worker of workers) {
              worker.send(where)
              const [message] = await once(worker, 'message')
              console.log(message)
            }
            const port = await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve).send('where'))))
            const client = net.connect(port[0])
            let text = ''
            for await (const chunk of client.setEncoding('utf8')) text += chunk
            console.log(text, port[0] === port[1])
            for (const worker of workers) worker.send('close')
            await Promise.all(workers.map((worker) => once(worker, 'exit')))
          }
          await ask('port')
          await ask(${JSON.stringify(path)})
        } else {
          let socket
          process.on('message', async (message) => {
            if (message === 'where') process.send(socket.address.path ?? socket.address.port)
            else if (message === 'close') { await socket.close(); process.disconnect() }
            else {
              const where = message === 'port' ? onPort(0, { host: '127.0.0.1' }) : onFile(message, { mode: 0o600 })
              try {
                socket = await ListeningSocket.bind(where, { ...options, onAccept: ({ socket }) => socket.on('error', () => {}).end('hello') })
                socket.open()
                process.send(socket.gate)
              } catch (error) { process.send(String(error)) }
            }
          })
          process.send('ready')
        }
      `)
    )
    const { stdout, stderr } = await runNode([file], { env: { ...process.env, NODE_OPTIONS: '' }, killAfter: 8_000 })
    expect(stdout, stderr).to.equal('userland\nuserland\nhello true\nuserland\nuserland\nhello true\n')
    expect(existsSync(path)).to.equal(false)
  })
})

function options(accepted: Accepted[]): ListeningSocketOptions {
  return {
    backlog: 511,
    keepAlive: 60_000,
    onAccept(client) {
      accepted.push(client)
    }
  }
}

async function bind(scope: Scope, where: Where, given: Partial<ListeningSocketOptions> = {}): Promise<Gate> {
  const accepted: Accepted[] = []
  const socket = await ListeningSocket.bind(where, { ...options(accepted), ...given })
  scope.defer(async () => {
    await socket.close()
    for (const client of accepted) {
      if ('handle' in client) client.handle.close()
      else client.socket.destroy()
    }
  })
  const { address } = socket
  // The test may have brought its own `accepted`, which then is this one, filled by its own `onAccept`.
  return { socket, accepted, target: address.family === 'unix' ? address.path : address.port }
}

/** Sends text and the end to a client. */
function write(client: Accepted, text: string): void {
  const socket = 'socket' in client ? client.socket : new net.Socket({ handle: client.handle } as net.SocketConstructorOpts)
  socket.on('error', () => {})
  socket.end(text)
}

async function longWay(): Promise<void> {
  for (let step = 0; step < 20; step++) await Promise.resolve()
}

async function freePort(listen: typeof net.Server.prototype.listen): Promise<number> {
  const patched = net.Server.prototype.listen
  net.Server.prototype.listen = listen
  try {
    return await closedPort()
  } finally {
    net.Server.prototype.listen = patched
  }
}

/** Whether koffi is there, whichever gate the environment asks for. */
function kernelGateAvailableAnyway(): boolean {
  const { IT_TCP_GATE } = process.env
  delete process.env.IT_TCP_GATE
  try {
    return kernelGateAvailable()
  } finally {
    if (IT_TCP_GATE !== undefined) process.env.IT_TCP_GATE = IT_TCP_GATE
  }
}

/** Clients in a listener's queue, as the kernel counts them: in /proc/net/tcp the queue of a listening socket, or as `ss` prints it. */
async function queued(target: Target): Promise<number> {
  if (typeof target === 'number') {
    const port = target.toString(16).toUpperCase().padStart(4, '0')
    const row = readFileSync('/proc/net/tcp', 'utf8')
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .find((columns) => columns[1]?.endsWith(`:${port}`) && columns[3] === '0A')
    return Number.parseInt(row?.[4]?.split(':')[1] ?? '', 16)
  }
  // Where `ss` is missing there is nothing to compare.
  const { stdout } = await run('ss', ['-Hlxn', 'src', target]).catch(() => ({ stdout: '' }))
  return Number(stdout.split(/\s+/)[2] ?? 4)
}

async function backlogOf(target: Target): Promise<number> {
  const { stdout } = await run('ss', ['-Hltn', `sport = :${target}`])
  return Number(stdout.split(/\s+/)[2])
}

function socketOption(fd: number, level: number, name: number): number {
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi')
  const getsockopt = koffi.load(null).func('int getsockopt(int fd, int level, int name, void *value, void *length)')
  const value = new Int32Array(1)
  expect(getsockopt(fd, level, name, value, Int32Array.of(4))).to.equal(0)
  return value[0] as number
}

function withImports(program: string): string {
  return `
    import net from 'node:net'
    import { ListeningSocket } from '${MODULES}listening-socket.js'
    import { onFile, onFileDescriptor, onPort } from '${MODULES}where-to-listen.js'
    const options = { backlog: 511, keepAlive: false, onAccept() {} }
    ${program}
  `
}

function script(gate: string, program: string): ReturnType<typeof run> {
  return runNode(['--no-warnings', '--input-type=module', '-e', withImports(program)], {
    env: { ...process.env, NODE_OPTIONS: '', IT_TCP_GATE: gate }
  })
}
