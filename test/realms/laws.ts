// What holds where the globals are not Node.js's own, and under fake clocks: run by jest and vitest, each in its environments.

import assert from 'node:assert/strict'
import { runInNewContext } from 'node:vm'
import {
  ConnectError,
  ConnectionClosedError,
  connect,
  connectSocket,
  IdleTimeoutError,
  isPeerError,
  onPortChosenByOs,
  Server,
  toHostAndPort,
  withConnection
} from '../../src/index.ts'

interface Clock {
  useFakeTimers(): unknown
  useRealTimers(): unknown
  advanceTimersByTimeAsync(milliseconds: number): Promise<unknown>
}

// Of jest, or of vitest.
const clock = (import.meta as { jest?: Clock }).jest ?? (globalThis as { vi?: Clock }).vi

describe('it-tcp among the globals of a test environment', () => {
  let server: Server<never, number>
  const where = (): ReturnType<typeof toHostAndPort> => toHostAndPort('127.0.0.1', server.listeningOn)

  beforeEach(async () => {
    server = (await Server.create(onPortChosenByOs({ host: '127.0.0.1' }), { onHandlerError: 'ignore' }, async ({ reader, writer }) => {
      await writer(reader)
    })) as unknown as typeof server
  })

  afterEach(async () => {
    clock?.useRealTimers()
    await server.close({ closeExistingConnections: true })
  })

  it('connects, and takes bytes of this realm to write and to read into', async () => {
    const connection = await connect(where(), { signal: new AbortController().signal })
    connection.writer.write(new Uint8Array([104, 105]))
    await connection.writer([new Uint8Array([33])])
    const buffer = new Uint8Array(2)
    assert.equal(await connection.reader.readInto(buffer), 2)
    assert.equal(String.fromCharCode(...buffer), 'hi')
    assert.equal(String.fromCharCode(...((await connection.reader.readUntil(new Uint8Array([33]))) ?? [])), '!')
    assert.equal(connection.remoteAddress.port, server.listeningOn)
    await connection.close()
  })

  it('takes bytes of a realm that shares no class with this one', async () => {
    const foreign = runInNewContext('new Uint8Array([104, 105])') as Uint8Array
    assert.ok(!(foreign instanceof Uint8Array))
    const connection = await connect(where())
    connection.writer.write(foreign)
    const buffer = runInNewContext('new Uint8Array(2)') as Uint8Array
    assert.equal(await connection.reader.readInto(buffer), 2)
    assert.equal(String.fromCharCode(...buffer), 'hi')
    connection.writer.write('line')
    connection.writer.write(foreign)
    assert.equal((await connection.reader.readUntil(foreign))?.byteLength, 6)
    await connection.close()
  })

  it('takes an AbortSignal of this realm', async () => {
    const controller = new AbortController()
    const connecting = connect(where(), { signal: controller.signal })
    const reason = new Error('enough')
    controller.abort(reason)
    await assert.rejects(connecting, (error) => error === reason)
    await assert.rejects(connect(where(), { signal: controller.signal }), (error) => error === reason)
    const connection = await connect(where(), { signal: new AbortController().signal })
    const reading = new AbortController()
    const read = connection.reader.read({ signal: reading.signal })
    reading.abort(reason)
    await assert.rejects(read, (error) => error === reason)
    connection.abort()
    await connection.closed
  })

  it('reports the end of a connection by its signal', async () => {
    const connection = await connect(where())
    const told = new Promise<unknown>((resolve) => {
      connection.signal.addEventListener('abort', () => resolve(connection.signal.reason))
    })
    await connection.close()
    assert.ok((await told) instanceof ConnectionClosedError)
  })

  it('has the system’s own words for errors', async () => {
    const { listeningOn } = server
    await server.close()
    await assert.rejects(connect(toHostAndPort('127.0.0.1', listeningOn)), (error) => {
      assert.ok(error instanceof ConnectError)
      assert.equal(error.message, `Cannot connect to 127.0.0.1:${listeningOn}: connection refused`)
      assert.ok(isPeerError(new Error('wrapped', { cause: error })))
      return true
    })
  })

  it('gives sockets to node:net', async () => {
    const socket = await connectSocket(where())
    const data = new Promise((resolve) => socket.once('data', resolve))
    socket.write('hello')
    assert.equal(String(await data), 'hello')
    await new Promise((resolve) => socket.on('close', resolve).destroy())
  })

  it('lets bytes go on while a fake clock stands still', async () => {
    clock?.useFakeTimers()
    const line = await withConnection(where(), async ({ reader, writer }) => {
      writer.write('two writes, ')
      writer.write('one turn\n')
      return await reader.readLine()
    })
    assert.equal(line, 'two writes, one turn')
    const received = await withConnection(where(), async ({ reader, writer }) => {
      const [count] = await Promise.all([reader.discard(), writer(Array.from({ length: 64 }, () => new Uint8Array(65_536)))])
      return count
    })
    assert.equal(received, 64 * 65_536)
  })

  it('limits move with a fake clock, also those that connections from before it share', async () => {
    // Such a limit has an interval of its own already, of the real clock.
    const before = await connect(where(), { idleTimeout: 60_000 })
    clock?.useFakeTimers()
    const connection = await connect(where(), { idleTimeout: 60_000 })
    const reading = connection.reader.read().then(
      () => assert.fail('not idle'),
      (error: unknown) => error
    )
    await clock?.advanceTimersByTimeAsync(59_000)
    assert.equal(connection.signal.aborted, false)
    await clock?.advanceTimersByTimeAsync(9_000)
    assert.ok((await reading) instanceof IdleTimeoutError)
    assert.equal(before.signal.aborted, false)
    clock?.useRealTimers()
    // And one that is made behind it goes by the real clock again.
    const after = await connect(where(), { idleTimeout: 50 })
    await assert.rejects(after.reader.read(), IdleTimeoutError)
    before.abort()
    await before.closed
  })

  it('the timeout of a dial moves with a fake clock', async () => {
    clock?.useFakeTimers()
    const { setTimeout } = globalThis
    const names: string[] = []
    globalThis.setTimeout = ((...args: Parameters<typeof setTimeout>) => {
      names.push(String(args[1]))
      return setTimeout(...args)
    }) as typeof setTimeout
    const connection = await connect(where(), { timeout: 12_345 })
    globalThis.setTimeout = setTimeout
    assert.deepEqual([...names], ['12345'])
    connection.abort()
    await connection.closed
  })
})
