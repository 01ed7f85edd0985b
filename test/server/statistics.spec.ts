import { connect as netConnect, type Socket } from 'node:net'
import { inspect } from 'node:util'
import { expect } from 'chai'
import type { InetAddress } from '../../src/address.ts'
import { Deferred } from '../../src/async/deferred.ts'
import type { Connection } from '../../src/connection.ts'
import { listen } from '../../src/listen.ts'
import { Server } from '../../src/server.ts'
import type { ServerStatistics } from '../../src/server-statistics.ts'
import { onPort } from '../../src/where-to-listen.ts'
import { skipIf } from '../helpers/programs.ts'
import { type Random, randomFrom } from '../helpers/random.ts'
import { rawClient } from '../helpers/raw.ts'
import { type Scope, useScope } from '../helpers/scope.ts'
import { inEverySetting, queue } from '../helpers/settings.ts'
import { lineStep, steppingServer } from '../helpers/stepping-server.ts'
import { turns, until } from '../helpers/until.ts'

const LOCAL = { host: '127.0.0.1' }

describe('server.statistics()', () => {
  const scope = useScope()

  describe('every accepted client ends in exactly one counter: accepted = dropped + turned away + served + those in between', () => {
    for (let seed = 1; seed <= 40; seed++) {
      it(`history ${seed}`, async function () {
        this.timeout(20_000)
        await new History(scope, randomFrom(seed)).run()
      })
    }
  })

  inEverySetting((setting) => {
    it('counts who was served, who was dropped and whose handler failed', async () => {
      const gates: Deferred[] = []
      const server = await setting.create({ onHandlerError: 'ignore', maxConnections: 2 }, async () => {
        const gate = new Deferred()
        gates.push(gate)
        await gate.promise
      })
      const nothing = { admit: 0, perAddress: 0, proxyHeader: 0, handshake: 0 }
      const counted = (): Omit<ServerStatistics, 'waiting'> => {
        const { waiting, ...rest } = server.statistics()
        return rest
      }
      expect(counted()).to.deep.equal({ accepted: 0, dropped: 0, turnedAway: nothing, served: 0, handlerErrors: 0, connections: 0 })
      const sockets = [await setting.client(server), await setting.client(server)]
      await setting.until(() => gates.length === 2)
      expect(counted()).to.deep.equal({ accepted: 2, dropped: 0, turnedAway: nothing, served: 2, handlerErrors: 0, connections: 2 })
      gates[0]?.reject(new Error('failed'))
      gates[1]?.resolve()
      for (const socket of sockets) socket.resume().end()
      await setting.until(() => server.numConnections === 0)
      server.dropIncomingConnections = true
      await setting.client(server).catch(() => {})
      await setting.until(() => server.numDropped === 1)
      expect(counted()).to.deep.equal({ accepted: 3, dropped: 1, turnedAway: nothing, served: 2, handlerErrors: 1, connections: 0 })
    })
  })

  it('gives numbers of its own each time', async () => {
    const server = await listen(onPort(0, LOCAL))
    scope.defer(() => server.close())
    const before = server.statistics()
    const pulled = server.accept()
    await rawClient(scope, server.listeningOn)
    await (await pulled).close({ forceAfter: 0 })
    expect([before.accepted, server.statistics().accepted]).to.deep.equal([0, 1])
  })

  inEverySetting(
    (setting) => {
      it('waiting is how many are parked', async () => {
        const server = await setting.listen()
        await setting.clients(server, 3)
        await setting.until(() => server.statistics().waiting === 3)
      })
    },
    { isKernel: false }
  )

  inEverySetting(
    (setting) => {
      it('waiting is the kernel’s queue, null for a unix socket, whose queue no system tells', async function () {
        skipIf(this, process.platform !== 'linux', 'needs Linux')
        const server = await setting.listen()
        expect(server.statistics().waiting).to.equal(setting.isTcp ? 0 : null)
        await setting.clients(server, 3)
        await setting.until(() => queue(server) === 3)
        expect(server.statistics().waiting).to.equal(setting.isTcp ? 3 : null)
        await server.close()
        expect(server.statistics().waiting).to.equal(null)
      })
    },
    { isKernel: true }
  )
})

