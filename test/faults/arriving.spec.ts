import { once } from 'node:events'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { expect } from 'chai'
import { ConnectError, type Connection, ConnectionResetError, connect, TruncatedError } from '../../src/index.ts'
import { skipIf } from '../helpers/programs.ts'
import { holdsWithPushToo } from '../helpers/push-seam.ts'
import { type RawServer, rawServer, type Target } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { closed, inEverySetting } from '../helpers/settings.ts'
import { whereIs } from '../helpers/transports.ts'
import { turns } from '../helpers/until.ts'

const CLIENTS = 40
const MANY = 200

interface Waiting {
  readonly isReset: boolean
  readonly hasEnded: boolean
  act(socket: Socket, leave: (socket: Socket) => Promise<void>): unknown
}

/** What clients do while nobody has taken them yet. */
const WAITING: readonly Waiting[] = [
  { isReset: false, hasEnded: false, act() {} },
  { isReset: true, hasEnded: false, act: (socket, leave) => leave(socket) },
  {
    isReset: true,
    hasEnded: false,
    async act(socket, leave) {
      await new Promise((resolve) => socket.write('more, then a reset', resolve))
      await leave(socket)
    }
  },
  { isReset: false, hasEnded: true, act: (socket) => new Promise<void>((resolve) => socket.end(resolve)) },
  {
    isReset: false,
    hasEnded: true,
    async act(socket) {
      await new Promise<void>((resolve) => socket.end(resolve))
      socket.destroy()
      await closed(socket)
    }
  }
]

