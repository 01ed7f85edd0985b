import { once } from 'node:events'
import { type AddressInfo, createServer, Socket, type TcpNetConnectOpts } from 'node:net'
import { mock } from 'node:test'
import { expect } from 'chai'
import type { Lookup } from '../../src/client/dial.ts'
import { connect } from '../../src/connect.ts'
import { ConnectError, ConnectTimeoutError } from '../../src/errors.ts'
import { toHostAndPort, toInetAddress } from '../../src/where-to-connect.ts'
import { descriptors } from '../helpers/descriptors.ts'
import { answers, blackHole, dial, IS_LINUX, NO_LIMITS, politeServer, Sockets, to } from '../helpers/dialling.ts'
import { skipIf } from '../helpers/programs.ts'
import { closedPort, rawServer } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { turns, until } from '../helpers/until.ts'

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
