import type { Socket } from 'node:net'
import { connect as netConnect } from 'node:net'
import { inspect } from 'node:util'
import { expect } from 'chai'
import type { InetAddress, SocketAddress } from '../../src/address.ts'
import type { ServerTurnedAwayMessage } from '../../src/diagnostics.ts'
import { listen } from '../../src/listen.ts'
import type { ServerOptions } from '../../src/options.ts'
import { addressKey } from '../../src/server/admission.ts'
import { Server } from '../../src/server.ts'
import { onFile, onPort } from '../../src/where-to-listen.ts'
import { collect } from '../helpers/channels.ts'
import { rawClient } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { type Handler, inEverySetting } from '../helpers/settings.ts'
import { turns, until } from '../helpers/until.ts'

describe('Server: admission', () => {
  const scope = useScope()

  const create = async (options: ServerOptions<InetAddress>, handler: Handler): Promise<Server<InetAddress, number>> => {
    const server = await Server.create(onPort(0, { host: '127.0.0.1' }), options, handler)
    scope.defer(() => server.close({ closeExistingConnections: true }))
    return server
  }
  /** A client that notes how it ends. */
  const client = async (
    { listeningOn }: { readonly listeningOn: number },
    from = '127.0.0.1'
  ): Promise<{ socket: Socket; ends: string[] }> => {
    const ends: string[] = []
    const socket = netConnect({ port: listeningOn, host: '127.0.0.1', localAddress: from, allowHalfOpen: true })
    scope.defer(() => void socket.destroy())
    socket.on('error', (error: NodeJS.ErrnoException) => ends.push(error.code ?? error.message)).on('end', () => ends.push('end'))
    socket.on('connect', () => ends.push('connect')).resume()
    await until(() => ends.length > 0)
    if (ends[0] === 'connect') ends.shift()
    return { socket, ends }
  }
  const hold: Handler = ({ reader }) => reader.discard()

  describe('admit', () => {
    it('is asked once about the address of each client, and lets in those for which it says true', async () => {
      const asked: InetAddress[] = []
      const handled: SocketAddress[] = []
      const server = await create(
        {
          admit: (address) => {
            asked.push(address)
            return true
          }
        },
        ({ remoteAddress }) => handled.push(remoteAddress)
      )
      const { socket } = await client(server)
      await until(() => handled.length === 1)
      expect(asked).to.deep.equal([{ family: 'IPv4', address: '127.0.0.1', port: socket.localPort }])
      expect(handled).to.deep.equal(asked)
      server.invariant()
    })

    it('false: the client is reset, never took a slot, and gets to no handler; nothing is raised', async () => {
      using messages = collect<ServerTurnedAwayMessage>('it-tcp.server.turned-away')
      let handled = 0
      let slots = 0
      const server = await create({ maxConnections: 1, admit: () => false }, () => handled++)
      const { socket, ends } = await client(server)
      await until(() => {
        slots += server.numConnections
        return ends.length === 1
      })
      expect([ends, slots, handled, server.isClosed]).to.deep.equal([['ECONNRESET'], 0, 0, false])
      expect(server.statistics()).to.deep.equal({
        accepted: 1,
        dropped: 0,
        turnedAway: { admit: 1, perAddress: 0, proxyHeader: 0, handshake: 0 },
        served: 0,
        handlerErrors: 0,
        connections: 0,
        waiting: server.statistics().waiting
      })
      expect(messages).to.have.lengthOf(1)
      expect(messages[0]).to.include({ server, step: 'admit', error: undefined })
      expect(messages[0]?.address).to.deep.equal(server.address)
      expect(messages[0]?.remoteAddress).to.have.property('family', 'IPv4')
      socket.destroy()
      server.invariant()
    })

    it('false: a pull goes on waiting', async () => {
      let admits = false
      const server = await listen(onPort(0, { host: '127.0.0.1' }), { admit: () => admits })
      scope.defer(() => server.close({ closeExistingConnections: true }))
      const pulled = server.accept()
      const { ends } = await client(server)
      await until(() => ends.length === 1)
      admits = true
      const { socket } = await client(server)
      expect((await pulled).remoteAddress.port).to.equal(socket.localPort)
    })

    it('is asked about unix clients too', async () => {
      const asked: SocketAddress[] = []
      const server = await Server.create(
        onFile(`${scope.tempDir()}/s`),
        { admit: (address) => asked.push(address) > 1, maxConnectionsPerAddress: 1 },
        hold
      )
      scope.defer(() => server.close({ closeExistingConnections: true }))
      for (let i = 0; i < 3; i++) await rawClient(scope, server.listeningOn)
      await until(() => asked.length === 3)
      expect(asked[0]).to.deep.equal({ family: 'unix', path: '' })
      // Of whom none has an address to be counted by.
      await until(() => server.numConnections === 2)
    })

    const ANSWERS: Record<string, () => unknown> = {
      nothing: () => undefined,
      'a number': () => 1,
      'a string': () => 'yes',
      'a promise': () => Promise.resolve(true),
      'a promise that rejects': () => Promise.reject(new Error('late'))
    }
    for (const [what, answer] of Object.entries(ANSWERS)) {
      it(`that answers with ${what}: a fault of the program, and the client is turned away`, async () => {
        const errors: unknown[] = []
        const options = { admit: answer as () => boolean, onHandlerError: (_: unknown, error: unknown) => errors.push(error) }
        const server = await create(options, hold)
        const { ends } = await client(server)
        await until(() => ends.length === 1 && errors.length === 1)
        expect(errors[0]).to.be.instanceOf(TypeError)
        expect(errors[0]).to.have.property('message').that.includes("Cannot admit a client as 'admit' must return true or false: received")
        expect(server.statistics().turnedAway.admit).to.equal(1)
      })
    }

    const failure = new Error('mine')
    const admit = (): never => {
      throw failure
    }

    it('that throws under raise: the server stops with the error', async () => {
      const server = await create({ admit }, hold)
      const raised = rejection(server.finished)
      const { ends } = await client(server)
      expect(await raised).to.equal(failure)
      await until(() => ends.length === 1)
      expect(server.isClosed).to.equal(true)
    })

    it('that throws under ignore: the client is turned away and the server goes on', async () => {
      const server = await create({ admit, onHandlerError: 'ignore' }, hold)
      for (let i = 1; i <= 2; i++) {
        const { ends } = await client(server)
        await until(() => ends.length === 1)
        expect(server.statistics().turnedAway.admit).to.equal(i)
      }
    })

    it('that throws, with a callback: it gets address and error', async () => {
      const reports: unknown[][] = []
      const server = await create({ admit, onHandlerError: (...report) => reports.push(report) }, hold)
      await client(server)
      await until(() => reports.length === 1)
      expect(reports[0]?.[0]).to.include({ family: 'IPv4', address: '127.0.0.1' })
      expect(reports[0]?.[1]).to.equal(failure)
    })

    it('that closes the server: the client is closed, and gets to no handler', async () => {
      let handled = 0
      const server: Server<InetAddress, number> = await create(
        {
          admit: () => {
            void server.close()
            return true
          }
        },
        () => handled++
      )
      const { ends } = await client(server)
      await until(() => ends.length === 1)
      await server.finished
      expect([handled, server.statistics().dropped]).to.deep.equal([0, 1])
      server.invariant()
    })
  })

  describe('maxConnectionsPerAddress', () => {
    it('of one address so many are let in, and the next is reset; those of others are not', async () => {
      const server = await create({ maxConnectionsPerAddress: 2 }, hold)
      await client(server)
      await client(server)
      await until(() => server.numConnections === 2)
      const { ends } = await client(server)
      await until(() => ends.length === 1)
      expect(ends).to.deep.equal(['ECONNRESET'])
      await client(server, '127.0.0.2')
      await until(() => server.numConnections === 3)
      expect(server.statistics().turnedAway).to.deep.equal({ admit: 0, perAddress: 1, proxyHeader: 0, handshake: 0 })
      server.invariant()
    })

    it('a client that has left, its handler too, makes room for the next of its address', async () => {
      const server = await create({ maxConnectionsPerAddress: 1 }, hold)
      for (let i = 1; i <= 3; i++) {
        const { socket } = await client(server)
        await until(() => server.statistics().served === i)
        socket.end()
        await until(() => server.numConnections === 0)
        server.invariant()
      }
    })

    it('as many as it likes leave one another’s places alone', async () => {
      const server = await create({ maxConnectionsPerAddress: 1 }, hold)
      const kept = await client(server, '127.0.0.3')
      await until(() => server.numConnections === 1)
      for (let i = 0; i < 20; i++) await client(server, '127.0.0.3')
      await until(() => server.statistics().turnedAway.perAddress === 20)
      kept.socket.end()
      await until(() => server.numConnections === 0)
      await client(server, '127.0.0.3')
      await until(() => server.numConnections === 1)
    })

    it('comes before admit, which is not asked about those beyond it', async () => {
      let asked = 0
      const server = await create({ maxConnectionsPerAddress: 1, admit: () => ++asked > 0 }, hold)
      await client(server)
      await until(() => server.numConnections === 1)
      const { ends } = await client(server)
      await until(() => ends.length === 1)
      expect(asked).to.equal(1)
    })

    it('one address that comes a thousand times takes no slot of the others', async function () {
      this.timeout(60_000)
      const total = 1_000
      let handled = 0
      const server = await create({ maxConnections: 25, maxConnectionsPerAddress: 20 }, async ({ reader, remoteAddress }) => {
        if ((remoteAddress as InetAddress).address === '127.0.0.2') handled++
        await reader.discard()
      })
      let left = total
      const flood = async (): Promise<void> => {
        while (left-- > 0) await client(server)
      }
      const flooding = Promise.all(Array.from({ length: 50 }, flood))
      for (let i = 1; i <= 10; i++) {
        const { socket } = await client(server, '127.0.0.2')
        await until(() => handled === i)
        socket.end()
      }
      await flooding
      await until(() => server.statistics().turnedAway.perAddress === total - 20)
      expect(server.statistics()).to.deep.include({ accepted: total + 10, served: 30, dropped: 0 })
      server.invariant()
    })
  })

  describe('the key of an address', () => {
    const KEYS: readonly [string, string][] = [
      ['127.0.0.1', '127.0.0.1'],
      ['::ffff:10.1.2.3', '10.1.2.3'],
      ['::FFFF:10.1.2.3', '10.1.2.3'],
      ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
      ['2001:db8:1:2:ffff:ffff:ffff:ffff', '2001:db8:1:2::/64'],
      ['2001:0DB8:0001:0002::1', '2001:db8:1:2::/64'],
      ['2001:db8::1', '2001:db8:0:0::/64'],
      ['2001:db8:0:1::', '2001:db8:0:1::/64'],
      ['2001:db8:0:0:1::', '2001:db8:0:0::/64'],
      ['::1', '0:0:0:0::/64'],
      ['::', '0:0:0:0::/64'],
      ['::2:3:4:5:6:7:8', '0:2:3:4::/64'],
      ['1::4:5:6:7:8', '1:0:0:4::/64'],
      ['fe80::1%eth0', 'fe80:0:0:0::/64'],
      ['64:ff9b::192.0.2.33', '64:ff9b:0:0::/64'],
      ['1:2:3:4:5:6:192.0.2.33', '1:2:3:4::/64'],
      ['::3:4:5:6:192.0.2.33', '0:0:3:4::/64']
    ]
    for (const [address, key] of KEYS) {
      it(`of ${address} is ${key}`, () => {
        expect(addressKey(address)).to.equal(key)
      })
    }
  })

  describe('wrong options are refused before anything happens', () => {
    for (const [options, message] of [
      [{ admit: true }, "Cannot listen as 'admit' must be a function: received true"],
      [{ maxConnectionsPerAddress: 0 }, "Cannot listen as 'maxConnectionsPerAddress' must be a whole number, 1 or more: received 0"],
      [{ maxConnectionsPerAddress: '20' }, "Cannot listen as 'maxConnectionsPerAddress' must be a number: received '20'"],
      [{ warnAtLimit: 0 }, "Cannot listen as 'warnAtLimit' must be true or false: received 0"],
      [{ warnAtLimit: 'no' }, "Cannot listen as 'warnAtLimit' must be true or false: received 'no'"],
      [{ warnAtLimit: null }, "Cannot listen as 'warnAtLimit' must be true or false: received null"],
      [{ handshakeTimeout: 0 }, "Cannot listen as 'handshakeTimeout' must be milliseconds above 0, or Infinity for no limit: received 0"]
    ] as const) {
      it(inspect(options), async () => {
        expect(await rejection(listen(onPort(0), options as never))).to.have.property('message', message)
        expect(await rejection(Server.create(onPort(0), options as never, () => {}))).to.have.property('message', message)
      })
    }
  })

  inEverySetting(({ create: make, client: raw, turns: turn }) => {
    it('refused clients leave slots, gate and counters in order, in every setting', async () => {
      let asked = 0
      const server = await make({ maxConnections: 2, admit: () => ++asked % 2 === 0 }, hold)
      // A refused client may see its reset before it has connected.
      for (let i = 0; i < 4; i++) await raw(server).catch(() => {})
      await turn()
      await until(() => server.numConnections === 2)
      await turns()
      const { accepted, served, turnedAway } = server.statistics()
      expect([accepted, served, turnedAway.admit]).to.deep.equal([4, 2, 2])
    })
  })
})
