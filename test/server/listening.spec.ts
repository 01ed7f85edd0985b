import { getEventListeners, once } from 'node:events'
import { readdirSync } from 'node:fs'
import net from 'node:net'
import { mock } from 'node:test'
import { Worker } from 'node:worker_threads'
import { expect } from 'chai'
import type { InetAddress, SocketAddress } from '../../src/address.ts'
import { ListenError } from '../../src/errors.ts'
import { listen } from '../../src/listen.ts'
import { Server } from '../../src/server.ts'
import { onFile, onPort, WhereToListen } from '../../src/where-to-listen.ts'
import { descriptors } from '../helpers/descriptors.ts'
import { skipIf } from '../helpers/programs.ts'
import type { Target } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { CAN_GATE_IN_KERNEL, closed, inEverySocketSetting } from '../helpers/settings.ts'
import { until } from '../helpers/until.ts'

describe('Server: listening', () => {
  inEverySocketSetting((setting) => {
    const { isTcp, isKernel, scope, client, clients, turns } = setting

    describe('backlog: clients beyond it are turned away as the system does it', () => {
      it('the userland gate closes them', async function () {
        skipIf(this, isKernel, 'needs the userland gate')
        const server = await setting.listen({ backlog: 2 })
        const sockets = [await client(server), await client(server), await client(server)]
        await endOf(sockets[2] as net.Socket)
        await turns()
        expect(sockets.slice(0, 2).map(({ readableEnded }) => readableEnded)).to.deep.equal([false, false])
        for (const socket of sockets.slice(0, 2)) socket.write('x\n')
        expect(await (await server.accept()).reader.readLine()).to.equal('x')
        expect(await (await server.accept()).reader.readLine()).to.equal('x')
      })

      it('Linux lets TCP clients retry until they get in', async function () {
        skipIf(this, !isKernel || !isTcp || process.platform !== 'linux', 'needs the kernel’s queue of TCP on Linux')
        const server = await setting.listen({ backlog: 1 })
        await clients(server, 2)
        const late = net.connect(server.listeningOn as number, '127.0.0.1')
        scope.defer(() => late.destroy())
        late.write('late\n')
        await turns(50)
        expect(late.connecting).to.equal(true)
        const lines: (string | null)[] = []
        while (lines.length < 3) {
          const connection = await server.accept()
          lines.push(await connection.reader.readLine())
        }
        expect(lines).to.deep.equal(['1', '2', 'late'])
      })

      it('Linux fails unix clients with EAGAIN', async function () {
        skipIf(this, !isKernel || isTcp || process.platform !== 'linux', 'needs the kernel’s queue of unix sockets on Linux')
        const server = await setting.listen({ backlog: 1 })
        await clients(server, 2)
        expect(await rejection(client(server))).to.include({ code: 'EAGAIN' })
      })
    })

    describe('the worker thread of a server', () => {
      it('that is terminated leaves nothing behind: clients are told and the address can be bound again', async () => {
        const before = descriptors()
        const where = isTcp ? "onPort(0, { host: '127.0.0.1' })" : `onFile(${JSON.stringify(`${scope.tempDir()}/s`)})`
        const worker = new Worker(
          `import(${JSON.stringify(new URL('../../src/index.js', import.meta.url).href)}).then(async ({ listen, onPort, onFile }) => {
            const server = await listen(${where})
            void server.accept()
            require('node:worker_threads').parentPort.postMessage(server.listeningOn)
          })`,
          { eval: true }
        )
        const [target] = (await once(worker, 'message')) as [Target]
        const sockets = [await connectRaw(target), await connectRaw(target)]
        const ends = sockets.map(endOf)
        await worker.terminate()
        await Promise.all(ends)
        const again = await (typeof target === 'string' ? listen(onFile(target)) : listen(onPort(target, { host: '127.0.0.1' })))
        await again.close()
        await until(() => descriptors() <= before)
      })
    })
  })

  describe('a listeningOn that fails', () => {
    const scope = useScope()
    const failure = new Error('mine')
    for (const kind of ['IPv4', 'unix']) {
      it(`${kind}: listen and Server.create reject with its error, and nothing is left behind`, async () => {
        const directory = scope.tempDir()
        const address =
          kind === 'unix'
            ? ({ family: 'unix', path: `${directory}/s` } as const)
            : ({ family: 'IPv4', address: '127.0.0.1', port: 0 } as const)
        let bound: SocketAddress | undefined
        const where = WhereToListen.create<SocketAddress, never>({
          address,
          listeningOn: (given) => {
            bound = given
            throw failure
          }
        })
        await (await listen(onPort(0))).close()
        const before = descriptors()
        expect(await rejection(listen(where))).to.equal(failure)
        expect(await rejection(Server.create(where, () => {}))).to.equal(failure)
        expect(bound?.family).to.equal(kind)
        await until(() => descriptors() === before)
        expect(readdirSync(directory)).to.deep.equal([])
        const again = bound?.family === 'unix' ? onFile(bound.path) : onPort((bound as InetAddress).port, { host: '127.0.0.1' })
        await (await listen(again)).close()
      })
    }

    it('aborts the signal of listen: it rejects with the reason, and nothing is left behind', async () => {
      const controller = new AbortController()
      const where = WhereToListen.create<InetAddress, number>({
        address: { family: 'IPv4', address: '127.0.0.1', port: 0 },
        listeningOn: ({ port }) => {
          controller.abort(failure)
          return port
        }
      })
      await (await listen(onPort(0))).close()
      const before = descriptors()
      expect(await rejection(listen(where, { signal: controller.signal }))).to.equal(failure)
      await until(() => descriptors() === before)
      expect(getEventListeners(controller.signal, 'abort')).to.deep.equal([])
    })
  })

  describe('what is no place to listen, and what are no options', () => {
    const REFUSED: readonly [() => Promise<unknown>, string][] = [
      [() => Server.create(8080 as never, () => {}), "'where' must be a WhereToListen, such as onPort(8080): received 8080"],
      [() => listen(8080 as never), "'where' must be a WhereToListen, such as onPort(8080): received 8080"],
      [() => listen('/run/app' as never), "'where' must be a WhereToListen, such as onFile('/run/app'): received '/run/app'"],
      [() => listen(null as never), "'where' must be a WhereToListen: received null"],
      [() => listen({ port: 8080 } as never), "'where' must be a WhereToListen: received { port: 8080 }"],
      [() => listen(onPort(0), '127.0.0.1' as never), "'options' must be an object: received '127.0.0.1'"],
      [() => listen(onPort(0), null as never), "'options' must be an object: received null"],
      [() => Server.create(onPort(0), 100 as never, () => {}), "'options' must be an object: received 100"],
      [() => Server.create(onPort(0), {}, 'handler' as never), "'handler' must be a function: received 'handler'"],
      [() => Server.create(onPort(0), {} as never), "'handler' must be a function: received {}"],
      [
        () => Server.create(onPort(0), { onHandlerError: 'retry' as never }, () => {}),
        "'onHandlerError' must be 'raise', 'ignore' or a function: received 'retry'"
      ]
    ]
    for (const [call, message] of REFUSED) {
      it(message, async () => {
        const before = descriptors()
        const error = await rejection(call())
        expect(error).to.be.instanceOf(TypeError)
        expect(error).to.have.property('message', `Cannot listen as ${message}`)
        expect(descriptors()).to.equal(before)
      })
    }

    it('undefined for options is none', async () => {
      const server = await Server.create(onPort(0), undefined as never, () => {})
      await server.close()
    })
  })

  describe('a port chosen by the system that turns out to be taken is tried again, up to 10 times', () => {
    for (const gate of ['kernel', 'userland']) {
      for (const [failures, port, outcome] of [
        [9, 0, 'listens'],
        [10, 0, 'ListenError'],
        [1, 8, 'ListenError']
      ] as const) {
        it(`taken ${failures} times, port ${port}, ${gate} gate: ${outcome}`, async function () {
          skipIf(this, gate === 'kernel' && !CAN_GATE_IN_KERNEL, 'needs the kernel gate')
          const before = descriptors()
          let calls = 0
          const { listen: original } = net.Server.prototype
          const taken = mock.method(net.Server.prototype, 'listen', function (this: net.Server, ...args: Parameters<typeof original>) {
            if (++calls > failures) return original.apply(this, args)
            process.nextTick(() => this.emit('error', Object.assign(new Error('taken'), { code: 'EADDRINUSE' })))
            return this
          })
          try {
            const listening = listen(onPort(port, { host: '127.0.0.1' }))
            if (outcome === 'listens') await (await listening).close()
            else
              expect(await rejection(listening))
                .to.be.instanceOf(ListenError)
                .with.nested.property('cause.code', 'EADDRINUSE')
          } finally {
            taken.mock.restore()
          }
          expect(calls).to.equal(port === 0 ? 10 : 1)
          await until(() => descriptors() <= before)
        })
      }
    }
  })
})

// ---------------------------------------------------------------------------------------------------------------------

async function connectRaw(target: Target): Promise<net.Socket> {
  const socket = typeof target === 'string' ? net.connect(target) : net.connect(target, '127.0.0.1')
  await once(socket, 'connect')
  return socket
}

/** How the other side ends `socket`: 'end', or the code of the error. */
async function endOf(socket: net.Socket): Promise<string> {
  let end = 'end'
  socket.on('error', (error: NodeJS.ErrnoException) => {
    end = error.code ?? error.message
  })
  socket.on('end', () => socket.destroy()).resume()
  await closed(socket)
  return end
}
