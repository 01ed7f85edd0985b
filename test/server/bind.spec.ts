import { once } from 'node:events'
import { existsSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import { expect } from 'chai'
import type { InetAddress } from '../../src/address.ts'
import { ListenError } from '../../src/errors.ts'
import { GatedListener } from '../../src/server/listening-socket.ts'
import { systemErrorNamed } from '../../src/system/system-error.ts'
import { onPort, onPortChosenByOs } from '../../src/where-to-listen.ts'
import { descriptors } from '../helpers/descriptors.ts'
import { behindEachGate, bindGate, gateOptions, LOOPBACK, type Where, withImports } from '../helpers/gates.ts'
import { run, runNode, skipIf } from '../helpers/programs.ts'
import { closedPort, rawClient, rawServer } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { until } from '../helpers/until.ts'

behindEachGate('bind()', (_gate, scope) => {
  describe('onPort', () => {
    it('without a host serves IPv4 and, where there is one, IPv6', async () => {
      const { socket, accepted } = await bindGate(scope, onPortChosenByOs() as Where)
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
      const socket = await GatedListener.bind(onPort(0, { ipv6Only: true }), gateOptions([])).catch((error: ListenError) => error)
      skipIf(this, socket instanceof ListenError, 'needs IPv6')
      const listening = socket as GatedListener<InetAddress>
      scope.defer(() => listening.close())
      const error = await rejection(rawClient(scope, listening.address.port))
      expect(error).to.include({ code: 'ECONNREFUSED' })
    })

    it('a host name is looked up', async () => {
      const { socket, target } = await bindGate(scope, onPort(0, { host: 'localhost' }) as Where)
      expect((socket.address as InetAddress).address).to.be.oneOf(['127.0.0.1', '::1'])
      expect(target).to.be.above(0)
    })

    it('a port that is taken is a ListenError with the cause EADDRINUSE', async () => {
      const { target } = await rawServer(scope)
      const error = await rejection(GatedListener.bind(onPort(target as number, LOOPBACK), gateOptions([])))
      expect(error).to.be.an.instanceOf(ListenError)
      expect((error as Error).message).to.equal(`Cannot listen on 127.0.0.1:${target}: address already in use`)
      expect((error as ListenError).cause).to.include({ code: 'EADDRINUSE', syscall: 'listen' })
      expect((error as ListenError).address).to.deep.equal({ family: 'IPv4', address: '127.0.0.1', port: target })
    })

    it('a host that is not ours, and one that does not resolve, are ListenErrors', async () => {
      const foreign = await rejection(GatedListener.bind(onPort(0, { host: '192.0.2.1' }), gateOptions([])))
      expect(foreign).to.be.an.instanceOf(ListenError)
      expect((foreign as ListenError).cause).to.include({ code: 'EADDRNOTAVAIL' })
      const unknown = await rejection(GatedListener.bind(onPort(0, { host: 'nowhere.invalid' }), gateOptions([])))
      expect(unknown).to.be.an.instanceOf(ListenError)
      expect((unknown as Error).message).to.match(/^Cannot listen on nowhere\.invalid:0: /)
    })

    it('reusePort lets two listeners have one port, or says that it is not supported', async () => {
      const first = await GatedListener.bind(onPort(0, { ...LOOPBACK, reusePort: true }), gateOptions([])).catch((error: unknown) => error)
      if (first instanceof ListenError) {
        expect(first.cause).to.include({ code: 'ENOTSUP' })
        return
      }
      const socket = first as GatedListener<InetAddress>
      scope.defer(() => socket.close())
      await bindGate(scope, onPort(socket.address.port, { ...LOOPBACK, reusePort: true }) as Where)
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
        const { target } = await bindGate(scope, onPortChosenByOs(LOOPBACK) as Where)
        expect(attempts()).to.equal(10)
        await rawClient(scope, target)
      })

      it('the 10th is reported', async () => {
        const attempts = failToListen(10)
        const error = await rejection(GatedListener.bind(onPortChosenByOs(LOOPBACK), gateOptions([])))
        expect(attempts()).to.equal(10)
        expect((error as ListenError).cause).to.include({ code: 'EADDRINUSE' })
      })

      it('a port that was asked for is tried once', async () => {
        const attempts = failToListen(10)
        expect(await rejection(GatedListener.bind(onPort(await freePort(listen), LOOPBACK), gateOptions([])))).to.be.an.instanceOf(
          ListenError
        )
        expect(attempts()).to.equal(1)
      })
    })

    it('a failed bind leaves no descriptor open', async () => {
      const { target } = await rawServer(scope)
      const before = descriptors()
      for (let attempt = 0; attempt < 100; attempt++) {
        await rejection(GatedListener.bind(onPort(target as number, LOOPBACK), gateOptions([])))
      }
      await until(() => descriptors() <= before)
    })
  })
})

