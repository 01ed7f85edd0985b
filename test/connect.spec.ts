import { getEventListeners, once } from 'node:events'
import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { type AddressInfo, createServer, type NetConnectOpts, Socket, type TcpNetConnectOpts } from 'node:net'
import { join } from 'node:path'
import { mock } from 'node:test'
import { inspect } from 'node:util'
import { Worker } from 'node:worker_threads'
import { expect } from 'chai'
import type { SocketAddress } from '../src/address.ts'
import { Deferred } from '../src/async/deferred.ts'
import { connect, connectSocket, type DialLimits, dial, type Lookup, withConnection } from '../src/connect.ts'
import type { Connection } from '../src/connection.ts'
import { ConnectError, ConnectionResetError, ConnectTimeoutError } from '../src/errors.ts'
import type { ConnectOptions } from '../src/options.ts'
import { toFile, toHostAndPort, toInetAddress, toUnixAddress, type WhereToConnect } from '../src/where-to-connect.ts'
import { BAD_COUNTS, BAD_DURATIONS, expectRefusal } from './helpers/bad-input.ts'
import { descriptors } from './helpers/descriptors.ts'
import { skipIf } from './helpers/programs.ts'
import { closedPort, rawClient, rawServer, readToEnd, type Target } from './helpers/raw.ts'
import { rejection } from './helpers/rejection.ts'
import { type Scope, useScope } from './helpers/scope.ts'
import { turns, until } from './helpers/until.ts'

const ACTION = 'Cannot connect'
const IS_LINUX = process.platform === 'linux'
const NO_LIMITS: DialLimits = { timeout: Number.POSITIVE_INFINITY, signal: undefined }
const MiB = 2 ** 20

type Where = WhereToConnect<SocketAddress>

// The three ways to connect have the same laws until there is a connection. Each closes what it has opened.
const WAYS: readonly [name: string, open: (where: Where, options?: ConnectOptions) => Promise<void>][] = [
  [
    'connectSocket',
    async (where, options) => {
      const socket = await connectSocket(where, options)
      socket.destroy()
      await once(socket, 'close')
    }
  ],
  [
    'connect',
    async (where, options) => {
      const connection = await connect(where, options)
      connection.abort()
      await connection.closed
    }
  ],
  ['withConnection', (where, options = {}) => withConnection(where, options, (connection) => connection.abort())]
]

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

