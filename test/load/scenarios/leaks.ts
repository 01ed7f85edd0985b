// What stays behind when connections have gone: nothing.

import { getEventListeners } from 'node:events'
import { connect as connectRaw, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type Connection,
  connect,
  connectSocket,
  listen,
  onFile,
  onPort,
  type Server,
  type SocketAddress,
  toFile,
  toHostAndPort,
  type WhereToConnect,
  withConnection
} from '../../../src/index.ts'
import { closedPort } from '../../helpers/raw.ts'
import type { Crowd, Errand } from '../crowd.ts'
import type { Lab, Scenario } from '../lab.ts'

type Destination = WhereToConnect<SocketAddress>

const MIB = 1024 * 1024
const AT_ONCE = 50
/** What a run may hold more than one that came before it: a leak of one object for each connection is far more. */
const MAY_HOLD = 2 * MIB
const WARM_UP = 0.1

export const accepted: Scenario = {
  promise: 'Of accepted connections nothing stays, however they end.',
  full: { clients: 100_000 },
  reduced: { clients: 3_000 },
  async run(lab) {
    const { clients } = lab.load
    const shared = new AbortController()
    const server = await lab.serve({ onHandlerError: 'ignore' }, waysToEnd(shared.signal))
    const byHand = await lab.listen()
    const crowd = await lab.crowd()
    const stop = acceptByHand(byHand, shared.signal)
    lab.defer(stop)
    const errands: Errand[] = ['ask', 'half-close', 'reset', 'ask-and-reset', 'leave']
    const round = async (count: number): Promise<void> => {
      for (const errand of errands) {
        await comeAndGo(lab, crowd, server, errand, count / errands.length / 2)
        await comeAndGo(lab, crowd, byHand, errand, count / errands.length / 2)
      }
      await lab.until(() => server.numConnections === 0 && byHand.numConnections === 0, 'all have gone')
    }
    await round(clients * WARM_UP)
    await leaveNothing(lab, shared.signal, () => round(clients), clients)
  }
}

export const dialled: Scenario = {
  promise: 'Of dialled connections nothing stays: orderly ones, refused, aborted and timed-out ones, and abandoned iterators.',
  full: { clients: 50_000 },
  reduced: { clients: 1_500 },
  async run(lab) {
    const { clients } = lab.load
    const shared = new AbortController()
    const { signal } = shared
    const server = await lab.serve({ onHandlerError: 'ignore' }, async ({ reader, writer }) => {
      for await (const line of reader.lines()) writer.write(`${line}\n`)
    })
    const where = whereTo(server)
    const refused = await whereNobodyListens(lab)
    const full = lab.kind === 'tcp' && process.platform === 'linux' ? await whereNobodyAccepts(lab) : undefined
    let timeouts = 0
    const ways: ((number: number) => Promise<unknown>)[] = [
      () => ask(where, signal),
      () => connect(refused, { signal }),
      () => connect(where, { signal: AbortSignal.abort() }),
      () => abortedAtOnce(where),
      () => abortedSoon(where),
      () => abandoned(where),
      () => connectSocket(where, { signal }).then((socket) => socket.destroy())
    ]
    const round = async (count: number): Promise<void> => {
      await inParallel(count, async (number) => {
        const way = ways[number % ways.length] as (typeof ways)[number]
        await way(number).catch(() => {})
      })
      if (full === undefined) return
      await inParallel(count / 50, async () => {
        await connect(full, { timeout: 20, signal }).then(
          (connection) => connection.abort(),
          (error: Error) => (timeouts += Number(error.name === 'ConnectTimeoutError'))
        )
      })
    }
    await round(clients * WARM_UP)
    await lab.until(() => server.numConnections === 0, 'all have gone')
    await leaveNothing(
      lab,
      signal,
      async () => {
        await round(clients)
        await lab.until(() => server.numConnections === 0, 'all have gone')
      },
      clients
    )
    if (full === undefined) return
    lab.figure('timed out', timeouts)
    lab.check(timeouts > 0, 'no attempt timed out')
  }
}

export const servers: Scenario = {
  promise: 'Of servers that are closed nothing stays, with clients in their queue and with clients they serve.',
  full: { clients: 5_000 },
  reduced: { clients: 200 },
  async run(lab) {
    const { clients } = lab.load
    const shared = new AbortController()
    const round = (count: number): Promise<void> =>
      inParallel(count, async (number) => {
        const server = await listenAgain(lab, shared.signal)
        const client = await dialRaw(server)
        if (number % 2 === 0) await server.accept({ signal: shared.signal })
        const pulled = server.accept({ signal: shared.signal }).catch(() => {})
        await server.close({ closeExistingConnections: true })
        await pulled
        client.destroy()
        if (!client.closed) await new Promise((resolve) => client.once('close', resolve))
      })
    await round(clients * WARM_UP)
    await leaveNothing(lab, shared.signal, () => round(clients), clients)
  }
}

