// What moves with a fake clock: every limit in time, over memory and over sockets. For whatever runs tests, and whatever fakes the clock.

import { setImmediate } from '../../src/async/platform.ts'
import type { Connection, ConnectionOptions } from '../../src/index.ts'
import { connect, listen, onPort, Server, toHostAndPort } from '../../src/index.ts'
import { MemoryNetwork } from '../../src/testing.ts'

/** A clock that a test moves. */
export interface FakeClock {
  /** `hasSockets`: Node.js's own sockets use `process.nextTick`, which then must not be faked. */
  install(hasSockets: boolean): void
  /** Moves by so many milliseconds. */
  advance(milliseconds: number): void | Promise<void>
  uninstall(): void
}

/** How the runner of these laws is told of a test. */
export type DefineTest = (title: string, test: () => Promise<void>) => unknown

/** Where servers listen and clients dial. */
interface Place {
  readonly name: string
  where(): Pick<MemoryNetwork, 'onPort' | 'toHostAndPort'>
}

const PLACES: readonly Place[] = [
  { name: 'over memory', where: () => new MemoryNetwork() },
  {
    name: 'over TCP',
    where: () => ({
      onPort: (port) => onPort(port, { host: '127.0.0.1' }),
      toHostAndPort: (_host, port, options) => toHostAndPort('127.0.0.1', port, options)
    })
  }
]
const HOST = 'host'
/** More than a system takes. */
const TOO_MUCH = new Uint8Array(64 * 1024 * 1024)

/** Defines the tests, each with a clock that is installed for it alone. */
export function defineClockLaws(define: DefineTest, clock: FakeClock): void {
  for (const { name, where } of PLACES) {
    const test = (title: string, run: (bench: Bench) => Promise<void>): void => {
      define(`${title} ${name}`, async () => {
        const bench = new Bench(where(), clock)
        try {
          await run(bench)
        } finally {
          await bench.clear()
        }
      })
    }

    test('`timeout` of connect() passes', async (bench) => {
      const { server, port } = await bench.listen({ backlog: 1 })
      // Linux has one place more than asked for.
      await bench.connect(port)
      if (name === 'over TCP') await bench.connect(port)
      bench.install()
      const late = bench.expectError(connect(bench.place.toHostAndPort(HOST, port), { timeout: 60_000 }), 'ERR_CONNECT_TIMEOUT')
      await bench.advance(59_000)
      bench.check(!late.isSettled, 'it passed too early')
      await bench.advance(2_000)
      await late.settled()
      await server.close()
    })

    test('`handshakeTimeout` passes', async (bench) => {
      const { server, port } = await bench.listen({ proxyProtocol: { from: 'anybody' }, handshakeTimeout: 10_000 })
      bench.install()
      const accepting = server.accept()
      accepting.catch(() => {})
      const client = await bench.connect(port)
      await bench.turns()
      const cut = bench.expectError(client.reader.read(), 'ERR_CONNECTION_RESET')
      await bench.advance(9_000)
      bench.check(!cut.isSettled, 'it passed too early')
      await bench.advance(2_000)
      await cut.settled()
      bench.check(server.statistics().turnedAway.proxyHeader === 1, 'the client was not turned away')
    })

    test('`idleTimeout` passes', async (bench) => {
      const { client } = await bench.pair({ idleTimeout: 80_000 }, true)
      const idle = bench.expectError(client.reader.read(), 'ERR_IDLE_TIMEOUT')
      await bench.advance(70_000)
      client.writer.write('a byte')
      await bench.turns()
      await bench.advance(70_000)
      bench.check(!idle.isSettled, 'it passed too early')
      await bench.advance(30_000)
      await idle.settled()
    })

    test('`idleTimeout` passes although another connection with the same was opened before the clock was installed', async (bench) => {
      await bench.pair({ idleTimeout: 80_000 }, false)
      const { client } = await bench.pair({ idleTimeout: 80_000 }, true)
      const idle = bench.expectError(client.reader.read(), 'ERR_IDLE_TIMEOUT')
      await bench.advance(100_000)
      await idle.settled()
    })

    test('`bufferAgeLimit` passes', async (bench) => {
      const { client } = await bench.pair({ bufferAgeLimit: 120_000 }, true)
      client.writer.write(TOO_MUCH)
      const aged = bench.expectError(client.writer.flushed(), 'ERR_BUFFER_AGE_LIMIT')
      await bench.turns()
      await bench.advance(100_000)
      bench.check(!aged.isSettled, 'it passed too early')
      await bench.advance(60_000)
      await aged.settled()
    })

    const closeByForce = async (bench: Bench): Promise<ReturnType<Bench['expectError']>> => {
      const { client } = await bench.pair({}, true)
      client.writer.write(TOO_MUCH)
      await bench.turns()
      return bench.expectError(client.close({ forceAfter: 30_000 }), 'ERR_CONNECTION_CLOSED')
    }

    test('`forceAfter` of close() passes', async (bench) => {
      const forced = await closeByForce(bench)
      await bench.advance(29_000)
      bench.check(!forced.isSettled, 'it passed too early')
      await bench.advance(2_000)
      await forced.settled()
    })

    test('`forceAfter` of close() passes, also if the clock is moved to it right after the call', async (bench) => {
      const forced = await closeByForce(bench)
      await bench.advance(30_000)
      await forced.settled()
    })

    test('`linger` of close() passes', async (bench) => {
      const { client } = await bench.pair({}, true)
      const closing = bench.watch(client.close())
      await bench.turns()
      await bench.advance(1_000)
      bench.check(!closing.isSettled, 'it passed too early')
      await bench.advance(2_000)
      await closing.settled()
    })

    test('`timeout` of a read passes', async (bench) => {
      const { client } = await bench.pair({}, true)
      const late = bench.expectError(client.reader.readLine({ timeout: 5_000 }), 'ERR_READ_TIMEOUT')
      await bench.advance(4_000)
      bench.check(!late.isSettled, 'it passed too early')
      await bench.advance(2_000)
      await late.settled()
    })

    test('bytes, handlers and slots do not wait for the clock', async (bench) => {
      bench.install()
      const server = await Server.create(bench.place.onPort(0), { maxConnections: 2, warnAtLimit: false }, ({ reader, writer }) =>
        writer(reader)
      )
      const echo = async (number: number): Promise<string | null> => {
        const { reader, writer } = await bench.connect(server.listeningOn)
        writer.write(`${number}\n`)
        const line = await reader.readLine()
        await writer.close()
        return line
      }
      const lines = await Promise.all([1, 2, 3, 4, 5].map(echo))
      bench.check(lines.join() === '1,2,3,4,5', `the lines were ${lines}`)
      await server.close()
      await server.finished
    })
  }
}