describe('server.connections', () => {
  const scope = useScope()

  inEverySetting((setting) => {
    it('are those that were handed out and whose descriptor is open, also while they close', async () => {
      const server = await setting.listen()
      expect([...server.connections]).to.deep.equal([])
      const pulls = [server.accept(), server.accept()]
      const sockets = await setting.clients(server, 3)
      const [first, second] = (await Promise.all(pulls)) as [Connection, Connection]
      expect([...server.connections]).to.have.members([first, second])
      const closing = first.close()
      await setting.turns()
      expect([...server.connections]).to.have.members([first, second])
      sockets[0]?.resume().end()
      await closing
      expect([...server.connections]).to.deep.equal([second])
      second.abort()
      await second.closed
      expect([...server.connections]).to.deep.equal([])
    })

    it('each loop goes over those that were there when it began', async () => {
      const server = await setting.listen()
      const pulls = [server.accept(), server.accept(), server.accept()]
      await setting.clients(server, 3)
      await Promise.all(pulls)
      const { connections } = server
      let seen = 0
      for (const connection of connections) {
        seen++
        connection.abort()
        await connection.closed
      }
      expect([seen, [...connections].length]).to.deep.equal([3, 0])
    })

    it('stay after the server has closed, until their own end', async () => {
      const server = await setting.create({}, ({ reader }) => reader.discard())
      const [socket] = await setting.clients(server, 1)
      await setting.until(() => [...server.connections].length === 1)
      await server.close()
      expect([...server.connections]).to.have.lengthOf(1)
      socket?.resume().end()
      await server.finished
      expect([...server.connections]).to.deep.equal([])
    })
  })

  it('have none that is on its way to a handler', async () => {
    const server = await steppingServer(scope, { after: [lineStep('handshake', 'hello')], handler: ({ reader }) => reader.discard() })
    const socket = await rawClient(scope, server.listeningOn)
    await until(() => server.numConnections === 1)
    expect([...server.connections]).to.deep.equal([])
    socket.write('hello\n')
    await until(() => [...server.connections].length === 1)
  })
})

