import type { Socket } from 'node:net'
import { expect } from 'chai'
import type { SocketAddress } from '../../src/address.ts'
import { Deferred } from '../../src/async/deferred.ts'
import type { Connection } from '../../src/connection.ts'
import { HandshakeTimeoutError, ServerClosedError } from '../../src/errors.ts'
import type { Server } from '../../src/server.ts'
import { collect } from '../helpers/channels.ts'
import { rawClient } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { CAN_GATE_IN_KERNEL, canTellQueue, closed, queue } from '../helpers/settings.ts'
import { lineStep, manualStep, steppingServer } from '../helpers/stepping-server.ts'
import { turns as letTurn, until as waitUntil } from '../helpers/until.ts'

describe('Server: the steps between accept and handler', () => {
  const scope = useScope()
  let servers: Server[] = []

  const start: typeof steppingServer = async (...args) => {
    const server = await steppingServer(...args)
    servers.push(server)
    return server
  }
  const check = (): void => {
    for (const server of servers) server.invariant()
  }
  const until = (condition: () => unknown): Promise<void> =>
    waitUntil(() => {
      check()
      return condition()
    }, String(condition))
  const turns = async (): Promise<void> => {
    await letTurn()
    check()
  }
  const client = async (server: { readonly listeningOn: number }, said?: string): Promise<Socket> => {
    const socket = await rawClient(scope, server.listeningOn)
    if (said !== undefined) socket.write(said)
    return socket
  }

  afterEach(() => {
    check()
    servers = []
  })

  describe('all of it happens inside the slot', () => {
    it('a client on its way counts in numConnections, and at maxConnections the next stays in the kernel', async function () {
      if (!CAN_GATE_IN_KERNEL || !canTellQueue()) this.skip()
      const step = manualStep()
      const handled: Connection[] = []
      const server = await start(scope, { maxConnections: 2, after: [step], handler: (connection) => handled.push(connection) })
      for (let i = 0; i < 3; i++) await client(server)
      await until(() => step.waiting.length === 2)
      await turns()
      expect([server.numConnections, handled.length, queue(server as Server)]).to.deep.equal([2, 0, 1])
      expect([...server.connections]).to.deep.equal([])
    })

    it('the steps are taken in their order, then the handler is called with what is left to read', async () => {
      const said: (string | null)[] = []
      const server = await start(scope, {
        before: [lineStep('proxyHeader', 'one')],
        after: [lineStep('handshake', 'two')],
        handler: async ({ reader }) => said.push(await reader.readLine())
      })
      await client(server, 'one\ntwo\nthree\n')
      await until(() => said.length === 1)
      expect(said).to.deep.equal(['three'])
    })

    it('a step that has nothing to wait for lets a client pass', async () => {
      let handled = 0
      const server = await start(scope, { after: [{ name: 'handshake', run: () => {} }], handler: () => handled++ })
      await client(server)
      await until(() => handled === 1)
    })
  })

  describe('none of it ever holds up another client', () => {
    it('with a handler each slot does its own', async () => {
      const step = manualStep()
      const handled: SocketAddress[] = []
      const server = await start(scope, { after: [step], handler: ({ remoteAddress }) => handled.push(remoteAddress) })
      const first = await client(server)
      const second = await client(server)
      await until(() => step.waiting.length === 2)
      step.waiting[1]?.gate.resolve()
      await until(() => handled.length === 1)
      expect(handled[0]).to.have.property('port', second.localPort)
      expect(first.destroyed).to.equal(false)
    })

    it('while a pull waits for one that is ready, further clients are let in, up to maxConnections', async () => {
      const step = manualStep()
      const server = await start(scope, { maxConnections: 3, after: [step] })
      const pulled = server.accept()
      const sockets = [await client(server), await client(server), await client(server), await client(server)]
      await until(() => step.waiting.length === 3)
      await turns()
      expect([step.waiting.length, server.numConnections]).to.deep.equal([3, 3])
      step.waiting[2]?.gate.resolve()
      expect((await pulled).remoteAddress.port).to.equal((sockets[2] as Socket).localPort)
    })

    it('a client that got ready beside it waits for the next pull, without a deadline', async () => {
      const step = manualStep()
      const server = await start(scope, { after: [step], handshakeTimeout: 50 })
      const pulled = server.accept()
      const sockets = [await client(server), await client(server)]
      await until(() => step.waiting.length === 2)
      for (const { gate } of step.waiting) gate.resolve()
      expect((await pulled).remoteAddress.port).to.equal((sockets[0] as Socket).localPort)
      const began = performance.now()
      await until(() => performance.now() - began > 100)
      expect(server.statistics()).to.deep.include({ served: 1, connections: 2 })
      expect((await server.accept()).remoteAddress.port).to.equal((sockets[1] as Socket).localPort)
      expect(server.statistics()).to.deep.include({ accepted: 2, served: 2, dropped: 0 })
    })

    it('while nobody pulls nobody is let in, and a pull takes the one that is ready first', async () => {
      const step = manualStep()
      const server = await start(scope, { after: [step] })
      const first = server.accept()
      await client(server)
      await client(server)
      await until(() => step.waiting.length === 2)
      for (const { gate } of step.waiting) gate.resolve()
      await first
      await turns()
      await client(server)
      await turns()
      expect([step.waiting.length, server.numConnections]).to.deep.equal([2, 2])
      await server.accept()
      await turns()
      expect(step.waiting.length).to.equal(2)
    })
  })

  describe('a client that breaks off is never handed out', () => {
    it('while it waits for the next pull', async () => {
      const step = manualStep()
      const server = await start(scope, { after: [step] })
      const pulled = server.accept()
      const sockets = [await client(server), await client(server), await client(server)]
      await until(() => step.waiting.length === 3)
      for (const { gate } of step.waiting) gate.resolve()
      await pulled
      ;(sockets[1] as Socket).resetAndDestroy()
      await until(() => server.numConnections === 2)
      expect((await server.accept()).remoteAddress.port).to.equal((sockets[2] as Socket).localPort)
      expect(server.statistics()).to.deep.include({ accepted: 3, served: 2, dropped: 1 })
    })

    it('but after a mere end it is handed out, with what it sent', async () => {
      const step = manualStep()
      const server = await start(scope, { after: [step] })
      const pulled = server.accept()
      const sockets = [await client(server), await client(server, 'said')]
      await until(() => step.waiting.length === 2)
      for (const { gate } of step.waiting) gate.resolve()
      await pulled
      ;(sockets[1] as Socket).end()
      const connection = await server.accept()
      expect(Buffer.from(await connection.reader.readAll()).toString()).to.equal('said')
    })

    it('on its way: it is turned away, the slot is free, and the pull goes on waiting', async () => {
      const server = await start(scope, { after: [lineStep('handshake', 'hello')] })
      const pulled = server.accept()
      const gone = await client(server)
      await until(() => server.numConnections === 1)
      gone.resetAndDestroy()
      await until(() => server.numConnections === 0)
      expect(server.statistics().turnedAway.handshake).to.equal(1)
      const second = await client(server, 'hello\n')
      expect((await pulled).remoteAddress.port).to.equal(second.localPort)
    })
  })

  describe('a client that fails is turned away: no handler, nothing raised, the slot freed', () => {
    for (const name of ['proxyHeader', 'handshake'] as const) {
      it(`${name}: it is reset, counted and told on the channel`, async () => {
        using messages = collect('it-tcp.server.turned-away')
        let handled = 0
        const server = await start(scope, { after: [lineStep(name, 'hello')], handler: () => handled++ })
        let finished = false
        void server.finished.finally(() => {
          finished = true
        })
        const socket = await client(server, 'nonsense\n')
        const { localPort } = socket
        const errors: NodeJS.ErrnoException[] = []
        socket.on('error', (error) => errors.push(error)).resume()
        await closed(socket)
        await until(() => server.numConnections === 0)
        expect(errors.map(({ code }) => code)).to.deep.equal(['ECONNRESET'])
        expect([handled, finished, server.isClosed]).to.deep.equal([0, false, false])
        expect(server.statistics()).to.deep.include({ accepted: 1, served: 0, handlerErrors: 0 })
        expect(server.statistics().turnedAway[name]).to.equal(1)
        expect(messages).to.have.lengthOf(1)
        expect(messages[0]).to.deep.include({ server, address: server.address, step: name })
        expect(messages[0]).to.have.nested.property('remoteAddress.port', localPort)
        expect(messages[0]).to.have.nested.property('error.message', 'said nonsense')
      })
    }

    it('an onHandlerError callback gets its address and the error', async () => {
      const reports: [SocketAddress, unknown][] = []
      const server = await start(scope, {
        after: [lineStep('handshake', 'hello')],
        handler: () => {},
        policy: (address, error) => reports.push([address, error])
      })
      const socket = await client(server, 'nonsense\n')
      const { localPort } = socket
      await until(() => reports.length === 1 && server.numConnections === 0)
      expect(reports[0]?.[0]).to.have.property('port', localPort)
      expect(reports[0]?.[1]).to.have.property('message', 'said nonsense')
    })

    it('a callback that throws raises its own error', async () => {
      const failure = new Error('mine')
      const server = await start(scope, {
        after: [lineStep('handshake', 'hello')],
        handler: () => {},
        policy: () => {
          throw failure
        }
      })
      await client(server, 'nonsense\n')
      expect(await rejection(server.finished)).to.equal(failure)
    })
  })

  describe('one deadline runs from accept to the handler', () => {
    it('over all steps together, not prolonged by bytes; what is late is turned away with HandshakeTimeoutError', async () => {
      const reports: unknown[] = []
      const server = await start(scope, {
        before: [lineStep('proxyHeader', 'one')],
        after: [lineStep('handshake', 'two')],
        handshakeTimeout: 100,
        handler: () => {},
        policy: (_, error) => reports.push(error)
      })
      const socket = await client(server, 'one\n')
      const began = performance.now()
      const drip = setInterval(() => socket.write('.'), 5)
      scope.defer(() => clearInterval(drip))
      await until(() => reports.length === 1)
      expect(performance.now() - began).to.be.greaterThan(80)
      expect(reports[0]).to.be.instanceOf(HandshakeTimeoutError)
      expect(reports[0])
        .to.have.property('message')
        .that.matches(/^127\.0\.0\.1:\d+ did not get through to the handler within 100 ms$/)
      await until(() => server.numConnections === 0)
      expect(server.statistics().turnedAway).to.deep.equal({ admit: 0, perAddress: 0, proxyHeader: 0, handshake: 1 })
    })

    it('is gone once the handler is called', async () => {
      const ended: string[] = []
      const server = await start(scope, {
        after: [lineStep('handshake', 'hello')],
        handshakeTimeout: 50,
        handler: async ({ reader }) => ended.push((await reader.readLine()) as string)
      })
      const socket = await client(server, 'hello\n')
      await until(() => server.statistics().served === 1)
      const began = performance.now()
      await until(() => performance.now() - began > 100)
      socket.write('late\n')
      await until(() => ended.length === 1)
      expect(ended).to.deep.equal(['late'])
    })

    it('leaves no timer behind once the handler is called, or the client is turned away', async () => {
      const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
      const server = await start(scope, {
        after: [lineStep('handshake', 'hello')],
        handshakeTimeout: 60_000,
        handler: ({ reader }) => reader.discard()
      })
      const before = timers()
      const good = await client(server)
      const bad = await client(server)
      await until(() => server.numConnections === 2)
      expect(timers()).to.equal(before + 2)
      good.write('hello\n')
      bad.write('nonsense\n')
      await until(() => server.statistics().served === 1 && server.numConnections === 1)
      expect(timers()).to.equal(before)
    })

    it('a client that was turned away takes no further step, though the one it was in succeeds', async () => {
      const late = new Deferred()
      let further = 0
      const server = await start(scope, {
        before: [{ name: 'proxyHeader', run: () => late.promise }],
        after: [{ name: 'handshake', run: () => void further++ }],
        handshakeTimeout: 20,
        handler: () => further++
      })
      await client(server)
      await until(() => server.statistics().turnedAway.proxyHeader === 1 && server.numConnections === 0)
      late.resolve()
      await turns()
      expect(further).to.equal(0)
    })

    it('turns away also where a step never settles, and frees the slot', async () => {
      const server = await start(scope, { after: [{ name: 'handshake', run: () => new Promise(() => {}) }], handshakeTimeout: 20 })
      const pulled = rejection(server.accept())
      await client(server)
      await until(() => server.statistics().turnedAway.handshake === 1 && server.numConnections === 0)
      await server.close()
      expect(await pulled).to.be.instanceOf(ServerClosedError)
    })
  })

  describe('closing', () => {
    it('clients on their way and those that are ready are closed, and get to nobody', async () => {
      const step = manualStep()
      let handled = 0
      const server = await start(scope, { after: [step] })
      const pulled = server.accept()
      const sockets = [await client(server), await client(server), await client(server)]
      await until(() => step.waiting.length === 3)
      step.waiting[0]?.gate.resolve()
      await pulled
      step.waiting[1]?.gate.resolve()
      await turns()
      const closing = server.close()
      step.waiting[2]?.gate.resolve()
      handled += (await Promise.allSettled([server.accept()])).filter(({ status }) => status === 'fulfilled').length
      await closing
      await Promise.all(sockets.slice(1).map((socket) => closed(socket.resume())))
      await until(() => server.numConnections === 1)
      expect([handled, server.statistics()]).to.deep.equal([
        0,
        { ...server.statistics(), accepted: 3, served: 1, dropped: 2, connections: 1 }
      ])
    })

    it('finished waits for nobody who was turned away or dropped', async () => {
      const step = manualStep()
      const server = await start(scope, { after: [step], handler: () => {} })
      await client(server)
      await until(() => step.waiting.length === 1)
      await server.close()
      await server.finished
      expect(server.numConnections).to.equal(0)
    })
  })

  describe('admission behind a step that tells the address', () => {
    const told = {
      name: 'proxyHeader',
      async run(connection: { reader: Connection['reader']; init: unknown }) {
        const address = (await connection.reader.readLine()) as string
        Object.assign(connection.init as object, { remoteAddress: { family: 'IPv4', address, port: 1 } })
      }
    } as const

    it('is by the client’s address, and the limit counts that', async () => {
      const asked: string[] = []
      const handled: string[] = []
      const server = await start(scope, {
        before: [told],
        maxConnectionsPerAddress: 1,
        admit: ({ address }: { address: string }) => {
          asked.push(address)
          return address !== '10.0.0.3'
        },
        handler: async ({ remoteAddress, closed: gone }) => {
          handled.push((remoteAddress as { address: string }).address)
          await gone
        }
      })
      for (const [index, address] of ['10.0.0.1', '10.0.0.1', '10.0.0.2', '10.0.0.3'].entries()) {
        await client(server, `${address}\n`)
        await until(() => server.statistics().accepted === index + 1)
        await turns()
      }
      await until(() => handled.length === 2 && server.numConnections === 2)
      expect(handled).to.deep.equal(['10.0.0.1', '10.0.0.2'])
      expect(asked).to.deep.equal(['10.0.0.1', '10.0.0.2', '10.0.0.3'])
      expect(server.statistics().turnedAway).to.deep.equal({ admit: 1, perAddress: 1, proxyHeader: 0, handshake: 0 })
    })

    it('a slot that is freed lets the next client of that address in', async () => {
      let handled = 0
      const server = await start(scope, {
        before: [told],
        maxConnectionsPerAddress: 1,
        handler: async ({ reader }) => {
          handled++
          await reader.discard()
        }
      })
      for (let i = 1; i <= 3; i++) {
        const socket = await client(server, '10.0.0.1\n')
        await until(() => handled === i)
        socket.resume().end()
        await until(() => server.numConnections === 0)
      }
      expect(server.statistics()).to.deep.include({ served: 3, accepted: 3 })
    })
  })
})
