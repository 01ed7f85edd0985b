import { once } from 'node:events'
import { mock } from 'node:test'
import { expect } from 'chai'
import type { SocketAddress } from '../src/address.ts'
import { Deferred } from '../src/async/deferred.ts'
import { withConnection } from '../src/connect.ts'
import type { Connection } from '../src/connection.ts'
import { ConnectError, ConnectionResetError } from '../src/errors.ts'
import { ByteConnection } from '../src/stream/byte-connection.ts'
import { toFile } from '../src/where-to-connect.ts'
import { expectRefusal } from './helpers/bad-input.ts'
import { descriptors } from './helpers/descriptors.ts'
import { ACTION, politeServer, to } from './helpers/dialling.ts'
import { closedPort, rawServer, readToEnd } from './helpers/raw.ts'
import { rejection } from './helpers/rejection.ts'
import { useScope } from './helpers/scope.ts'
import { turns } from './helpers/until.ts'

const MiB = 2 ** 20

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

  for (const [how, fn] of [
    ['succeeds', () => {}],
    ['throws', () => Promise.reject(new Error('of the function'))]
  ] as const) {
    it(`closes with the linger and the forceAfter of its options, also if the function ${how}`, async () => {
      const target = await politeServer(scope)
      const { prototype } = ByteConnection
      const { close } = prototype
      const received: unknown[] = []
      prototype.close = function (this: ByteConnection<SocketAddress>, options) {
        received.push(options)
        return close.call(this, { forceAfter: 1_000 })
      }
      try {
        await withConnection(to(target), { linger: 5, forceAfter: 10 }, fn).catch(() => {})
        await withConnection(to(target), { linger: 0 }, fn).catch(() => {})
        await withConnection(to(target), { forceAfter: 0 }, fn).catch(() => {})
        await withConnection(to(target), fn).catch(() => {})
      } finally {
        prototype.close = close
      }
      expect(received).to.deep.equal([{ linger: 5, forceAfter: 10 }, { linger: 0 }, { forceAfter: 0 }, {}])
    })
  }

  it('with linger: 0 it is not held up by a peer that does not close its side', async () => {
    const { target, accept } = await rawServer(scope)
    mock.timers.enable({ apis: ['setTimeout'] })
    scope.defer(() => mock.timers.reset())
    const running = withConnection(to(target), { linger: 0 }, () => 'healthy')
    const peer = await accept()
    expect(await running).to.equal('healthy')
    // By default that takes 2 s.
    let isSettled = false
    const slow = withConnection(to(target), () => {}).then(() => {
      isSettled = true
    })
    const other = await accept()
    await readToEnd(other)
    await turns()
    mock.timers.tick(1_999)
    await turns()
    expect(isSettled).to.equal(false)
    mock.timers.tick(1)
    await slow
    peer.destroy()
    other.destroy()
  })

  it('refuses a linger or a forceAfter that is no time, before it connects', async () => {
    const before = descriptors()
    for (const name of ['linger', 'forceAfter'] as const) {
      for (const value of [-1, Number.NaN, '1000', null]) {
        const refused = withConnection(toFile('/nowhere/to/be/found'), { [name]: value }, () => {})
        expect(descriptors()).to.equal(before)
        expectRefusal(await rejection(refused), name, ACTION, value)
      }
    }
  })
})