interface Watched {
  readonly isSettled: boolean
  /** Waits, for so many turns of the event loop and no time, and rejects with whatever was wrong. */
  settled(): Promise<void>
}

/** What one test needs. */
class Bench {
  readonly place: Pick<MemoryNetwork, 'onPort' | 'toHostAndPort'>
  readonly #clock: FakeClock
  readonly #closers: (() => void)[] = []
  #isInstalled = false

  constructor(place: Pick<MemoryNetwork, 'onPort' | 'toHostAndPort'>, clock: FakeClock) {
    this.place = place
    this.#clock = clock
  }

  install(): void {
    this.#clock.install(!(this.place instanceof MemoryNetwork))
    this.#isInstalled = true
  }

  async advance(milliseconds: number): Promise<void> {
    await this.#clock.advance(milliseconds)
    await this.turns()
  }

  async turns(count = 50): Promise<void> {
    for (let turn = 0; turn < count; turn++) await new Promise<void>((resolve) => void setImmediate(resolve))
  }

  check(holds: boolean, what: string): void {
    if (!holds) throw new Error(what)
  }

  async listen(options: Parameters<typeof listen>[1]): Promise<{ server: Server; port: number }> {
    const server = await listen(this.place.onPort(0), options as never)
    this.#closers.push(() => void server.close({ closeExistingConnections: true }))
    return { server: server as Server, port: server.listeningOn }
  }

  async connect(port: number, options: ConnectionOptions = {}): Promise<Connection> {
    const connection = await connect(this.place.toHostAndPort(HOST, port), options)
    this.#closers.push(() => connection.abort())
    return connection
  }

  /** Two ends, the client's with `options`. */
  async pair(options: ConnectionOptions, isFake: boolean): Promise<{ client: Connection; served: Connection }> {
    const { server, port } = await this.listen({ readerBufferSize: 1 })
    if (isFake) this.install()
    const accepting = server.accept()
    const client = await this.connect(port, options)
    return { client, served: await accepting }
  }

  /** Watches a promise that must reject with an error of `code`. */
  expectError(promise: Promise<unknown>, code: string): Watched {
    return this.watch(
      promise.then(
        (value) => {
          throw new Error(`Resolved with ${String(value)} instead of rejecting with ${code}`)
        },
        (error: { code?: string }) => {
          if (error.code !== code) throw error
        }
      )
    )
  }

  watch(promise: Promise<unknown>): Watched {
    let isSettled = false
    const settle = (): void => {
      isSettled = true
    }
    promise.then(settle, settle)
    const bench = this
    return {
      get isSettled() {
        return isSettled
      },
      async settled() {
        for (let round = 0; round < 100 && !isSettled; round++) await bench.turns(10)
        bench.check(isSettled, 'it is pending although the time is over')
        await promise
      }
    }
  }

  async clear(): Promise<void> {
    if (this.#isInstalled) this.#clock.uninstall()
    for (const close of this.#closers.reverse()) close()
    await this.turns()
  }
}
