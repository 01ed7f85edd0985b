// Peers that want to use up memory, descriptors or time.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Connection } from '../../../src/index.ts'
import type { Lab, Scenario } from '../lab.ts'
import { inMiB } from '../meter.ts'
import { answering, fresh, newLedger } from '../protocol.ts'

const MIB = 1024 * 1024
/** What a connection may cost, the handler's own promises and buffers included; measured about 12 KiB. */
const PER_CONNECTION = 40 * 1024
/** The heap and malloc grow in steps. */
const STEP = 64 * MIB
const LOOK_EVERY = 50
/** `readerBufferSize`, and a chunk, which has 128 KiB at most. */
const MOST_UNREAD = 65_536 + 131_072

/** Clients that connect and send nothing, or a byte a second. */
function idling(stay: 'silent' | 'trickle', promise: string): Scenario {
  return {
    promise,
    full: { clients: 10_000, milliseconds: 5_000 },
    reduced: { clients: 500, milliseconds: 100 },
    async run(lab) {
      const { clients, milliseconds } = lab.load
      const server = await lab.serve({}, answering(newLedger()))
      const [crowd, polite] = await Promise.all([lab.crowd(), lab.crowd()])
      await lab.begin()
      await lab.besides(polite, server, async () => {
        await crowd.hold(stay, { target: lab.target(server), count: clients })
        await lab.until(() => server.numConnections >= clients, 'all are accepted')
        const idleAt = process.cpuUsage()
        await sleep(milliseconds)
        const { user, system } = process.cpuUsage(idleAt)
        lab.figure('CPU time while they stay', `${((user + system) / 10 / (milliseconds as number)).toFixed(1)} %`)
        lab.figure('connections', server.numConnections)
        lab.figure('resident memory for each', `${(lab.grown / clients / 1024).toFixed(1)} KiB`)
        lab.check(lab.grown < clients * PER_CONNECTION + STEP, `${lab.grown} bytes for ${clients} connections`)
        await crowd.release()
      })
      await lab.until(() => server.numConnections === 0, 'all have gone')
      await lab.end()
    }
  }
}

export const silent = idling('silent', 'Connections that send nothing cost some KiB each, and keep nobody else waiting.')
export const trickle = idling('trickle', 'Connections that send one byte a second cost no more than silent ones.')

export const deaf: Scenario = {
  promise: 'A peer that never reads holds 512 KiB and a chunk, however much is written to it, and is cut off at bufferAgeLimit.',
  full: { clients: 100, bytes: 10_000_000_000, milliseconds: 3_000 },
  reduced: { clients: 10, bytes: 10_000_000_000, milliseconds: 300 },
  async run(lab) {
    const { clients, bytes = 0, milliseconds = 0 } = lab.load
    let pulled = 0
    const options = { bufferAgeLimit: milliseconds, onHandlerError: lab.note }
    const server = await lab.serve(
      options,
      pouring(bytes, (length) => (pulled += length))
    )
    const crowd = await lab.crowd()
    await lab.begin()
    await crowd.hold('deaf', { target: lab.target(server), count: clients, bytes })
    await lab.until(() => server.numConnections === 0, 'all are cut off', 10 * milliseconds + 20_000)
    lab.checkErrors('BufferAgeLimitError', clients)
    lab.figure('written to each of them', `${(bytes / 1e9).toFixed(0)} GB`)
    lab.figure('taken from each source before it was cut off', inMiB(pulled / clients))
    lab.check(lab.grown < clients * MIB + STEP, `${lab.grown} bytes for ${clients} connections`)
    await crowd.release()
    await lab.end()
  }
}

