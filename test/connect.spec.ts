import { once } from 'node:events'
import { createConnection, Socket } from 'node:net'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { expect } from 'chai'
import { inetAddresses } from '../src/client/dial.ts'
import { connect, connectSocket, withConnection } from '../src/connect.ts'
import { ConnectError } from '../src/errors.ts'
import type { ConnectOptions } from '../src/options.ts'
import { toFile } from '../src/where-to-connect.ts'
import { BAD_COUNTS, BAD_DURATIONS, expectRefusal } from './helpers/bad-input.ts'
import { descriptors } from './helpers/descriptors.ts'
import { ACTION, listeners, politeServer, socketOption, to, WAYS, type Where } from './helpers/dialling.ts'
import { rawServer, readToEnd } from './helpers/raw.ts'
import { rejection } from './helpers/rejection.ts'
import { useScope } from './helpers/scope.ts'
import { turns } from './helpers/until.ts'

describe('connectSocket', () => {
  const scope = useScope()

  for (const [kind, path] of [
    ['TCP', () => undefined],
    ['a unix socket', () => join(scope.tempDir(), 's')]
  ] as const) {
    it(`resolves with a socket over ${kind} as net.connect leaves it, but half-open`, async () => {
      const { target, accept } = await rawServer(scope, path())
      const ours = await connectSocket(to(target))
      scope.defer(() => ours.destroy())
      const theirs = createConnection(typeof target === 'string' ? { path: target } : { port: target, host: '127.0.0.1' })
      scope.defer(() => theirs.destroy())
      await once(theirs, 'connect')
      const states = [ours, theirs].map((socket) => ({
        connecting: socket.connecting,
        pending: socket.pending,
        destroyed: socket.destroyed,
        isPaused: socket.isPaused(),
        readableFlowing: socket.readableFlowing,
        readyState: socket.readyState
      }))
      expect(states[0]).to.deep.equal(states[1])
      expect(ours).to.be.instanceOf(Socket)
      expect(ours.allowHalfOpen).to.equal(true)
      const peer = await accept()
      peer.write('first bytes')
      // Nobody resumes it: a listener is enough.
      expect(String((await once(ours, 'data'))[0])).to.equal('first bytes')
      peer.end()
      await once(ours, 'end')
      ours.end('after the end')
      expect(String(await readToEnd(peer.resume()))).to.equal('after the end')
    })

    it(`loses no byte of a socket over ${kind} that came before anybody listened`, async () => {
      const { target, accept } = await rawServer(scope, path())
      const socket = await connectSocket(to(target))
      scope.defer(() => socket.destroy())
      const peer = await accept()
      await new Promise((resolve) => peer.end('first bytes', () => resolve(undefined)))
      await turns()
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

  it('knows what was dialled, also if the peer resets at once and the system has forgotten it', async () => {
    const { target, server } = await rawServer(scope)
    server.on('connection', (socket) => socket.resetAndDestroy())
    for (let i = 0; i < 100; i++) {
      try {
        const connection = await connect(to(target))
        expect(connection.remoteAddress).to.deep.equal({ family: 'IPv4', address: '127.0.0.1', port: target })
        expect(connection.localAddress).to.have.property('address', '127.0.0.1')
        connection.abort()
        await connection.closed
      } catch (error) {
        // The reset may be there before the connection.
        if (!(error instanceof ConnectError)) throw error
      }
    }
    // A socket without a peer, as it is after a reset.
    for (const [host, family] of [
      ['192.0.2.1', 'IPv4'],
      ['2001:db8::1', 'IPv6']
    ] as const) {
      const { remoteAddress } = inetAddresses({ socket: new Socket(), endpoint: { host, port: 80, autoSelectFamily: false } })
      expect(remoteAddress).to.deep.equal({ family, address: host, port: 80 })
    }
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