describe('Clients that break off on their way in', () => {
  inEverySetting((setting) => {
    const { isTcp, isKernel } = setting

    it('whoever waits in the queue or has ended in an orderly way is delivered once, in order, whole; whoever reset is not (TCP)', async function () {
      skipIf(this, setting.isTls, 'a client that has not shaken hands has sent nothing')
      const server = await setting.listen()
      const sockets = await setting.clients(server, CLIENTS)
      await Promise.all(sockets.map((socket, index) => WAITING[index % WAITING.length]?.act(socket, setting.leave)))
      const kindOf = (number: number): (typeof WAITING)[number] => WAITING[(number - 1) % WAITING.length] as (typeof WAITING)[number]
      // A unix peer that closes has just ended.
      const expected = sockets.map((_, index) => index + 1).filter((number) => !isTcp || !kindOf(number).isReset)
      const delivered: number[] = []
      while (delivered.length < expected.length) {
        const connection = await server.accept()
        const number = Number(await connection.reader.readLine())
        delivered.push(number)
        if (kindOf(number).hasEnded) expect(await connection.reader.read()).to.equal(null)
        connection.abort()
      }
      expect(delivered).to.deep.equal(expected)
      const controller = new AbortController()
      const nobody = rejection(server.accept({ signal: controller.signal }))
      await setting.turns()
      controller.abort()
      expect(await nobody).to.equal(controller.signal.reason)
      await setting.until(() => server.numConnections === 0)
    })

    it(`of ${MANY} that reset at some moment none stops the server, and none is taken for one that ended`, async () => {
      const outcomes = { whole: 0, reset: 0, ended: 0 }
      let handled = 0
      const server = await setting.create({ maxConnections: 8 }, async ({ reader, writer }) => {
        handled++
        try {
          const line = await reader.readLine()
          if (line !== 'all') outcomes.ended++
          else outcomes.whole++
          writer.write('thanks\n')
        } catch (error) {
          // Over TLS what a reset leaves may look like a mere FIN, and never like an end.
          if (!(setting.isTls && error instanceof TruncatedError)) expect(error).to.be.instanceOf(ConnectionResetError)
          outcomes.reset++
          throw error
        }
      })
      await Promise.all(
        Array.from({ length: MANY }, async (_, index) => {
          const socket = await setting.client(server)
          await turns(index % 7)
          if (index % 3 === 1) socket.write('a')
          const written = index % 3 === 2 && new Promise((resolve) => socket.write('al', resolve))
          // Nothing is written before the handshake, which waits for a place.
          await (setting.isTls ? turns(30) : written)
          await turns(index % 5)
          await setting.leave(socket)
        })
      )
      await setting.until(() => server.numConnections === 0)
      // Over TCP a reset is never an end; a unix socket that is closed with nothing unread ends.
      if (isTcp) expect(outcomes.ended).to.equal(0)
      expect(outcomes.whole).to.equal(0)
      expect(outcomes.reset + outcomes.ended).to.equal(handled)
      const socket = await setting.client(server)
      if (setting.isTls) await once(socket, 'secureConnect')
      socket.end('all\n')
      await setting.until(() => outcomes.whole === 1)
      expect(server.isClosed).to.equal(false)
    })

    it('a connection whose server closes while it waits in the queue is told, and nothing hangs', async function () {
      skipIf(this, setting.isMemory, 'needs a system that queues')
      const server = await setting.listen()
      const dialled = await Promise.all(Array.from({ length: 5 }, () => connect(whereIs(server.listeningOn as Target))))
      for (const { writer } of dialled.slice(2)) writer.write('anybody there?')
      const reads = dialled.map(({ reader }) => reader.read().catch((error: unknown) => error))
      await setting.turns(3)
      await server.close()
      for (const outcome of await Promise.all(reads)) {
        // The kernel resets those in its queue; whoever the userland gate had parked may see an end.
        if (isKernel) expect(outcome).to.be.instanceOf(ConnectionResetError)
        else expect(outcome === null || outcome instanceof ConnectionResetError, String(outcome)).to.equal(true)
      }
      await Promise.all(dialled.map((connection) => connection.close().catch(() => {})))
      for (const { signal } of dialled) expect(signal.aborted).to.equal(true)
    })

    it('connect() that waits for a place in a full queue rejects with ConnectError when the server closes', async function () {
      skipIf(this, !isKernel || setting.isMemory || process.platform !== 'linux', "needs Linux's queue")
      const server = await setting.listen({ backlog: 1 })
      const target = server.listeningOn as Target
      const queued = [await setting.client(server), await setting.client(server)]
      let isSettled = false
      const failed = rejection(connect(whereIs(target), { timeout: 8_000 })).finally(() => {
        isSettled = true
      })
      await setting.turns()
      expect(isSettled).to.equal(false)
      await server.close()
      expect(await failed).to.be.instanceOf(ConnectError)
      for (const socket of queued) socket.destroy()
    })
  })

  for (const isTcp of [true, false]) {
    describe(`of a foreign server, over ${isTcp ? 'TCP' : 'a unix socket'}`, () => {
      const scope = useScope()

      const server = (): Promise<RawServer> => rawServer(scope, isTcp ? undefined : join(scope.tempDir(), 's'))

      /** Connects many times; gives the connections, each closed at the end, and the errors. */
      const connectAll = async (target: Target): Promise<{ connections: Connection[]; errors: unknown[] }> => {
        const connections: Connection[] = []
        const errors: unknown[] = []
        for (let count = 0; count < MANY; count++) {
          try {
            connections.push(await connect(whereIs(target)))
          } catch (error) {
            errors.push(error)
          }
        }
        scope.defer(async () => {
          for (const connection of connections) connection.abort()
          await Promise.all(connections.map(({ closed }) => closed))
        })
        return { connections, errors }
      }

      it('that resets everybody at once: connect() rejects with ConnectError, or the first read tells', async () => {
        const { server: listening, target } = await server()
        listening.on('connection', (socket) => {
          if (isTcp) socket.resetAndDestroy()
          else socket.destroy()
        })
        const { connections, errors } = await connectAll(target)
        for (const error of errors) expect(error).to.be.instanceOf(ConnectError)
        for (const { reader, signal } of connections) {
          const outcome = await reader.read().catch((error: unknown) => error)
          if (isTcp) expect(outcome).to.be.instanceOf(ConnectionResetError)
          else expect(outcome).to.equal(null)
          if (isTcp) expect(signal.reason).to.equal(outcome)
        }
        expect(connections.length + errors.length).to.equal(MANY)
      })

      it('that sends and resets at once: what was sent is given or not, and the end never', async () => {
        const { server: listening, target } = await server()
        listening.on('connection', (socket) => {
          socket.write('hello')
          if (isTcp) socket.resetAndDestroy()
          else socket.destroy()
        })
        const { connections } = await connectAll(target)
        for (const { reader } of connections) {
          const chunks: string[] = []
          const outcome = await (async () => {
            for await (const chunk of reader) chunks.push(Buffer.from(chunk).toString())
          })().catch((error: unknown) => error)
          expect(chunks.join('')).to.be.oneOf(['', 'hello'])
          if (isTcp) expect(outcome).to.be.instanceOf(ConnectionResetError)
          else expect([chunks.join(''), outcome]).to.deep.equal(['hello', undefined])
        }
      })

      it('that sends and closes at once: all of it is given, then the end', async () => {
        const { server: listening, target } = await server()
        listening.on('connection', (socket) => socket.end('hello'))
        const { connections } = await connectAll(target)
        expect(connections.length).to.equal(MANY)
        for (const { reader } of connections) {
          expect(Buffer.from(await reader.readAll()).toString()).to.equal('hello')
          expect(await reader.read()).to.equal(null)
        }
      })
    })
  }

  holdsWithPushToo([import.meta.filename], 15)
})