export const greedy: Scenario = {
  promise: 'However much a sink writes to a peer that reads, memory stays flat.',
  full: { clients: 1, bytes: 10_000_000_000 },
  reduced: { clients: 1, bytes: 300_000_000 },
  async run(lab) {
    const { clients, bytes = 0 } = lab.load
    const server = await lab.serve(
      {},
      pouring(bytes, () => {})
    )
    const crowd = await lab.crowd()
    await lab.begin()
    const start = performance.now()
    await crowd.hold('greedy', { target: lab.target(server), count: clients, bytes })
    let received = 0
    await lab.until(
      async () => {
        const now = (await crowd.held()).received
        const isOver = now >= bytes * clients && server.numConnections === 0
        received = now
        return isOver
      },
      'all is received',
      120_000
    )
    const seconds = (performance.now() - start) / 1000
    lab.figure('received', `${(received / 1e9).toFixed(2)} GB, ${(received / 1e9 / seconds).toFixed(1)} GB/s`)
    lab.check(lab.grown < 2 * STEP, `${lab.grown} bytes more`)
    await lab.end()
  }
}

export const unread: Scenario = {
  promise: 'Of what a peer sends while nobody reads, 64 KiB and a chunk are held; then the peer feels it.',
  full: { clients: 1_000, milliseconds: 3_000 },
  reduced: { clients: 50, milliseconds: 200 },
  async run(lab) {
    const { clients, milliseconds = 0 } = lab.load
    let most = 0
    const server = await lab.serve({}, async ({ reader, signal }) => {
      const look = setInterval(() => {
        most = Math.max(most, reader.bytesAvailable)
      }, LOOK_EVERY)
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
      clearInterval(look)
    })
    const crowd = await lab.crowd()
    await lab.begin()
    await crowd.hold('endless-line', { target: lab.target(server), count: clients })
    await lab.until(() => most > 0, 'bytes arrive')
    await sleep(milliseconds)
    lab.figure('held for each connection at most', `${(most / 1024).toFixed(0)} KiB`)
    lab.check(most <= MOST_UNREAD, `${most} bytes are held for a connection`)
    lab.check(lab.grown < clients * (2 * MOST_UNREAD + PER_CONNECTION) + STEP, `${lab.grown} bytes for ${clients} connections`)
    // Whoever does not read does not see its peer leave.
    await server.close({ closeExistingConnections: true })
    await crowd.release()
    await lab.end()
  }
}

export const endlessLine: Scenario = {
  promise: 'A line that never ends is given up after 64 KiB; what its sender may go on sending is thrown away, for 2 s at most.',
  full: { clients: 200 },
  reduced: { clients: 4 },
  async run(lab) {
    const { clients } = lab.load
    let most = 0
    const answer = answering(newLedger())
    const server = await lab.serve({ onHandlerError: lab.note }, async (connection) => {
      try {
        await answer(connection)
      } finally {
        most = Math.max(most, connection.reader.bytesAvailable)
      }
    })
    const [crowd, polite] = await Promise.all([lab.crowd(), lab.crowd()])
    await lab.begin()
    await lab.besides(polite, server, async () => {
      const start = performance.now()
      await crowd.hold('endless-line', { target: lab.target(server), count: clients })
      await lab.until(() => lab.noted === clients && server.numConnections <= 1, 'all are closed', 60_000)
      lab.figure('all were closed after', `${((performance.now() - start) / 1000).toFixed(1)} s`)
    })
    lab.checkErrors('DelimiterNotFoundError', clients)
    lab.figure('held of the longest line', `${(most / 1024).toFixed(0)} KiB`)
    lab.check(most <= MOST_UNREAD, `${most} bytes of a line were held`)
    lab.check(lab.grown < clients * (2 * MOST_UNREAD + PER_CONNECTION) + STEP, `${lab.grown} bytes for ${clients} connections`)
    await crowd.release()
    await lab.end()
  }
}