describe('bind() in a cluster worker', () => {
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
          process.umask(0o177)
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
                socket = await GatedListener.bind(where, { ...options, onAccept: ({ socket }) => socket.on('error', () => {}).end('hello') })
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

describe('bind() of a unix socket in a cluster worker', () => {
  const scope = useScope()

  it('refuses a mode that would come after the first client could: it takes away what the umask leaves', async function () {
    skipIf(this, process.platform === 'win32', 'needs unix sockets')
    const dir = scope.tempDir()
    const program = `
      import cluster from 'node:cluster'
      import { lstatSync, existsSync } from 'node:fs'
      if (cluster.isPrimary) {
        process.umask(0o027)
        cluster.fork()
      } else {
        for (const mode of [0o600, 0o740, 0o750, 0o777]) {
          try {
            const socket = await GatedListener.bind(onFile('${dir}/' + mode, { mode }), options)
            console.log(mode.toString(8), (lstatSync('${dir}/' + mode).mode & 0o777).toString(8))
            await socket.close()
          } catch (error) { console.log(mode.toString(8), error.cause.code, existsSync('${dir}/' + mode), error.message.split(': ').pop()) }
        }
        process.disconnect()
      }
    `
    writeFileSync(join(dir, 'worker.mjs'), withImports(program))
    const { stdout, stderr } = await runNode([join(dir, 'worker.mjs')], { env: { ...process.env, NODE_OPTIONS: '' }, killAfter: 8_000 })
    expect(stdout, stderr).to.equal(
      [
        '600 EPERM false start the primary with umask 0177',
        '740 EPERM false start the primary with umask 0037',
        '750 750',
        '777 777',
        ''
      ].join('\n')
    )
  })
})

describe('bind() where the network is forbidden', () => {
  it('is a ListenError, whatever it is that listens', async function () {
    skipIf(this, !process.allowedNodeEnvironmentFlags.has('--allow-net'), 'needs a Node.js that can forbid it')
    const program = `
      for (const where of [onPort(0), onPort(0, { host: 'localhost' }), onPort(0, { host: '127.0.0.1' }), onFile('/tmp/s'), onFile('\\0s'), onFileDescriptor(3)]) {
        const error = await GatedListener.bind(where, options).catch((error) => error)
        console.log(error.name, error.cause.code)
      }
    `
    const { stdout, stderr } = await runNode(
      ['--permission', '--allow-fs-read=*', '--allow-fs-write=*', '--no-warnings', '--input-type=module', '-e', withImports(program)],
      { env: { ...process.env, NODE_OPTIONS: '' } }
    )
    expect(stdout, stderr).to.equal('ListenError ERR_ACCESS_DENIED\n'.repeat(6))
  })
})

async function freePort(listen: typeof net.Server.prototype.listen): Promise<number> {
  const patched = net.Server.prototype.listen
  net.Server.prototype.listen = listen
  try {
    return await closedPort()
  } finally {
    net.Server.prototype.listen = patched
  }
}
