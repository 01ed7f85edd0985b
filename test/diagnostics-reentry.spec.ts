import type { Socket } from 'node:net'
import { expect } from 'chai'
import type { Connection } from '../src/connection.ts'
import type { Server } from '../src/server.ts'
import { listen as listenTo } from './helpers/channels.ts'
import { rawClient } from './helpers/raw.ts'
import { useScope } from './helpers/scope.ts'
import { inEverySetting, type Setting } from './helpers/settings.ts'
import { lineStep, steppingServer } from './helpers/stepping-server.ts'
import { turns, until } from './helpers/until.ts'

/** All that a server with a limit of one publishes in the life of one client, and some that a dropped one makes it publish. */
const CHANNELS = [
  'it-tcp.connection.open',
  'it-tcp.connection.close',
  'it-tcp.server.limit',
  'it-tcp.server.gate',
  'it-tcp.server.handler-error',
  'it-tcp.server.handler-end',
  'it-tcp.server.turned-away'
]

// What a subscriber may do to the server inside a message. Afterwards no client may be lost, and no slot, and the server is in order.
describe('a subscriber of the diagnostics channels', () => {
  inEverySetting((setting) => {
    for (const channel of CHANNELS.slice(0, -1)) {
      describe(`inside a message on ${channel}`, () => {
        it('may close the server: no handler is called after that, and finished resolves', async () => {
          let isClosed = false
          let handledAfterwards = 0
          const server = await setting.create({ maxConnections: 1, onHandlerError: 'ignore' }, async ({ reader }) => {
            if (isClosed) handledAfterwards++
            await reader.discard()
            throw new Error('failed')
          })
          using _ = listenTo(channel, (message) => {
            if (!isOf(message, server)) return
            isClosed = true
            void server.close()
          })
          const sockets = await manyClients(setting, server, 3)
          await setting.turns()
          for (const socket of sockets) socket.resume().end()
          await setting.until(() => isClosed)
          await server.finished
          expect([handledAfterwards, server.numConnections]).to.deep.equal([0, 0])
          server.invariant()
        })

        it('may cut off everybody', async () => {
          let handledAfterwards = 0
          const server = await setting.create({ maxConnections: 1 }, async ({ reader }) => {
            if (server.isClosed) handledAfterwards++
            await reader.discard()
          })
          using _ = listenTo(channel, (message) => {
            if (isOf(message, server)) void server.close({ closeExistingConnections: true })
          })
          const sockets = await manyClients(setting, server, 3)
          await setting.turns()
          for (const socket of sockets) socket.resume().end()
          // Where this server publishes nothing on the channel, nobody has closed it.
          if (channel === 'it-tcp.server.handler-error') await server.close()
          await server.finished
          await setting.until(() => server.numConnections === 0)
          expect(handledAfterwards).to.equal(0)
          expect([...server.connections]).to.deep.equal([])
        })

        it('may abort the accept that waits: the next pull gets the client', async () => {
          const controller = new AbortController()
          const server = await setting.listen({ maxConnections: 1 })
          using _ = listenTo(channel, (message) => {
            if (isOf(message, server)) controller.abort(new Error('no more'))
          })
          const outcomes: unknown[] = []
          const first = server.accept({ signal: controller.signal }).then(
            (connection) => outcomes.push(connection),
            () => outcomes.push('aborted')
          )
          const [socket] = await manyClients(setting, server, 1)
          await setting.turns()
          controller.abort(new Error('no more'))
          await first
          const connection = outcomes[0] === 'aborted' ? await server.accept() : (outcomes[0] as Connection)
          expect(await connection.reader.readLine()).to.equal('1')
          await Promise.all([connection.close({ forceAfter: 0 }), socket?.resume().end()])
          await setting.until(() => server.numConnections === 0)
          server.invariant()
        })

        it('may change the limit and the mode', async () => {
          let handled = 0
          const server = await setting.create({ maxConnections: 1 }, async ({ reader }) => {
            handled++
            await reader.discard()
          })
          let count = 0
          using _ = listenTo(channel, (message) => {
            if (!isOf(message, server)) return
            server.maxConnections = 1 + (++count % 3)
            server.dropIncomingConnections = count % 4 === 1
            server.invariant()
          })
          const sockets = await manyClients(setting, server, 4)
          await setting.turns()
          for (const socket of sockets) socket.resume().end()
          await setting.until(() => server.numConnections === 0)
          const { accepted, served, dropped } = server.statistics()
          expect([served, accepted]).to.deep.equal([handled, served + dropped])
        })
      })
    }
  })

  const scope = useScope()

  it('inside a message on it-tcp.server.turned-away may close the server', async () => {
    const server = await steppingServer(scope, { after: [lineStep('handshake', 'hello')], handler: () => {} })
    using _ = listenTo('it-tcp.server.turned-away', () => void server.close({ closeExistingConnections: true }))
    const sockets: Socket[] = []
    for (let i = 0; i < 3; i++) sockets.push(await rawClient(scope, server.listeningOn))
    await until(() => server.numConnections === 3)
    sockets[0]?.write('nonsense\n')
    await server.finished
    await turns()
    server.invariant()
    const { accepted, dropped, turnedAway } = server.statistics()
    expect([accepted, dropped, turnedAway.handshake]).to.deep.equal([3, 2, 1])
  })
})

/** Whether a message is about this server; those of connections that were dialled are about none. */
function isOf(message: unknown, server: Server): boolean {
  return (message as { server: unknown }).server === server
}

/** Clients that come whatever becomes of them. */
async function manyClients(setting: Setting, server: Server, count: number): Promise<Socket[]> {
  const sockets: Socket[] = []
  for (let number = 1; number <= count; number++) {
    try {
      const socket = await setting.client(server)
      socket.write(`${number}\n`)
      sockets.push(socket)
    } catch {
      // Closed by then.
    }
  }
  return sockets
}