export const resets: Scenario = {
  promise: 'A flood of clients that connect and reset stops nobody, and nothing of it stays.',
  full: { clients: 20_000 },
  reduced: { clients: 1_000 },
  async run(lab) {
    const { clients } = lab.load
    const server = await lab.serve({ maxConnections: 50 }, answering(newLedger()))
    const [crowd, polite] = await Promise.all([lab.crowd(), lab.crowd()])
    await lab.begin()
    const start = performance.now()
    await lab.besides(polite, server, async () => {
      const half = { target: lab.target(server), count: clients / 2, concurrency: 200 }
      for (const errand of ['reset', 'ask-and-reset'] as const) {
        const { outcomes } = await crowd.run(errand, half)
        lab.check(outcomes.gone === clients / 2, `${errand}: ${JSON.stringify(outcomes)}`)
      }
      await lab.until(() => server.numConnections <= 1, 'all have gone')
    })
    lab.figure('connected and reset', `${clients.toLocaleString('en')} in ${((performance.now() - start) / 1000).toFixed(1)} s`)
    lab.check(!server.isClosed, 'the server is closed')
    lab.check(lab.grown < STEP, `${lab.grown} bytes more`)
    await lab.until(() => server.numConnections === 0, 'all have gone')
    await lab.end()
  }
}

export const halfClose: Scenario = {
  promise: 'A client that half-closes at once gets its answer whole.',
  full: { clients: 10_000 },
  reduced: { clients: 500 },
  async run(lab) {
    const { clients } = lab.load
    const server = await lab.serve({}, answering(newLedger()))
    const crowd = await lab.crowd()
    await lab.begin()
    const outcome = await crowd.run('half-close', { target: lab.target(server), count: clients, concurrency: 200 })
    lab.checkServed(outcome, clients, 'clients')
    lab.figure('answered', outcome.outcomes.served ?? 0)
    await lab.until(() => server.numConnections === 0, 'all have gone')
    await lab.end()
  }
}

export const overload: Scenario = {
  promise: 'When clients come faster than handlers finish, those beyond the limit wait in the kernel, and all are served.',
  full: { clients: 1_000, milliseconds: 60_000 },
  reduced: { clients: 100, milliseconds: 700 },
  async run(lab) {
    const { clients, milliseconds = 0 } = lab.load
    const limit = clients / 10
    let most = 0
    const answer = answering(newLedger())
    const server = await lab.serve({ maxConnections: limit, backlog: 4_096 }, async (connection) => {
      most = Math.max(most, server.numConnections)
      await sleep(50)
      await answer(connection)
    })
    const crowd = await lab.crowd()
    await lab.begin()
    const work = { target: lab.target(server), duration: milliseconds, concurrency: clients }
    const outcome = await crowd.run('ask', work)
    const served = outcome.outcomes.served ?? 0
    lab.checkServed(
      outcome,
      Object.values(outcome.outcomes).reduce((sum, count) => sum + count, 0),
      'clients'
    )
    lab.figure('at once', `${clients.toLocaleString('en')} clients, ${limit} handlers of 50 ms`)
    lab.figure('served', served)
    lab.figure('the longest waited', `${outcome.worst.toFixed(0)} ms`)
    lab.figure('connections at most', most)
    lab.check(most === limit, `${most} connections instead of ${limit}`)
    lab.check(lab.grown < STEP, `${lab.grown} bytes more`)
    await lab.until(() => server.numConnections === 0, 'all have gone')
    await lab.end()
  }
}

export const neverCloses: Scenario = {
  promise: 'A client that never closes after its answer keeps a slot for 2 s at most.',
  full: { clients: 1_000 },
  reduced: { clients: 50 },
  async run(lab: Lab) {
    const { clients } = lab.load
    const server = await lab.serve({}, ({ writer }) => writer.write('bye\n'))
    const crowd = await lab.crowd()
    await lab.begin()
    const start = performance.now()
    await crowd.hold('stubborn', { target: lab.target(server), count: clients })
    await lab.until(() => server.numConnections === 0, 'all are closed', 30_000)
    lab.figure('all were closed after', `${((performance.now() - start) / 1000).toFixed(1)} s`)
    await crowd.release()
    await lab.end()
  }
}

function pouring(bytes: number, onChunk: (length: number) => void): (connection: Connection) => Promise<void> {
  return async ({ reader, writer }) => {
    await reader.readLine()
    await writer(fresh(bytes, onChunk))
  }
}
