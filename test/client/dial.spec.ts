import { getEventListeners } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { mock } from 'node:test'
import { expect } from 'chai'
import { Deferred } from '../../src/async/deferred.ts'
import type { Lookup } from '../../src/client/dial.ts'
import { connect } from '../../src/connect.ts'
import { ConnectError, ConnectTimeoutError } from '../../src/errors.ts'
import { toFile, toHostAndPort, toUnixAddress } from '../../src/where-to-connect.ts'
import { descriptors } from '../helpers/descriptors.ts'
import { blackHole, dial, fullQueue, IS_LINUX, NO_LIMITS, Sockets, staleSocket, timers, to, WAYS } from '../helpers/dialling.ts'
import { runNode, skipIf } from '../helpers/programs.ts'
import { closedPort, rawClient, rawServer } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { turns, until } from '../helpers/until.ts'

describe('Clients: timeout and signal cover everything before the connection exists, name resolution included', () => {
  const scope = useScope()

  it('dial() rejects with ConnectTimeoutError while the name is being looked up, and ignores the late answer', async () => {
    const answer = new Deferred<{ address: string; family: number }[]>()
    const sockets = new Sockets()
    const where = toHostAndPort('slow.example', 80)
    const error = await rejection(dial(where, { ...NO_LIMITS, timeout: 1 }, sockets.create, () => answer.promise))
    expect(error).to.be.instanceOf(ConnectTimeoutError)
    expect(error).to.include({
      code: 'ERR_CONNECT_TIMEOUT',
      message: 'Cannot connect to slow.example:80: no connection within 1 ms'
    })
    expect(error).to.have.property('address').that.deep.equals({ host: 'slow.example', port: 80 })
    answer.resolve([{ address: '127.0.0.1', family: 4 }])
    await turns()
    expect(sockets.made).to.deep.equal([])
  })

  it('dial() rejects with signal.reason while the name is being looked up, and ignores the late answer', async () => {
    const answer = new Deferred<{ address: string; family: number }[]>()
    const sockets = new Sockets()
    const controller = new AbortController()
    const dialling = dial(
      toHostAndPort('slow.example', 80),
      { ...NO_LIMITS, signal: controller.signal },
      sockets.create,
      () => answer.promise
    )
    controller.abort('enough')
    expect(await rejection(dialling)).to.equal('enough')
    answer.reject(new Error('no such name'))
    await turns()
    expect(sockets.made).to.deep.equal([])
  })

  it('dial() rejects with what ended it first, when the look-up fails in the same turn', async () => {
    const controller = new AbortController()
    const fails: Lookup = () => {
      controller.abort('enough')
      return Promise.reject(new Error('no such name'))
    }
    const dialling = dial(toHostAndPort('slow.example', 80), { ...NO_LIMITS, signal: controller.signal }, () => new Socket(), fails)
    expect(await rejection(dialling)).to.equal('enough')
  })

  for (const [name, open] of WAYS) {
    it(`${name}() rejects with ConnectTimeoutError while the peer does not answer, and nothing stays open`, async function () {
      const { target } = await blackHole(this, scope)
      const before = descriptors()
      const error = await rejection(open(to(target), { timeout: 20 }))
      expect(descriptors()).to.equal(before)
      expect(error).to.be.instanceOf(ConnectTimeoutError)
      expect(error).to.have.property('message', `Cannot connect to 127.0.0.1:${target}: no connection within 20 ms`)
      expect(error).not.to.have.property('cause')
    })

    it(`${name}() rejects with signal.reason while the peer does not answer, and nothing stays open`, async function () {
      const { target } = await blackHole(this, scope)
      const before = descriptors()
      const controller = new AbortController()
      const opening = open(to(target), { signal: controller.signal })
      await until(() => descriptors() > before)
      const reason = new Error('changed my mind')
      controller.abort(reason)
      expect(await rejection(opening)).to.equal(reason)
      expect(descriptors()).to.equal(before)
    })

    it(`${name}() with an already aborted signal rejects before anything is opened`, async () => {
      const { server, target } = await rawServer(scope)
      let numClients = 0
      server.on('connection', () => numClients++)
      const before = descriptors()
      const opening = open(to(target), { signal: AbortSignal.abort('too late') })
      expect(descriptors()).to.equal(before)
      expect(await rejection(opening)).to.equal('too late')
      await rawClient(scope, target)
      await until(() => numClients > 0)
      expect(numClients).to.equal(1)
    })

    it(`${name}() aborted in the turn of the call opens nothing`, async () => {
      const { target } = await rawServer(scope)
      const before = descriptors()
      const controller = new AbortController()
      const opening = open(to(target), { signal: controller.signal })
      controller.abort()
      expect(await rejection(opening)).to.equal(controller.signal.reason)
      expect(descriptors()).to.equal(before)
    })

    it(`${name}() leaves no timer and no listener on the signal behind, whether it succeeds or fails`, async function () {
      const { signal } = new AbortController()
      // Mocha's own timer starts when the test has returned its promise.
      await turns(1)
      const before = timers()
      const expectNothingLeft = (): void => {
        expect(getEventListeners(signal, 'abort')).to.deep.equal([])
        expect(timers()).to.equal(before)
      }
      await open(to((await rawServer(scope)).target), { signal })
      expectNothingLeft()
      await rejection(open(to(await closedPort()), { signal }))
      expectNothingLeft()
      await rejection(open(toFile('/nowhere/to/be/found'), { signal }))
      expectNothingLeft()
      await rejection(open(to((await blackHole(this, scope)).target), { signal, timeout: 1 }))
      expectNothingLeft()
    })
  }

  it('connect() is not affected by an abort once the connection exists', async () => {
    const { target, accept } = await rawServer(scope)
    const controller = new AbortController()
    const connection = scope.open(await connect(to(target), { signal: controller.signal }))
    expect(getEventListeners(controller.signal, 'abort')).to.deep.equal([])
    controller.abort()
    const peer = await accept()
    peer.end('still here\n')
    expect(await connection.reader.readLine()).to.equal('still here')
    expect(connection.signal.aborted).to.equal(false)
  })

  it('dial() aborted in the very turn in which it connects still rejects, and nothing stays open', async () => {
    const { target, accept } = await rawServer(scope)
    const controller = new AbortController()
    let socket: Socket | undefined
    const dialling = dial(to(target), { ...NO_LIMITS, signal: controller.signal }, () => {
      // Comes after 'connect'.
      socket = new Socket().on('ready', () => controller.abort('enough'))
      return socket
    })
    expect(await rejection(dialling)).to.equal('enough')
    expect(socket?.destroyed).to.equal(true)
    await accept()
  })

  it('timeout: Infinity is no limit, and one beyond 2^31-1 ms is honoured', async () => {
    const controller = new AbortController()
    const never: Lookup = () => new Promise(() => {})
    const start = (timeout: number, signal?: AbortSignal): Promise<unknown> => {
      return rejection(dial(toHostAndPort('slow.example', 80), { timeout, signal }, () => new Socket(), never))
    }
    const order: string[] = []
    const long = [start(Number.POSITIVE_INFINITY, controller.signal), start(2 ** 31, controller.signal), start(2 ** 40, controller.signal)]
    for (const each of long) void each.then((error) => order.push(String(error)))
    // A timer that wrapped would fire after 1 ms.
    order.push(String(await start(5)))
    controller.abort('the end')
    await Promise.all(long)
    expect(order).to.deep.equal([
      'ConnectTimeoutError: Cannot connect to slow.example:80: no connection within 5 ms',
      'the end',
      'the end',
      'the end'
    ])
  })

  it('a timeout beyond 2^31-1 ms passes when it is due', async () => {
    mock.timers.enable({ apis: ['setTimeout'] })
    scope.defer(() => mock.timers.reset())
    const timeout = 2 ** 32
    const dialling = rejection(
      dial(
        toHostAndPort('slow.example', 80),
        { ...NO_LIMITS, timeout },
        () => new Socket(),
        () => new Promise(() => {})
      )
    )
    let isSettled = false
    void dialling.then(() => {
      isSettled = true
    })
    mock.timers.tick(2 ** 31 - 1)
    mock.timers.tick(2 ** 31 - 1)
    mock.timers.tick(1)
    await turns(1)
    expect(isSettled).to.equal(false)
    mock.timers.tick(1)
    expect(await dialling).to.have.property('message', `Cannot connect to slow.example:80: no connection within ${timeout} ms`)
  })

  it('connect() gives up after 30 s by default', async () => {
    mock.timers.enable({ apis: ['setTimeout'] })
    scope.defer(() => mock.timers.reset())
    const dialling = rejection(connect(toFile(await fullQueue(scope))))
    await turns(5)
    mock.timers.tick(30_000)
    expect(await dialling).to.be.instanceOf(ConnectTimeoutError)
  })

  it('the stack of a ConnectTimeoutError and of a ConnectError shows who called', async () => {
    async function caller(): Promise<void> {
      await connect(toFile('/nowhere/to/be/found'))
    }
    async function lateCaller(): Promise<void> {
      await connect(toFile(await fullQueue(scope)), { timeout: 1 })
    }
    expect(await rejection(caller()))
      .to.have.property('stack')
      .that.includes('at async caller')
    expect(await rejection(lateCaller()))
      .to.have.property('stack')
      .that.includes('at async lateCaller')
  })
})

