import { once } from 'node:events'
import { Socket } from 'node:net'
import { mock } from 'node:test'
import { expect } from 'chai'
import { Deferred } from '../../src/async/deferred.ts'
import { type DialLimits, dial as dialWithSteps, type Step } from '../../src/client/dial.ts'
import { ConnectError, ConnectTimeoutError } from '../../src/errors.ts'
import { descriptors } from '../helpers/descriptors.ts'
import { listeners, NO_LIMITS, to } from '../helpers/dialling.ts'
import { rawServer, readToEnd, type Target } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { turns, until } from '../helpers/until.ts'

describe('Clients: what comes between the connected socket and the connection is within the same limits', () => {
  const scope = useScope()
  const create = (): Socket => new Socket({ allowHalfOpen: true })
  const take = async (target: Target, limits: Partial<DialLimits>, ...steps: Step[]): Promise<Socket> => {
    return (await dialWithSteps(to(target), { ...NO_LIMITS, ...limits }, create, steps)).socket
  }

  it('takes the steps in their order, each with the socket that the one before gave', async () => {
    const { target, accept } = await rawServer(scope)
    const taken: string[] = []
    const other = new Socket()
    const socket = await take(
      target,
      {},
      async (first) => {
        taken.push('first')
        first.write('header ')
        return first
      },
      async (first) => {
        taken.push('second')
        first.end('hello')
        first.once('close', () => other.destroy())
        return other
      },
      async (second) => {
        taken.push(`third ${second === other}`)
        return second
      }
    )
    expect(socket).to.equal(other)
    expect(taken).to.deep.equal(['first', 'second', 'third true'])
    const peer = await accept()
    expect(String(await readToEnd(peer))).to.equal('header hello')
    peer.destroy()
    if (!other.closed) await once(other, 'close')
  })

  it('leaves no listener of its own on the socket that it hands out', async () => {
    const { target, accept } = await rawServer(scope)
    const socket = await take(target, {}, async (same) => same)
    scope.defer(() => socket.destroy())
    const untouched = new Socket({ allowHalfOpen: true })
    expect(listeners(socket)).to.deep.equal(listeners(untouched))
    untouched.destroy()
    await accept()
  })

  for (const [how, fail] of [
    ['rejects', async (error: Error) => Promise.reject(error)],
    [
      'throws',
      (error: Error) => {
        throw error
      }
    ]
  ] as const) {
    it(`a step that ${how} is the error, no further step is taken, and nothing stays open`, async () => {
      const { target, accept } = await rawServer(scope)
      const before = descriptors()
      const error = new Error('no handshake')
      const dialling = take(
        target,
        {},
        () => fail(error),
        async () => expect.fail('went on')
      )
      expect(await rejection(dialling)).to.equal(error)
      await accept().then((peer) => peer.destroy())
      await until(() => descriptors() === before)
    })
  }

  it('timeout is one for dialling and all steps: ConnectTimeoutError, and nothing stays open', async () => {
    const { target, accept } = await rawServer(scope)
    mock.timers.enable({ apis: ['setTimeout'] })
    scope.defer(() => mock.timers.reset())
    const before = descriptors()
    let isAtSecond = false
    const dialling = rejection(
      take(
        target,
        { timeout: 100 },
        async (socket) => {
          mock.timers.tick(60)
          return socket
        },
        async () => {
          isAtSecond = true
          return await new Promise(() => {})
        }
      )
    )
    await until(() => isAtSecond)
    mock.timers.tick(40)
    const error = await dialling
    expect(error).to.be.instanceOf(ConnectTimeoutError)
    expect(error).to.have.property('message', `Cannot connect to 127.0.0.1:${target}: no connection within 100 ms`)
    await accept().then((peer) => peer.destroy())
    await until(() => descriptors() === before)
  })

  it('signal ends a step, and what the step gives later is destroyed', async () => {
    const { target, accept } = await rawServer(scope)
    const before = descriptors()
    const controller = new AbortController()
    const late = new Deferred<Socket>()
    const hasBegun = new Deferred()
    const dialling = take(target, { signal: controller.signal }, () => {
      hasBegun.resolve()
      return late.promise
    })
    await hasBegun.promise
    controller.abort('enough')
    expect(await rejection(dialling)).to.equal('enough')
    const other = new Socket()
    late.resolve(other)
    await turns(1)
    expect(other.destroyed).to.equal(true)
    await accept().then((peer) => peer.destroy())
    await until(() => descriptors() === before)
  })

  it('aborted in the very turn in which the last step ends it still rejects', async () => {
    const { target, accept } = await rawServer(scope)
    const controller = new AbortController()
    let taken: Socket | undefined
    const dialling = take(target, { signal: controller.signal }, async (socket) => {
      taken = socket
      // Behind the step's end, and before whoever waits for it goes on.
      void Promise.resolve()
        .then(() => {})
        .then(() => controller.abort('enough'))
      return socket
    })
    expect(await rejection(dialling)).to.equal('enough')
    expect(taken?.destroyed).to.equal(true)
    await accept().then((peer) => peer.destroy())
  })

  it('a peer that breaks off during a step is a ConnectError, unless the step has a better one; no error is unhandled', async () => {
    const { target, accept } = await rawServer(scope)
    const broken = async (step: Step): Promise<unknown> => {
      const hasBegun = new Deferred()
      const dialling = rejection(
        take(target, {}, (socket) => {
          hasBegun.resolve()
          return step(socket.resume())
        })
      )
      await hasBegun.promise
      ;(await accept()).resetAndDestroy()
      return await dialling
    }
    const error = await broken(() => new Promise(() => {}))
    expect(error).to.be.instanceOf(ConnectError)
    expect(error).to.have.nested.property('cause.code', 'ECONNRESET')
    const better = new Error('of the handshake')
    const told = broken(async (socket) => {
      await new Promise((resolve) => socket.once('close', resolve))
      // As long as a library takes to make its own error of it.
      for (let hops = 0; hops < 10; hops++) await Promise.resolve()
      throw better
    })
    expect(await told).to.equal(better)
    const end = await broken((socket) => new Promise(() => socket.destroy()))
    expect(end).to.have.property('message', `Cannot connect to 127.0.0.1:${target}: the peer closed the connection`)
  })
})
