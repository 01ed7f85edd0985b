// Limits on time, with many connections.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Scenario } from '../lab.ts'
import { answering, fresh, newLedger } from '../protocol.ts'

export const idle: Scenario = {
  promise: 'With idleTimeout, silent connections are cut and those that move a byte a second are kept; the timers cost nothing per byte.',
  full: { clients: 10_000, milliseconds: 4_000 },
  reduced: { clients: 200, milliseconds: 1_500 },
  async run(lab) {
    const { clients, milliseconds = 0 } = lab.load
    const options = { idleTimeout: milliseconds, onHandlerError: lab.note }
    const server = await lab.serve(options, answering(newLedger()))
    const [trickling, silent, polite] = await Promise.all([lab.crowd(), lab.crowd(), lab.crowd()])
    const timers = countTimers()
    lab.defer(timers.restore)
    await lab.begin()
    const target = lab.target(server)
    await Promise.all([trickling.hold('trickle', { target, count: clients / 2 }), silent.hold('silent', { target, count: clients / 2 })])
    const start = performance.now()
    await lab.until(() => server.numConnections === clients / 2, 'the silent ones are cut', 10 * milliseconds)
    lab.figure('the last silent one was cut after', `${((performance.now() - start) / 1000).toFixed(1)} s`)
    lab.checkErrors('IdleTimeoutError', clients / 2)
    const [cpu, begin] = [process.cpuUsage(), performance.now()]
    await sleep(milliseconds)
    const { user, system } = process.cpuUsage(cpu)
    lab.figure('connections kept, a byte a second each', server.numConnections)
    lab.figure('CPU time meanwhile', `${((user + system) / 10 / (performance.now() - begin)).toFixed(1)} %`)
    lab.check(server.numConnections === clients / 2, `${server.numConnections} are left`)
    const before = timers.made
    const echo = { target, count: 4, concurrency: 4, bytes: 8_000_000 }
    lab.checkServed(await polite.run('echo', echo), 4, 'echoes of 8 MB')
    // One for each limit of another length, and Node.js has its own.
    lab.figure('timers made for 32 MB echoed', timers.made - before)
    lab.check(timers.made - before < 50, `${timers.made - before} timers`)
    await Promise.all([trickling.release(), silent.release()])
    await lab.until(() => server.numConnections === 0, 'all have gone')
    await lab.end()
  }
}

export const silentGate: Scenario = {
  promise: 'Silent clients do not hold the gate for ever once idleTimeout is set: whoever waits behind them is served.',
  full: { clients: 100, milliseconds: 2_000 },
  reduced: { clients: 100, milliseconds: 300 },
  async run(lab) {
    const { clients, milliseconds = 0 } = lab.load
    const server = await lab.serve({ maxConnections: clients, idleTimeout: milliseconds }, answering(newLedger()))
    const [crowd, polite] = await Promise.all([lab.crowd(), lab.crowd()])
    await lab.begin()
    await crowd.hold('silent', { target: lab.target(server), count: clients })
    await lab.until(() => server.numConnections === clients, 'the gate is full')
    const outcome = await polite.run('ask', { target: lab.target(server), count: clients, concurrency: clients })
    lab.checkServed(outcome, clients, 'clients behind them')
    lab.figure('served behind them', outcome.outcomes.served ?? 0)
    lab.figure('the longest waited', `${outcome.worst.toFixed(0)} ms`)
    await crowd.release()
    await lab.until(() => server.numConnections === 0, 'all have gone')
    await lab.end()
  }
}

export const slowReaders: Scenario = {
  promise: 'A peer that reads slowly is kept by bufferAgeLimit as long as the system shows that bytes move; one that reads nothing is cut.',
  full: { clients: 100, bytes: 24_000_000, milliseconds: 4_000 },
  reduced: { clients: 4, bytes: 12_000_000, milliseconds: 1_000 },
  async run(lab) {
    const { clients, bytes = 0, milliseconds = 0 } = lab.load
    const answer = answering(newLedger())
    const options = { bufferAgeLimit: milliseconds, onHandlerError: lab.note }
    const server = await lab.serve(options, answer)
    const [slow, deaf] = await Promise.all([lab.crowd(), lab.crowd()])
    await lab.begin()
    const target = lab.target(server)
    await deaf.hold('deaf', { target, count: clients, bytes: 1e9 })
    const start = performance.now()
    const outcome = await slow.run('slow-download', { target, count: clients, concurrency: clients, bytes })
    lab.checkServed(outcome, clients, 'slow readers')
    lab.figure('slow readers that got all', outcome.outcomes.served ?? 0)
    lab.figure('it took them', `${((performance.now() - start) / 1000).toFixed(1)} s, ${milliseconds / 1000} s without progress allowed`)
    await lab.until(() => server.numConnections === 0, 'all have gone')
    lab.figure('cut, since they read nothing', lab.noted)
    lab.checkErrors('BufferAgeLimitError', clients)
    await deaf.release()
    await lab.end()
  }
}

/** How coarse the system is: what a peer has to read until the writer's side sees that something moved. */
export const granularity: Scenario = {
  promise: 'What a peer has to read before bufferAgeLimit sees progress is what the system shows, and is known.',
  full: { clients: 1, milliseconds: 1_000 },
  reduced: { clients: 1, milliseconds: 100 },
  async run(lab) {
    const { milliseconds = 0 } = lab.load
    const progress = { written: 0 }
    const server = await lab.serve({ bufferAgeLimit: Number.POSITIVE_INFINITY }, async ({ reader, writer }) => {
      await reader.readLine()
      const look = setInterval(() => {
        progress.written = writer.bytesWritten
      }, 1)
      try {
        await writer(fresh(1e12, () => {}))
      } finally {
        clearInterval(look)
      }
    })
    const crowd = await lab.crowd()
    await lab.begin()
    await crowd.hold('sipping', { target: lab.target(server), count: 1, bytes: 1e12 })
    const settled = async (): Promise<void> => {
      for (let last = -1; last !== progress.written; await sleep(milliseconds)) last = progress.written
    }
    await settled()
    const steps: number[] = []
    for (let step = 0; step < 5; step++) {
      const [start, before] = [(await crowd.held()).received, progress.written]
      while (progress.written === before) {
        await crowd.sip(16_384)
        await sleep(2)
      }
      steps.push((await crowd.held()).received - start)
      await settled()
    }
    const most = Math.max(...steps)
    lab.figure('bytes that the peer had to read before progress was seen, at most', most)
    lab.figure('which by default keeps a peer that reads', `${Math.ceil(most / 120).toLocaleString('en')} B/s`)
    lab.check(most > 0 && most < 16 * 1024 * 1024, `${steps}`)
    await crowd.release()
    await lab.until(() => server.numConnections === 0, 'it has gone')
    await lab.end()
  }
}

// Limits on time could be kept by a timer for each byte or each read. They are not.
function countTimers(): { readonly made: number; restore(): void } {
  const { setTimeout, setInterval } = globalThis
  const counter = { made: 0, restore: () => void Object.assign(globalThis, { setTimeout, setInterval }) }
  const counted =
    <A extends unknown[], R>(make: (...args: A) => R) =>
    (...args: A): R => {
      counter.made++
      return make(...args)
    }
  Object.assign(globalThis, { setTimeout: counted(setTimeout), setInterval: counted(setInterval) })
  return counter
}