describe('console.log(server)', () => {
  const scope = useScope()

  it('shows address, state and counters, and nothing of its parts', async () => {
    const server = await listen(onPort(0, LOCAL), { maxConnections: 7 })
    scope.defer(() => server.close())
    const text = inspect(server)
    expect(text).to.match(/^Server \{\s+address: '127\.0\.0\.1:\d+',\s+state: 'open',\s+maxConnections: 7,\s+accepted: 0,/)
    expect(text).not.to.match(/machine|closeFinished|Promise|Symbol/i)
    const closing = server.close()
    expect(inspect(server)).to.include("state: 'closing'")
    await closing
    expect(inspect({ server })).to.include("state: 'closed'")
  })

  it('users hold only public members', async () => {
    const server = await listen(onPort(0, LOCAL))
    scope.defer(() => server.close())
    const names = (object: object): string[] => Object.getOwnPropertyNames(object).sort()
    expect(names(server)).to.deep.equal(['closeFinished', 'finished', 'listeningOn', 'listeningSocket'])
    expect(names(Server.prototype)).to.deep.equal([
      ...['accept', 'acceptGate', 'address', 'close', 'connections', 'constructor', 'dropIncomingConnections', 'invariant', 'isClosed'],
      ...['maxConnections', 'next', 'numConnections', 'numDropped', 'return', 'signal', 'statistics']
    ])
    const symbols = [Symbol.asyncDispose, Symbol.asyncIterator, inspect.custom]
    expect(Object.getOwnPropertySymbols(Server.prototype)).to.have.members(symbols)
    expect(Object.getOwnPropertySymbols(server)).to.deep.equal([])
    expect(server).to.be.instanceOf(Server)
  })

  it('a Server is made by listen and Server.create only', () => {
    expect(() => new (Server as unknown as new (...args: unknown[]) => Server)({})).to.throw(
      TypeError,
      'Cannot construct a Server as only listen() and Server.create() make one'
    )
  })
})

/** A random life of a server: clients that come, say something right or wrong or nothing, and leave, and what a program does meanwhile. */
class History {
  readonly #scope: Scope
  readonly #random: Random
  readonly #clients: Socket[] = []
  readonly #held: Connection[] = []
  #started = 0
  #left = 0

  constructor(scope: Scope, random: Random) {
    this.#scope = scope
    this.#random = random
  }

  async run(): Promise<void> {
    const random = this.#random
    const hasSteps = random(2) === 0
    const isPulled = random(2) === 0
    const server = await steppingServer(this.#scope, {
      maxConnections: 1 + random(6),
      maxConnectionsPerAddress: random(3) === 0 ? 1 + random(4) : undefined,
      admit: random(2) === 0 ? undefined : () => random(5) > 0,
      after: hasSteps ? [lineStep(random(2) === 0 ? 'proxyHeader' : 'handshake', 'right')] : [],
      handshakeTimeout: random(3) === 0 ? 5 : 10_000,
      policy: 'ignore',
      ...(!isPulled && { handler: (connection) => this.#handle(connection) })
    })
    const steps = 60
    for (let step = 0; step < steps; step++) {
      this.#act(server, isPulled)
      if (random(2) === 0) await turns(1 + random(3))
      this.#check(server)
    }
    for (const socket of this.#clients) socket.destroy()
    await server.close({ closeExistingConnections: true })
    await until(() => server.numConnections === 0)
    this.#check(server)
    const { accepted, served, dropped, turnedAway, handlerErrors } = server.statistics()
    const sum = served + dropped + Object.values(turnedAway).reduce((a, b) => a + b)
    expect(sum).to.equal(accepted)
    expect(served).to.equal(this.#started)
    if (!isPulled) expect(handlerErrors).to.equal(this.#left)
  }

  #act(server: Server<InetAddress, number>, isPulled: boolean): void {
    const random = this.#random
    switch (random(9)) {
      case 0:
      case 1:
      case 2:
        this.#connect(server)
        break
      case 3:
        this.#clients[random(this.#clients.length + 1)]?.write(random(3) === 0 ? 'wrong\n' : 'right\n')
        break
      case 4:
        this.#clients.splice(random(this.#clients.length + 1), 1)[0]?.[random(2) === 0 ? 'resetAndDestroy' : 'end']()
        break
      case 5:
        if (isPulled) this.#pull(server)
        break
      case 6:
        this.#held.splice(random(this.#held.length + 1), 1)[0]?.abort()
        break
      case 7:
        server.maxConnections = 1 + random(6)
        break
      case 8:
        server.dropIncomingConnections = random(4) === 0
        if (random(30) === 0) void server.close()
    }
  }

  #connect({ listeningOn }: Server<InetAddress, number>): void {
    const socket = netConnect({ port: listeningOn, host: '127.0.0.1' })
    this.#scope.defer(() => void socket.destroy())
    socket.on('error', () => {}).resume()
    if (this.#random(2) === 0) socket.write('right\n')
    this.#clients.push(socket)
  }

  #pull(server: Server): void {
    const options = this.#random(3) === 0 ? { signal: AbortSignal.timeout(1) } : {}
    server.accept(options).then(
      (connection) => {
        this.#started++
        this.#held.push(connection)
      },
      () => {}
    )
  }

  async #handle(connection: Connection): Promise<void> {
    this.#started++
    this.#held.push(connection)
    await connection.closed
    if (this.#random(2) === 0) return
    this.#left++
    throw new Error('failed')
  }

  #check(server: Server): void {
    server.invariant()
    const { accepted, served, dropped, turnedAway, connections } = server.statistics()
    const turnedAwayAtAll = Object.values(turnedAway).reduce((a, b) => a + b)
    const between = accepted - served - dropped - turnedAwayAtAll
    expect(between).to.be.within(0, connections)
  }
}