async function leaveNothing(lab: Lab, signal: AbortSignal, work: () => Promise<void>, count: number): Promise<void> {
  const listeners = getEventListeners(signal, 'abort').length
  await lab.begin()
  const start = performance.now()
  await work()
  lab.figure('came and went', `${count.toLocaleString('en')} in ${((performance.now() - start) / 1000).toFixed(1)} s`)
  const left = getEventListeners(signal, 'abort').length - listeners
  lab.check(left === 0, `${left} listeners are left on the shared signal`)
  lab.figure('listeners left on the shared signal', left)
  await lab.end({ mayHold: MAY_HOLD })
}

function waysToEnd(signal: AbortSignal): (connection: Connection) => Promise<void> {
  let number = 0
  return async (connection) => {
    const { reader, writer } = connection
    const way = number++ % 4
    // The parts that are only made when somebody wants them.
    if (way === 0) connection.signal.addEventListener('abort', () => {})
    if (way === 1) void connection.closed.then(() => {})
    const first = await reader.readLine({ signal })
    if (first === null) {
      writer.write('bye\n')
      return
    }
    writer.write(`${first}\n`)
    // The iterator is left in the middle, while it waits.
    if (way === 2)
      void reader[Symbol.asyncIterator]()
        .next()
        .catch(() => {})
    if (way === 3) throw new Error('The handler fails')
    await connection.close()
  }
}

/** Takes clients one by one with `accept()`, under a signal that all share. */
function acceptByHand(server: Server, signal: AbortSignal): () => Promise<void> {
  const handle = waysToEnd(signal)
  const work = (async () => {
    for (;;) {
      const connection = await server.accept({ signal })
      void handle(connection).then(
        () => connection.close().catch(() => {}),
        () => connection.abort()
      )
    }
  })().catch(() => {})
  return async () => {
    await server.close({ closeExistingConnections: true })
    await work
  }
}

async function comeAndGo(lab: Lab, crowd: Crowd, server: Server, errand: Errand, count: number): Promise<void> {
  const outcome = await crowd.run(errand, { target: lab.target(server), count, concurrency: AT_ONCE })
  if (errand === 'ask') lab.checkServed(outcome, count, 'clients')
}

async function ask(where: Destination, signal: AbortSignal): Promise<void> {
  await withConnection(where, { signal }, async ({ reader, writer }) => {
    writer.write('a line\n')
    await reader.readLine({ signal })
  })
}

async function abandoned(where: Destination): Promise<void> {
  const connection = await connect(where)
  const lines = connection.reader.lines()
  void lines.next()
  await lines.return?.()
  connection.writer.write('one\ntwo\n')
  for await (const _ of connection.reader) break
  connection.abort()
  await connection.closed
}

async function abortedAtOnce(where: Destination): Promise<void> {
  const controller = new AbortController()
  const attempt = connect(where, { signal: controller.signal })
  controller.abort()
  await attempt
}

async function abortedSoon(where: Destination): Promise<void> {
  const controller = new AbortController()
  const attempt = connect(where, { signal: controller.signal })
  setImmediate(() => controller.abort())
  const connection = await attempt
  connection.abort()
  await connection.closed
}

async function inParallel(count: number, work: (number: number) => Promise<void>): Promise<void> {
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < count) await work(next++)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
}

function whereTo({ listeningOn }: Server): Destination {
  return typeof listeningOn === 'string' ? toFile(listeningOn) : toHostAndPort('127.0.0.1', listeningOn as number)
}

async function whereNobodyListens(lab: Lab): Promise<Destination> {
  return lab.kind === 'unix' ? toFile(lab.path()) : toHostAndPort('127.0.0.1', await closedPort())
}

/** Linux drops the SYNs of those that come when the queue is full. */
async function whereNobodyAccepts(lab: Lab): Promise<Destination> {
  const server = await lab.listen({ backlog: 1 })
  for (let i = 0; i < 2; i++) {
    const client = await dialRaw(server)
    lab.defer(() => client.destroy())
  }
  await sleep(50)
  return whereTo(server)
}

async function listenAgain(lab: Lab, signal: AbortSignal): Promise<Server> {
  return (
    lab.kind === 'tcp' ? await listen(onPort(0, { host: '127.0.0.1' }), { signal }) : await listen(onFile(lab.path()), { signal })
  ) as Server
}

async function dialRaw({ listeningOn }: Server): Promise<Socket> {
  const socket = typeof listeningOn === 'string' ? connectRaw(listeningOn) : connectRaw(listeningOn as number, '127.0.0.1')
  socket.on('error', () => {})
  await new Promise((resolve) => socket.once('connect', resolve))
  return socket
}
