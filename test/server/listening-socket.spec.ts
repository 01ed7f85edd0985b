import { AsyncLocalStorage } from 'node:async_hooks'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type net from 'node:net'
import { Worker } from 'node:worker_threads'
import { expect } from 'chai'
import type { Accepted } from '../../src/server/gate.ts'
import { GatedListener, type ListeningSocketOptions } from '../../src/server/listening-socket.ts'
import { onFile, onPort, onPortChosenByOs } from '../../src/where-to-listen.ts'
import { CAN_COUNT_DESCRIPTORS, descriptors } from '../helpers/descriptors.ts'
import {
  behindEachGate,
  bindGate,
  type GateUnderTest,
  gateOptions,
  IS_LINUX,
  KINDS,
  kernelGateAvailableAnyway,
  LOOPBACK,
  MODULES,
  queued,
  runBehind,
  sendTo,
  socketOption,
  type Where,
  withImports
} from '../helpers/gates.ts'
import { needs, run, skipIf } from '../helpers/programs.ts'
import { rawClient, readToEnd, type Target } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { turns, until } from '../helpers/until.ts'

behindEachGate('GatedListener', (gate, scope) => {
  for (const [kind, where] of Object.entries(KINDS)) {
    describe(kind, () => {
      const listen = (options?: Partial<ListeningSocketOptions>): Promise<GateUnderTest> => bindGate(scope, where(scope), options)

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
          sendTo(accepted[index] as Accepted, `to ${index}`)
          expect((await readToEnd(client)).toString()).to.equal(`to ${index}`)
        }
      })

      it('clients come in the order of their arrival', async () => {
        const { socket, target, accepted } = await listen()
        const clients: net.Socket[] = []
        for (let client = 0; client < 5; client++) clients.push(await rawClient(scope, target))
        socket.open()
        await until(() => accepted.length === 5)
        for (const [index, client] of accepted.entries()) sendTo(client, String(index))
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
        await bindGate(scope, again as Where)
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
      const { stdout, stderr } = await runBehind(
        gate,
        `const socket = await GatedListener.bind(onPort(0), options)
         setTimeout(() => { console.log('alive'); void socket.close() }, 200).unref()`
      )
      expect(stdout, stderr).to.equal('alive\n')
    })

    for (const state of ['shut', 'open']) {
      it(`unref() opts out while the gate is ${state}`, async () => {
        const { code, stdout, stderr } = await runBehind(
          gate,
          `const socket = await GatedListener.bind(onPort(0), options)
           socket.unref()
           ${state === 'open' ? 'socket.open()' : ''}
           process.on('exit', () => console.log(socket.isOpen))`
        )
        expect({ code, stdout }, stderr).to.deep.equal({ code: 0, stdout: `${state === 'open'}\n` })
      })
    }

    it('ref() undoes unref()', async () => {
      const { stdout } = await runBehind(
        gate,
        `const socket = await GatedListener.bind(onPort(0), options)
         socket.unref(); socket.ref()
         setTimeout(() => { console.log('alive'); void socket.close() }, 200).unref()`
      )
      expect(stdout).to.equal('alive\n')
    })

    it('close() leaves nothing active', async () => {
      const { stdout } = await runBehind(
        gate,
        `const socket = await GatedListener.bind(onPort(0), options)
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
      const { socket, target } = await bindGate(scope, onPortChosenByOs(LOOPBACK) as Where)
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
      await bindGate(scope, onPort(target as number, LOOPBACK) as Where)
      expect(child.exitCode).to.equal(null)
    })
  })

  describe('a worker thread that is terminated', () => {
    it('leaves neither descriptor nor port behind', async () => {
      const before = descriptors()
      const worker = new Worker(
        `void (async () => {
          const { GatedListener } = await import('${MODULES}server/listening-socket.js')
          const { onPort } = await import('${MODULES}where-to-listen.js')
          const socket = await GatedListener.bind(onPort(0, { host: '127.0.0.1' }), { backlog: 5, keepAlive: false, onAccept() {} })
          for (let cycle = 0; cycle < 100; cycle++) { socket.open(); socket.shut() }
          socket.open()
          require('node:worker_threads').parentPort.postMessage(socket.address.port)
        })()`,
        { eval: true }
      )
      const [port] = (await once(worker, 'message')) as [number]
      await rawClient(scope, port)
      await worker.terminate()
      await bindGate(scope, onPort(port, LOOPBACK) as Where)
      if (CAN_COUNT_DESCRIPTORS) await until(() => descriptors() <= before + 3)
    })
  })

  describe('backlog', () => {
    it('is that of the kernel', async function () {
      needs(this, 'ss')
      const { socket, target } = await bindGate(scope, onPortChosenByOs(LOOPBACK) as Where, { backlog: 7 })
      expect(await backlogOf(target)).to.equal(7)
      socket.open()
      expect(await backlogOf(target)).to.equal(7)
      socket.shut()
      expect(await backlogOf(target)).to.equal(7)
    })

    it('longer than the system can be asked for is refused, not wrapped', async () => {
      for (const backlog of [2 ** 31, 2 ** 32, 2 ** 32 + 1]) {
        const error = await rejection(GatedListener.bind(onPortChosenByOs(LOOPBACK), { ...gateOptions([]), backlog }))
        expect(error).to.be.an.instanceOf(RangeError)
        expect((error as Error).message).to.equal(
          `Cannot listen as 'backlog' must be a whole number from 1 to 2147483647: received ${backlog}`
        )
      }
      await bindGate(scope, onPortChosenByOs(LOOPBACK) as Where, { backlog: 2 ** 31 - 1 })
    })

    it('bounds those parked: one more is closed', async function () {
      skipIf(this, gate === 'kernel', 'is about the userland gate')
      const { socket, target, accepted } = await bindGate(scope, onPortChosenByOs(LOOPBACK) as Where, { backlog: 2 })
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
      const { socket, target, accepted } = await bindGate(scope, onPortChosenByOs(LOOPBACK) as Where)
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
      const { socket, target, accepted } = await bindGate(scope, onPortChosenByOs(LOOPBACK) as Where, { keepAlive: 41_500 })
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
      const { socket, target, accepted } = await bindGate(scope, onPortChosenByOs(LOOPBACK) as Where, { keepAlive: false })
      socket.open()
      await rawClient(scope, target)
      await until(() => accepted.length === 1)
      const { fd } = (accepted[0] as { handle: { fd: number } }).handle
      expect([socketOption(fd, 6, 1), socketOption(fd, 1, 9)]).to.deep.equal([1, 0])
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
        const socket = await GatedListener.bind(onPort(0), { ...options, onAccept(client) { accepted.push(client); socket.shut() } })
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
        await (await GatedListener.bind(onPort(0), options)).close()
        const taken = []
        for (;;) { try { taken.push(openSync('/dev/null')) } catch { break } }
        const codes = []
        for (let free = 0; free < 3; free++) {
          try {
            await (await GatedListener.bind(onPort(0), options)).close()
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

async function longWay(): Promise<void> {
  for (let step = 0; step < 20; step++) await Promise.resolve()
}

async function backlogOf(target: Target): Promise<number> {
  const { stdout } = await run('ss', ['-Hltn', `sport = :${target}`])
  return Number(stdout.split(/\s+/)[2])
}