describe('Clients: unix sockets', () => {
  const scope = useScope()

  for (const [name, open] of WAYS) {
    it(`${name}() rejects with ConnectError when the path does not exist, is a directory, a plain file, below one, or stale`, async () => {
      const directory = scope.tempDir()
      const file = join(directory, 'file')
      writeFileSync(file, 'no socket')
      mkdirSync(join(directory, 'directory'))
      const stale = await staleSocket(scope)
      for (const [path, code] of [
        [join(directory, 'nothing'), 'ENOENT'],
        [join(directory, 'directory'), 'ECONNREFUSED'],
        [file, 'ECONNREFUSED'],
        [join(file, 'x'), 'ENOTDIR'],
        [stale, 'ECONNREFUSED']
      ] as const) {
        const before = descriptors()
        const error = await rejection(open(toFile(path)))
        expect(descriptors()).to.equal(before)
        expect(error).to.be.instanceOf(ConnectError)
        expect(error).to.have.property('address').that.deep.equals({ family: 'unix', path })
        expect(error).to.have.property('message').that.includes(`Cannot connect to ${path}: `)
        // Other systems than Linux say ENOTSOCK of what is no socket.
        expect(error)
          .to.have.nested.property('cause.code')
          .that.is.oneOf(IS_LINUX ? [code] : [code, 'ENOTSOCK'])
        expect((error as ConnectError).errors).to.equal(undefined)
      }
    })
  }

  it('a full queue is tried again, each time with a new socket, until the server takes clients', async function () {
    const { target, wake } = await blackHole(this, scope, join(scope.tempDir(), 's'))
    const made: Socket[] = []
    const dialling = dial(toFile(target as string), NO_LIMITS, () => {
      const socket = new Socket()
      made.push(socket)
      return socket
    })
    await until(() => made.length > 2)
    expect(made.slice(0, -1).every((socket) => socket.destroyed)).to.equal(true)
    wake()
    const socket = await dialling
    scope.defer(() => socket.destroy())
    expect(socket).to.equal(made.at(-1))
    expect(socket.listenerCount('error')).to.equal(0)
  })

  it('a full queue is tried again until timeout, which has the last EAGAIN as its cause', async function () {
    const { target } = await blackHole(this, scope, join(scope.tempDir(), 's'))
    mock.timers.enable({ apis: ['setTimeout'] })
    scope.defer(() => mock.timers.reset())
    const before = descriptors()
    const made: Socket[] = []
    const dialling = rejection(
      dial(toFile(target as string), { ...NO_LIMITS, timeout: 10_000 }, () => {
        const socket = new Socket()
        made.push(socket)
        return socket
      })
    )
    let passed = 0
    const tick = (milliseconds: number): void => {
      mock.timers.tick(milliseconds)
      passed += milliseconds
    }
    for (let pause = 1, tried = 1; tried < 4; pause *= 2, tried++) {
      await until(() => made.length === tried && made.at(-1)?.destroyed)
      await turns()
      tick(pause - 1)
      expect(made).to.have.length(tried)
      tick(1)
      expect(made).to.have.length(tried + 1)
    }
    await until(() => made.at(-1)?.destroyed)
    tick(10_000 - passed)
    const error = await dialling
    expect(descriptors()).to.equal(before)
    expect(error).to.be.instanceOf(ConnectTimeoutError)
    expect(error).to.have.property('address').that.deep.equals({ family: 'unix', path: target })
    expect(error).to.have.nested.property('cause.code', 'EAGAIN')
  })

  it('a full queue is tried again until signal aborts', async function () {
    const { target } = await blackHole(this, scope, join(scope.tempDir(), 's'))
    const before = descriptors()
    const controller = new AbortController()
    const made: Socket[] = []
    const dialling = rejection(
      dial(toFile(target as string), { ...NO_LIMITS, signal: controller.signal }, () => {
        const socket = new Socket()
        made.push(socket)
        return socket
      })
    )
    await until(() => made.length > 2 && made.every((socket) => socket.destroyed))
    const { length } = made
    controller.abort('enough')
    expect(await dialling).to.equal('enough')
    await turns()
    expect(made).to.have.length(length)
    expect(descriptors()).to.equal(before)
  })

  it('toUnixAddress() and an abstract name lead to the server as toFile() does', async function () {
    skipIf(this, !IS_LINUX, 'needs abstract names')
    const path = `\0it-tcp-${process.pid}-${performance.now()}`
    const { accept } = await rawServer(scope, path)
    await using connection = await connect(toUnixAddress({ family: 'unix', path }))
    expect(connection.remoteAddress).to.deep.equal({ family: 'unix', path })
    const peer = await accept()
    peer.end('hello')
    expect(await connection.reader.readLine()).to.equal('hello')
  })
})

describe('Clients: the order of addresses is what the program has asked for', () => {
  it('gives node:dns no order of its own', async () => {
    const code = `
      import { createRequire, syncBuiltinESMExports } from 'node:module'
      const dns = createRequire(import.meta.url)('node:dns/promises')
      dns.lookup = async (host, options) => {
        console.log(JSON.stringify(options))
        return [{ address: '127.0.0.1', family: 4 }]
      }
      syncBuiltinESMExports()
      const { systemLookup } = await import('${new URL('../../src/client/dial.js', import.meta.url)}')
      await systemLookup('localhost')`
    const { stdout, stderr } = await runNode(['--input-type=module', '--eval', code])
    expect([stdout, stderr]).to.deep.equal(['{"all":true}\n', ''])
  })
})