describe('Clients: a host name with several addresses is tried as RFC 8305 says', () => {
  const scope = useScope()
  const where = toHostAndPort('many.example', 80)

  it('IPv6 and IPv4 take turns, beginning with the family that the resolver put first', async () => {
    for (const [found, tried] of [
      [
        ['::1', '::2', '::3', '127.0.0.1', '127.0.0.2'],
        ['::1', '127.0.0.1', '::2', '127.0.0.2', '::3']
      ],
      [
        ['127.0.0.1', '127.0.0.2', '::1'],
        ['127.0.0.1', '::1', '127.0.0.2']
      ],
      [
        ['127.0.0.3', '127.0.0.1', '127.0.0.2'],
        ['127.0.0.3', '127.0.0.1', '127.0.0.2']
      ]
    ] as const) {
      const sockets = new Sockets()
      const dialling = dial(where, NO_LIMITS, sockets.create, answers(...found))
      for (let index = 0; index < found.length; index++) {
        await until(() => sockets.made.length > index)
        sockets.made[index]?.destroy(new Error('refused'))
      }
      expect(await rejection(dialling)).to.be.instanceOf(ConnectError)
      expect(sockets.targets).to.deep.equal(tried)
    }
  })

  it('an attempt has a head start of 250 ms, then the next one begins beside it', async () => {
    mock.timers.enable({ apis: ['setTimeout'] })
    scope.defer(() => mock.timers.reset())
    const sockets = new Sockets()
    const controller = new AbortController()
    const dialling = rejection(
      dial(where, { ...NO_LIMITS, signal: controller.signal }, sockets.create, answers('127.0.0.1', '127.0.0.2', '127.0.0.3'))
    )
    await turns(1)
    mock.timers.tick(249)
    expect(sockets.targets).to.deep.equal(['127.0.0.1'])
    mock.timers.tick(1)
    expect(sockets.targets).to.deep.equal(['127.0.0.1', '127.0.0.2'])
    mock.timers.tick(249)
    expect(sockets.targets).to.deep.equal(['127.0.0.1', '127.0.0.2'])
    mock.timers.tick(1)
    expect(sockets.targets).to.deep.equal(['127.0.0.1', '127.0.0.2', '127.0.0.3'])
    expect(sockets.destroyed).to.deep.equal([false, false, false])
    controller.abort()
    expect(sockets.destroyed).to.deep.equal([true, true, true])
    await dialling
  })

  it('the next attempt begins at once when the latest fails, and then has a head start of its own', async () => {
    mock.timers.enable({ apis: ['setTimeout'] })
    scope.defer(() => mock.timers.reset())
    const sockets = new Sockets()
    const controller = new AbortController()
    const dialling = rejection(
      dial(where, { ...NO_LIMITS, signal: controller.signal }, sockets.create, answers('127.0.0.1', '127.0.0.2', '127.0.0.3', '127.0.0.4'))
    )
    await turns(1)
    mock.timers.tick(200)
    sockets.made[0]?.destroy(new Error('refused'))
    await turns(1)
    expect(sockets.targets).to.deep.equal(['127.0.0.1', '127.0.0.2'])
    mock.timers.tick(249)
    expect(sockets.made).to.have.length(2)
    mock.timers.tick(1)
    expect(sockets.made).to.have.length(3)
    // Not the latest: that one keeps its head start.
    sockets.made[1]?.destroy(new Error('refused'))
    await turns(1)
    expect(sockets.made).to.have.length(3)
    controller.abort()
    await dialling
  })

  it('the first to connect wins, also if others began after it, and the others are destroyed', async () => {
    mock.timers.enable({ apis: ['setTimeout'] })
    scope.defer(() => mock.timers.reset())
    for (const winner of [0, 1, 2]) {
      const sockets = new Sockets()
      const dialling = dial(where, NO_LIMITS, sockets.create, answers('127.0.0.1', '127.0.0.2', '127.0.0.3', '127.0.0.4'))
      await turns(1)
      mock.timers.tick(250)
      mock.timers.tick(250)
      sockets.made[winner]?.emit('connect')
      expect(await dialling).to.equal(sockets.made[winner])
      expect(sockets.destroyed).to.deep.equal([0, 1, 2].map((index) => index !== winner))
      mock.timers.tick(250)
      expect(sockets.made).to.have.length(3)
    }
  })

  it('of two that connect at once one is destroyed', async () => {
    mock.timers.enable({ apis: ['setTimeout'] })
    scope.defer(() => mock.timers.reset())
    const sockets = new Sockets()
    const dialling = dial(where, NO_LIMITS, sockets.create, answers('127.0.0.1', '127.0.0.2'))
    await turns(1)
    mock.timers.tick(250)
    for (const socket of sockets.made) socket.emit('connect')
    expect(await dialling).to.equal(sockets.made[0])
    await turns(1)
    expect(sockets.destroyed).to.deep.equal([false, true])
  })

  it('goes past an address that does not answer and one that refuses to one that is there', async function () {
    const { target, accept } = await rawServer(scope)
    await blackHole(this, scope, { port: target as number, host: '127.0.0.3' })
    const before = descriptors()
    const create = (): Socket => new Socket({ allowHalfOpen: true })
    const socket = await dial(
      toHostAndPort('many.example', target as number),
      NO_LIMITS,
      create,
      answers('127.0.0.3', '127.0.0.2', '127.0.0.1')
    )
    scope.defer(() => socket.destroy())
    // Our end alone, or both: the attempt at 127.0.0.3 is gone.
    expect(descriptors() - before).to.be.within(1, 2)
    expect(socket.remoteAddress).to.equal('127.0.0.1')
    await accept()
    expect(descriptors() - before).to.equal(2)
  })

  it('if all fail, the error lists every attempt', async () => {
    const port = await closedPort()
    const found = ['127.0.0.2', '127.0.0.1', '127.0.0.3']
    const before = descriptors()
    const error = await rejection(dial(toHostAndPort('many.example', port), NO_LIMITS, () => new Socket(), answers(...found)))
    expect(descriptors()).to.equal(before)
    expect(error).to.be.instanceOf(ConnectError)
    const { errors, ...rest } = error as ConnectError
    expect(rest).to.deep.include({ name: 'ConnectError', code: 'ERR_CONNECT', address: { host: 'many.example', port } })
    expect(error).to.have.property('message', `Cannot connect to many.example:${port}: connection refused`)
    expect(error).to.have.property('cause').that.includes({ code: 'ECONNREFUSED', address: '127.0.0.2' })
    expect(errors).to.have.length(3)
    for (const [index, address] of found.entries()) {
      const each = errors?.[index]
      expect(each).to.be.instanceOf(ConnectError)
      expect(each).to.have.property('address').that.deep.equals({ family: 'IPv4', address, port })
      expect(each).to.have.property('message', `Cannot connect to ${address}:${port}: connection refused`)
      expect(each).to.have.property('cause').that.includes({ code: 'ECONNREFUSED', address })
      expect((each as ConnectError).errors).to.equal(undefined)
    }
  })

  it('the errors are in the order of the attempts, whichever failed first', async () => {
    mock.timers.enable({ apis: ['setTimeout'] })
    scope.defer(() => mock.timers.reset())
    const sockets = new Sockets()
    const dialling = dial(where, NO_LIMITS, sockets.create, answers('127.0.0.1', '127.0.0.2'))
    await turns(1)
    mock.timers.tick(250)
    sockets.made[1]?.destroy(new Error('second'))
    await turns(1)
    sockets.made[0]?.destroy(new Error('first'))
    const error = (await rejection(dialling)) as ConnectError
    expect(error.errors?.map((each) => (each as Error).message)).to.deep.equal([
      'Cannot connect to 127.0.0.1:80: first',
      'Cannot connect to 127.0.0.2:80: second'
    ])
  })

  it('a timeout has the last failure as its cause, and not that of an attempt it ended', async () => {
    mock.timers.enable({ apis: ['setTimeout'] })
    scope.defer(() => mock.timers.reset())
    const sockets = new Sockets()
    const dialling = rejection(dial(where, { ...NO_LIMITS, timeout: 100 }, sockets.create, answers('127.0.0.1', '127.0.0.2')))
    await turns(1)
    const refused = new Error('refused')
    sockets.made[0]?.destroy(refused)
    await turns(1)
    mock.timers.tick(100)
    const error = await dialling
    expect(error).to.be.instanceOf(ConnectTimeoutError)
    expect(error).to.have.property('cause', refused)
    expect(sockets.destroyed).to.deep.equal([true, true])
  })

  it('with one address the error has no list, and the error of the system as its cause', async () => {
    const port = await closedPort()
    for (const open of [
      () => connect(toHostAndPort('127.0.0.1', port)),
      () => connect(toInetAddress({ family: 'IPv4', address: '127.0.0.1', port })),
      () => dial(toHostAndPort('one.example', port), NO_LIMITS, () => new Socket(), answers('127.0.0.1'))
    ]) {
      const error = await rejection(open())
      expect(error).to.be.instanceOf(ConnectError)
      expect((error as ConnectError).errors).to.equal(undefined)
      expect(error)
        .to.have.property('message')
        .that.matches(/^Cannot connect to (127\.0\.0\.1|one\.example):\d+: connection refused$/)
      expect(error).to.have.property('cause').that.includes({ code: 'ECONNREFUSED', syscall: 'connect' })
    }
  })

  it('more attempts at once than an AbortSignal likes listeners warn of nothing', async () => {
    mock.timers.enable({ apis: ['setTimeout'] })
    scope.defer(() => mock.timers.reset())
    const warnings: Error[] = []
    const onWarning = (warning: Error): void => void warnings.push(warning)
    process.on('warning', onWarning)
    scope.defer(() => process.off('warning', onWarning))
    const sockets = new Sockets()
    const controller = new AbortController()
    const found = Array.from({ length: 20 }, (_, index) => `127.0.0.${index + 1}`)
    const dialling = rejection(dial(where, { ...NO_LIMITS, signal: controller.signal }, sockets.create, answers(...found)))
    await turns(1)
    for (const _ of found) mock.timers.tick(250)
    expect(sockets.made).to.have.length(20)
    controller.abort()
    await dialling
    await turns()
    expect(warnings.filter((warning) => warning.name === 'MaxListenersExceededWarning')).to.deep.equal([])
  })

  it('a numeric host is not looked up', async () => {
    const { target, accept } = await rawServer(scope)
    const lookup: Lookup = () => Promise.reject(new Error('nobody asked'))
    const socket = await dial(to(target), NO_LIMITS, () => new Socket(), lookup)
    scope.defer(() => socket.destroy())
    await accept()
  })

  it('a numeric IPv6 host may have a zone', async function () {
    const server = createServer((socket) => socket.destroy())
    scope.defer(() => server.close())
    server.listen(0, '::1')
    const [error] = await Promise.race([once(server, 'listening'), once(server, 'error')])
    skipIf(this, error !== undefined || !IS_LINUX, 'needs IPv6 and an interface named lo')
    const { port } = server.address() as AddressInfo
    await using connection = await connect(toHostAndPort('::1%lo', port))
    expect(connection.remoteAddress).to.deep.equal({ family: 'IPv6', address: '::1', port })
  })

  it('localhost is looked up', async () => {
    const target = (await politeServer(scope)) as number
    await using connection = await connect(toHostAndPort('localhost', target))
    expect(connection.remoteAddress).to.deep.equal({ family: 'IPv4', address: '127.0.0.1', port: target })
  })

  it('a name that does not resolve is a ConnectError', async () => {
    // A space is not for a name server to judge.
    const error = await rejection(connect(toHostAndPort('no such host', 80)))
    expect(error).to.be.instanceOf(ConnectError)
    expect(error).to.have.property('address').that.deep.equals({ host: 'no such host', port: 80 })
    expect(error)
      .to.have.property('message')
      .that.matches(/^Cannot connect to no such host:80: ./)
    expect(error).to.have.property('cause').that.includes({ code: 'ENOTFOUND', syscall: 'getaddrinfo' })
    expect((error as ConnectError).errors).to.equal(undefined)
  })

  it('localAddress and localPort are where the connection comes from', async function () {
    skipIf(this, !IS_LINUX, 'needs all of 127.0.0.0/8')
    const { target, accept } = await rawServer(scope)
    const localPort = await closedPort()
    await using connection = await connect(toHostAndPort('127.0.0.1', target as number, { localAddress: '127.0.0.2', localPort }))
    expect(connection.localAddress).to.deep.equal({ family: 'IPv4', address: '127.0.0.2', port: localPort })
    const peer = await accept()
    peer.end()
    expect([peer.remoteAddress, peer.remotePort]).to.deep.equal(['127.0.0.2', localPort])
  })

  it('with a localAddress only addresses of its family are tried', async () => {
    const sockets = new Sockets()
    const from = toHostAndPort('many.example', 80, { localAddress: '127.0.0.9', localPort: 4_000 })
    const dialling = dial(from, NO_LIMITS, sockets.create, answers('::1', '127.0.0.1', '::2'))
    await until(() => sockets.made.length === 1)
    sockets.made[0]?.destroy(new Error('refused'))
    await rejection(dialling)
    expect(sockets.asked).to.deep.equal([
      { host: '127.0.0.1', port: 80, localAddress: '127.0.0.9', localPort: 4_000, autoSelectFamily: false }
    ])
  })

  it('with a localAddress of another family than all addresses it fails and says so', async () => {
    const error = await rejection(connect(toHostAndPort('127.0.0.1', 80, { localAddress: '::1' })))
    expect(error).to.be.instanceOf(ConnectError)
    expect(error).to.have.property('message', 'Cannot connect to 127.0.0.1:80: no address of it can be reached from ::1')
  })

  it('a localAddress that is not of this machine is a ConnectError', async () => {
    const error = await rejection(connect(toHostAndPort('127.0.0.1', await closedPort(), { localAddress: '192.0.2.1' })))
    expect(error).to.be.instanceOf(ConnectError)
    expect(error).to.have.property('cause').that.includes({ code: 'EADDRNOTAVAIL', syscall: 'bind' })
  })

  it('a socket that got connected to itself is no connection: nobody listens on that port', async function () {
    skipIf(this, !IS_LINUX, 'needs simultaneous open to oneself')
    const port = await closedPort()
    const before = descriptors()
    const made: Socket[] = []
    // What the system does once in a while, of its own accord, when it chooses our port.
    class SelfConnecting extends Socket {
      override connect(options: unknown): this {
        return super.connect({ ...(options as TcpNetConnectOpts), ...(made.length === 1 && { localPort: port }) })
      }
    }
    const create = (): Socket => {
      const socket = new SelfConnecting()
      made.push(socket)
      return socket
    }
    const error = await rejection(dial(to(port), NO_LIMITS, create))
    expect(error).to.be.instanceOf(ConnectError)
    expect(error).to.have.property('cause').that.includes({ code: 'ECONNREFUSED' })
    expect(made).to.have.length(2)
    expect(descriptors()).to.equal(before)
    // The port is free, not in TIME_WAIT.
    const server = createServer().listen(port, '127.0.0.1')
    await once(server, 'listening')
    server.close()
    await once(server, 'close')
  })

  it('who asks to come from the port that it connects to gets just that', async function () {
    skipIf(this, !IS_LINUX, 'needs simultaneous open to oneself')
    const port = await closedPort()
    const connection = await connect(toHostAndPort('127.0.0.1', port, { localAddress: '127.0.0.1', localPort: port }))
    expect(connection.localAddress).to.deep.equal(connection.remoteAddress)
    connection.abort()
    await connection.closed
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
    // The pauses in between are not of the clock that is mocked.
    await until(() => made.length > 2)
    mock.timers.tick(10_000)
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

describe('connectSocket', () => {
  const scope = useScope()

  for (const [kind, path] of [
    ['TCP', () => undefined],
    ['a unix socket', () => join(scope.tempDir(), 's')]
  ] as const) {
    it(`resolves with a socket over ${kind} that is connected, paused and half-open, and consumes no byte`, async () => {
      const { target, accept } = await rawServer(scope, path())
      const socket = await connectSocket(to(target))
      scope.defer(() => socket.destroy())
      const peer = await accept()
      await new Promise((resolve) => peer.end('first bytes', () => resolve(undefined)))
      await turns()
      expect(socket).to.be.instanceOf(Socket)
      expect(socket).to.include({
        connecting: false,
        pending: false,
        destroyed: false,
        bytesRead: 0,
        readableLength: 0,
        allowHalfOpen: true
      })
      expect(socket.isPaused()).to.equal(true)
      expect(String(await readToEnd(socket.resume()))).to.equal('first bytes')
      socket.end('after the end')
      expect(String(await readToEnd(peer.resume()))).to.equal('after the end')
    })

    it(`leaves no listener on a socket over ${kind}: from then on its events and errors are the caller's`, async () => {
      const { target, accept } = await rawServer(scope, path())
      const socket = await connectSocket(to(target))
      scope.defer(() => socket.destroy())
      const untouched = new Socket({ allowHalfOpen: true })
      expect(listeners(socket)).to.deep.equal(listeners(untouched))
      untouched.destroy()
      await accept()
      const error = new Error('mine')
      const told = once(socket, 'error')
      socket.destroy(error)
      expect(await told).to.deep.equal([error])
    })
  }

  it('resolves with a socket that can be iterated and piped', async () => {
    const { target, accept } = await rawServer(scope)
    const socket = await connectSocket(to(target))
    scope.defer(() => socket.destroy())
    ;(await accept()).end('iterated')
    let text = ''
    for await (const chunk of socket) text += chunk
    expect(text).to.equal('iterated')
  })

  it('turns TCP_NODELAY on', async function () {
    const { target } = await rawServer(scope)
    const socket = await connectSocket(to(target))
    scope.defer(() => socket.destroy())
    expect(socketOption(this, socket, 6, 1)).not.to.equal(0)
  })
})

describe('connect', () => {
  const scope = useScope()

  it('resolves with a connection over TCP that knows both addresses', async () => {
    const { target, accept } = await rawServer(scope)
    await using connection = await connect(to(target))
    const peer = await accept()
    expect(connection.remoteAddress).to.deep.equal({ family: 'IPv4', address: '127.0.0.1', port: target })
    expect(connection.localAddress).to.deep.equal({ family: 'IPv4', address: '127.0.0.1', port: peer.remotePort })
    peer.write('hello\n')
    connection.writer.write('good day\n')
    await connection.writer.close()
    expect(await connection.reader.readLine()).to.equal('hello')
    expect(String(await readToEnd(peer.resume()))).to.equal('good day\n')
    peer.end()
  })

  it('resolves with a connection over a unix socket that knows both addresses', async () => {
    const path = join(scope.tempDir(), 's')
    const { accept } = await rawServer(scope, path)
    await using connection = await connect(toFile(path))
    expect(connection.remoteAddress).to.deep.equal({ family: 'unix', path })
    expect(connection.localAddress).to.deep.equal({ family: 'unix', path: '' })
    ;(await accept()).end('hello\n')
    expect(await connection.reader.readLine()).to.equal('hello')
  })

  it('loses nothing of what the peer sends at once', async () => {
    const { target, server } = await rawServer(scope)
    server.on('connection', (socket) => socket.end('a greeting that is there before anybody reads\n'))
    await using connection = await connect(to(target))
    await turns()
    expect(await connection.reader.readLine()).to.equal('a greeting that is there before anybody reads')
    expect(await connection.reader.read()).to.equal(null)
  })

  it('turns TCP_NODELAY on', async function () {
    await using connection = await connect(to(await politeServer(scope)))
    expect(socketOption(this, connection.socket, 6, 1)).not.to.equal(0)
  })

  for (const [options, seconds] of [
    [{}, 60],
    [{ keepAlive: 5_000 }, 5],
    [{ keepAlive: 5_001 }, 6],
    [{ keepAlive: 1 }, 1],
    [{ keepAlive: 2 ** 40 }, 32_767],
    [{ keepAlive: false }, undefined],
    [{ keepAlive: Number.POSITIVE_INFINITY }, undefined]
  ] as const) {
    it(`sets TCP keep-alive to ${seconds === undefined ? 'nothing' : `${seconds} s`} for ${inspect(options)}`, async function () {
      await using connection = await connect(to(await politeServer(scope)), options)
      expect(socketOption(this, connection.socket, 1, 9)).to.equal(seconds === undefined ? 0 : 1)
      if (seconds !== undefined) expect(socketOption(this, connection.socket, 6, 4)).to.equal(seconds)
    })
  }
})

describe('Clients: withConnection settles, either way, after the function has ended and the descriptor is closed', () => {
  const scope = useScope()

  it('resolves with what the function returns, with options or without, from an async function or not', async () => {
    const { target, server } = await rawServer(scope)
    server.on('connection', (socket) => socket.pipe(socket))
    const where = to(target)
    expect(await withConnection(where, () => 1)).to.equal(1)
    expect(await withConnection(where, { timeout: 5_000 }, () => 2)).to.equal(2)
    expect(await withConnection(where, async () => undefined)).to.equal(undefined)
    const line = await withConnection(where, { readerBufferSize: 1 }, async ({ reader, writer }) => {
      writer.write('echo\n')
      return await reader.readLine()
    })
    expect(line).to.equal('echo')
  })

  it('settles after the function has ended and the descriptor is closed', async () => {
    const { target, accept } = await rawServer(scope)
    const before = descriptors()
    const mayEnd = new Deferred()
    let connection: Connection | undefined
    let isSettled = false
    const running = withConnection(to(target), async (it) => {
      connection = it
      await mayEnd.promise
    }).then(() => {
      isSettled = true
    })
    const peer = await accept()
    await turns()
    expect(isSettled).to.equal(false)
    mayEnd.resolve()
    await once(peer.resume(), 'end')
    // The function has ended and the FIN is here, the descriptor lingers for ours.
    await turns()
    expect([isSettled, connection?.signal.aborted]).to.deep.equal([false, false])
    peer.destroy()
    await running
    expect(connection?.signal.aborted).to.equal(true)
    expect(connection?.socket.destroyed).to.equal(true)
    expect(descriptors()).to.equal(before)
  })

  for (const [how, fails] of [
    [
      'throws',
      (error: unknown) => {
        throw error
      }
    ],
    ['rejects', (error: unknown) => Promise.reject(error)]
  ] as const) {
    it(`if the function ${how}, its error is reported after the descriptor is closed, and what it wrote has been handed over`, async () => {
      const { target, accept } = await rawServer(scope)
      const error = new Error('of the function')
      let connection: Connection | undefined
      const running = rejection(
        withConnection(to(target), (it) => {
          connection = it
          it.writer.write(new Uint8Array(MiB))
          return fails(error)
        })
      )
      const peer = await accept()
      expect(await readToEnd(peer.resume())).to.have.length(MiB)
      peer.end()
      expect(await running).to.equal(error)
      expect(connection?.signal.aborted).to.equal(true)
    })
  }

  it('if the function throws undefined, it rejects with that', async () => {
    const { target, server } = await rawServer(scope)
    server.on('connection', (socket) => socket.destroy())
    expect(await rejection(withConnection(to(target), () => Promise.reject()))).to.equal(undefined)
  })

  it('if the function succeeds but bytes it wrote could not be handed over, that error is reported', async () => {
    const { target, accept } = await rawServer(scope)
    const running = rejection(withConnection(to(target), ({ writer }) => writer.write(new Uint8Array(32 * MiB))))
    const peer = await accept()
    await turns()
    peer.resetAndDestroy()
    const error = await running
    expect(error).to.be.instanceOf(ConnectionResetError)
    expect(error).to.have.nested.property('cause.code').that.is.oneOf(['ECONNRESET', 'EPIPE'])
  })

  it('if the function throws and bytes it wrote could not be handed over either, the error of the function is reported', async () => {
    const { target, accept } = await rawServer(scope)
    const error = new Error('of the function')
    const running = rejection(
      withConnection(to(target), ({ writer }) => {
        writer.write(new Uint8Array(32 * MiB))
        throw error
      })
    )
    const peer = await accept()
    await turns()
    peer.resetAndDestroy()
    expect(await running).to.equal(error)
  })

  it('a function that closes the connection itself, or aborts it, is no failure', async () => {
    const target = await politeServer(scope)
    expect(await withConnection(to(target), async (connection) => await connection.close())).to.equal(undefined)
    expect(
      await withConnection(to(target), (connection) => {
        connection.abort()
        return 'aborted'
      })
    ).to.equal('aborted')
  })

  it('a connection that breaks meanwhile is told by signal; the function is never abandoned', async () => {
    const { target, accept } = await rawServer(scope)
    const hasStarted = new Deferred()
    const mayEnd = new Deferred()
    const broke = new Deferred<unknown>()
    let isSettled = false
    const running = withConnection(to(target), async ({ signal }) => {
      hasStarted.resolve()
      signal.addEventListener('abort', () => broke.resolve(signal.reason), { once: true })
      await mayEnd.promise
      return 'to the end'
    })
    void running.then(() => {
      isSettled = true
    })
    const peer = await accept()
    await hasStarted.promise
    peer.resetAndDestroy()
    expect(await broke.promise).to.be.instanceOf(ConnectionResetError)
    await turns()
    expect(isSettled).to.equal(false)
    mayEnd.resolve()
    expect(await running).to.equal('to the end')
  })

  it('a signal that aborts while the function runs changes nothing', async () => {
    const { target, server } = await rawServer(scope)
    server.on('connection', (socket) => socket.pipe(socket))
    const controller = new AbortController()
    const line = await withConnection(to(target), { signal: controller.signal }, async ({ reader, writer }) => {
      controller.abort()
      writer.write('echo\n')
      return await reader.readLine()
    })
    expect(line).to.equal('echo')
  })

  it('the function is not called if there is no connection', async () => {
    let numCalls = 0
    const error = await rejection(withConnection(to(await closedPort()), () => numCalls++))
    expect(error).to.be.instanceOf(ConnectError)
    expect(numCalls).to.equal(0)
  })
})

describe('Clients: bad input is refused before anything is opened', () => {
  const scope = useScope()
  // Nothing is there: what gets as far as connecting fails otherwise than expected.
  const where = toFile('/nowhere/to/be/found')

  async function refuses(name: string, value: unknown, call: () => Promise<unknown>): Promise<void> {
    const before = descriptors()
    const refused = call()
    expect(descriptors()).to.equal(before)
    expectRefusal(await rejection(refused), name, ACTION, value)
  }

  for (const [name, open] of WAYS) {
    it(`${name}() refuses a timeout that is no duration above 0`, async () => {
      for (const value of BAD_DURATIONS) await refuses('timeout', value, () => open(where, { timeout: value as number }))
    })

    it(`${name}() refuses a signal that is no AbortSignal`, async () => {
      for (const value of [null, 42, {}, new AbortController()]) {
        await refuses('signal', value, () => open(where, { signal: value as AbortSignal }))
      }
    })

    it(`${name}() refuses options that are no object`, async () => {
      for (const value of [null, 42, 'timeout', true]) await refuses('options', value, () => open(where, value as ConnectOptions))
    })

    it(`${name}() refuses a place that nobody described`, async () => {
      const places = [
        undefined,
        null,
        42,
        '/run/app.sock',
        80,
        {},
        { host: 'localhost', port: 80 },
        { target: { host: 'localhost', port: 80 } }
      ]
      for (const value of places) await refuses('where', value, () => open(value as unknown as Where))
    })

    it(`${name}() refuses bad options before it looks at the signal`, async () => {
      await refuses('timeout', -1, () => open(where, { timeout: -1, signal: AbortSignal.abort() }))
    })
  }

  for (const [name, open] of WAYS.slice(1)) {
    it(`${name}() refuses a readerBufferSize that is no whole number above 0`, async () => {
      for (const value of BAD_COUNTS) await refuses('readerBufferSize', value, () => open(where, { readerBufferSize: value as number }))
    })

    for (const option of ['bufferAgeLimit', 'idleTimeout', 'keepAlive'] as const) {
      it(`${name}() refuses a ${option} that is no duration above 0`, async () => {
        for (const value of BAD_DURATIONS) await refuses(option, value, () => open(where, { [option]: value }))
      })
    }
  }

  it('withConnection() refuses what is no function', async () => {
    for (const value of [undefined, null, 42, 'fn', {}]) {
      await refuses('fn', value, () => withConnection(where, value as unknown as () => void))
      await refuses('fn', value, () => withConnection(where, {}, value as unknown as () => void))
    }
    await refuses('fn', undefined, () => (withConnection as (where: Where) => Promise<unknown>)(where))
  })

  it('the same place that refuses bad input takes good input', async () => {
    const path = join(scope.tempDir(), 's')
    const { server } = await rawServer(scope, path)
    server.on('connection', (socket) => socket.destroy())
    for (const [, open] of WAYS) {
      await open(toFile(path), { timeout: 5_000, signal: new AbortController().signal, readerBufferSize: 1, keepAlive: false })
    }
  })
})

// ---------------------------------------------------------------------------------------------------------------------

/** A server that reads, and closes when its client does. */
async function politeServer(scope: Scope): Promise<Target> {
  const { server, target } = await rawServer(scope)
  server.on('connection', (socket) => socket.on('end', () => socket.end()).resume())
  return target
}

/** Sockets that never connect, fail or do anything: the test does it for them. */
class Sockets {
  readonly made: Socket[] = []
  readonly asked: NetConnectOpts[] = []

  readonly create = (): Socket => {
    const { asked } = this
    class Idle extends Socket {
      override connect(options: unknown): this {
        asked.push(options as NetConnectOpts)
        return this
      }
    }
    const socket = new Idle()
    this.made.push(socket)
    return socket
  }

  get targets(): unknown[] {
    return this.asked.map((options) => (options as TcpNetConnectOpts).host)
  }

  get destroyed(): boolean[] {
    return this.made.map((socket) => socket.destroyed)
  }
}

function answers(...addresses: string[]): Lookup {
  return () => Promise.resolve(addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })))
}

function to(target: Target): Where {
  return typeof target === 'string' ? toFile(target) : toHostAndPort('127.0.0.1', target)
}

function timers(): number {
  return process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length
}

function listeners(socket: Socket): [event: string, count: number][] {
  return socket.eventNames().map((event): [string, number] => [String(event), socket.listenerCount(event)])
}

interface BlackHole {
  readonly target: Target
  /** From then on every client is taken. */
  wake(): void
}

/**
 * A server that listens but takes nobody, with a full queue: Linux drops the SYN of a further TCP client, and fails a
 * unix client with EAGAIN. Its event loop stands still in a thread of its own.
 */
async function blackHole(
  context: Mocha.Context,
  scope: Scope,
  where: string | { port: number; host: string } = { port: 0, host: '127.0.0.1' }
): Promise<BlackHole> {
  skipIf(context, !IS_LINUX, 'needs the way in which Linux treats clients beyond the queue')
  return await fullServer(scope, where)
}

async function fullQueue(scope: Scope): Promise<string> {
  const { target } = await fullServer(scope, join(scope.tempDir(), 's'))
  return target as string
}

async function fullServer(scope: Scope, where: string | { port: number; host: string }): Promise<BlackHole> {
  const backlog = 1
  const gate = new Int32Array(new SharedArrayBuffer(4))
  const worker = new Worker(
    `const { parentPort, workerData: { where, gate } } = require('node:worker_threads')
    const server = require('node:net').createServer().listen(where, () => {
      parentPort.postMessage(where.path ?? server.address().port)
      Atomics.wait(gate, 0, 0)
    })`,
    { eval: true, workerData: { where: { ...(typeof where === 'string' ? { path: where } : where), backlog }, gate } }
  )
  scope.defer(() => worker.terminate())
  const [target] = (await once(worker, 'message')) as [Target]
  const wanted = typeof where === 'string' ? { path: where } : { host: where.host, port: target as number }
  // The queue is full with one more than the backlog.
  for (let index = 0; index <= backlog; index++) {
    const socket = new Socket().on('error', () => {}).connect(wanted)
    scope.defer(() => socket.destroy())
    await once(socket, 'connect')
  }
  return {
    target,
    wake() {
      Atomics.store(gate, 0, 1)
      Atomics.notify(gate, 0)
    }
  }
}

/** The path of a socket that nobody listens on any more. */
async function staleSocket(scope: Scope): Promise<string> {
  const path = join(scope.tempDir(), 's')
  const worker = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads')
    require('node:net').createServer().listen(workerData, () => parentPort.postMessage(''))`,
    { eval: true, workerData: path }
  )
  await once(worker, 'message')
  // What libuv unlinks when it closes is the name that was bound.
  renameSync(path, `${path}.stale`)
  await worker.terminate()
  return `${path}.stale`
}

type GetSockOpt = (fd: number, level: number, name: number, value: Int32Array, length: Uint32Array) => number
let getSockOpt: GetSockOpt | undefined

/** An option of a socket as the system has it, by the numbers of Linux. Skips the test where that can't be asked. */
function socketOption(context: Mocha.Context, socket: Socket, level: number, name: number): number {
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi')
    getSockOpt ??= koffi.load(null).func('int getsockopt(int, int, int, _Out_ int *, _Inout_ uint32_t *)') as unknown as GetSockOpt
  } catch {
    // Told below.
  }
  const { fd } = (socket as unknown as { _handle: { fd: number } })._handle
  skipIf(context, !IS_LINUX || getSockOpt === undefined || fd < 0, 'needs Linux and koffi')
  const value = new Int32Array(1)
  expect(getSockOpt?.(fd, level, name, value, new Uint32Array([4]))).to.equal(0)
  return value[0] ?? 0
}
