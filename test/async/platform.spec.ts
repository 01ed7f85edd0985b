import { expect } from 'chai'
import * as platform from '../../src/async/platform.ts'
import { connect } from '../../src/connect.ts'
import { rawServer, readToEnd } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'
import { until } from '../helpers/until.ts'

describe('What schedules and cancels is taken from Node.js once, at import', () => {
  const scope = useScope()
  const { nextTick } = process
  const { setImmediate, queueMicrotask, AbortController, AbortSignal } = globalThis

  afterEach(() => {
    process.nextTick = nextTick
    Object.assign(globalThis, { setImmediate, queueMicrotask, AbortController, AbortSignal })
  })

  it('is what Node.js has', () => {
    expect(platform.nextTick).to.equal(nextTick)
    expect(platform.setImmediate).to.equal(setImmediate)
    expect(platform.queueMicrotask).to.equal(queueMicrotask)
    expect(platform.AbortController).to.equal(AbortController)
  })

  it('writes and sinks go on while all of them are faked', async () => {
    const { target, server } = await rawServer(scope)
    const received: Promise<Buffer>[] = []
    server.on('connection', (socket) => {
      received.push(readToEnd(socket).finally(() => socket.destroy()))
    })
    const connection = scope.open(await connect({ target: { host: '127.0.0.1', port: target as number }, bind: {} }))
    const nobody = (): void => {}
    process.nextTick = nobody
    Object.assign(globalThis, { setImmediate: nobody, queueMicrotask: nobody })
    try {
      connection.writer.write('two writes')
      connection.writer.write(' in one turn')
      await connection.writer.flushed()
      await connection.writer(Array.from({ length: 64 }, () => new Uint8Array(65_536)))
    } finally {
      process.nextTick = nextTick
      Object.assign(globalThis, { setImmediate, queueMicrotask })
    }
    await until(() => received.length === 1)
    expect(await received[0]).to.have.length(22 + 64 * 65_536)
  })

  it('connects, reads and closes where the classes of cancelling are not Node.js’s', async () => {
    class Signal {
      aborted = false
      reason: unknown
      readonly listeners = new Set<() => void>()
      addEventListener(_: string, listener: () => void): void {
        this.listeners.add(listener)
      }
      removeEventListener(_: string, listener: () => void): void {
        this.listeners.delete(listener)
      }
    }
    class Controller {
      readonly signal = new Signal()
      abort(reason: unknown): void {
        Object.assign(this.signal, { aborted: true, reason })
        for (const listener of [...this.signal.listeners]) listener()
      }
    }
    Object.assign(globalThis, { AbortController: Controller, AbortSignal: Signal })
    const { target, server } = await rawServer(scope)
    server.on('connection', (socket) => socket.end('hi'))
    const where = { target: { host: '127.0.0.1', port: target as number }, bind: {} }
    const controller = new Controller()
    const signal = controller.signal as unknown as AbortSignal
    const connection = await connect(where, { signal })
    expect(controller.signal.listeners.size).to.equal(0)
    expect(Buffer.from(await connection.reader.readAll({ signal })).toString()).to.equal('hi')
    await connection.close()
    controller.abort('enough')
    expect(
      await connect(where, { signal }).then(
        () => 'connected',
        (reason) => reason
      )
    ).to.equal('enough')
  })
})
