import { once } from 'node:events'
import type { Socket } from 'node:net'
import { inspect } from 'node:util'
import { expect } from 'chai'
import { Deferred } from '../../src/async/deferred.ts'
import type { Connection } from '../../src/connection.ts'
import { consumerPool } from '../../src/consumer-pool.ts'
import { expectQueue, gone, numbers, occupied, QUEUED } from '../helpers/gate-cases.ts'
import { skipIf } from '../helpers/programs.ts'
import { readToEnd } from '../helpers/raw.ts'
import { backlog, canTellQueue, inEverySetting } from '../helpers/settings.ts'

describe('Server: the gate', () => {
  inEverySetting((setting) => {
    const { client, clients, turns } = setting

    describe('accept(2) is called only while someone waits for a connection and numConnections < maxConnections', () => {
      it('a server that nobody iterates accepts nobody', async () => {
        const server = await setting.listen()
        await clients(server, QUEUED)
        await turns()
        expect(server.numConnections).to.equal(0)
        expectQueue(setting, server, QUEUED)
      })

      it('a plain loop whose body waits holds one client, the others stay queued', async function () {
        skipIf(this, setting.isTls, 'lets further clients in while a handshake is under way')
        const server = await setting.listen()
        const mayGoOn = new Deferred()
        const seen: (string | null)[] = []
        const looping = (async () => {
          for await (await using connection of server) {
            seen.push(await connection.reader.readLine())
            await mayGoOn.promise
            if (seen.length === QUEUED) break
          }
        })()
        const sockets = await clients(server, QUEUED)
        await setting.until(() => seen.length === 1)
        await turns()
        expect(server.numConnections).to.equal(1)
        expectQueue(setting, server, QUEUED - 1)
        for (const socket of sockets) socket.end()
        mayGoOn.resolve()
        await looping
        expect(seen).to.deep.equal(numbers(QUEUED))
      })

      it('with limit 2 and six clients the handlers have two, and four wait', async () => {
        const { server, active, end } = await occupied(setting, 2)
        await clients(server, QUEUED)
        await setting.until(() => active.length === 2)
        await turns()
        expect([active.length, server.numConnections]).to.deep.equal([2, 2])
        expectQueue(setting, server, QUEUED - 2)
        end()
        await setting.until(() => active.length === 3)
        await turns()
        expect([active.length, server.numConnections]).to.deep.equal([3, 2])
        expectQueue(setting, server, QUEUED - 3)
      })

      it('with limit 2 a third accept() waits until a connection is closed', async () => {
        const server = await setting.listen({ maxConnections: 2 })
        const accepted: Connection[] = []
        for (let count = 0; count < 3; count++) void server.accept().then((connection) => accepted.push(connection))
        await clients(server, QUEUED)
        await setting.until(() => accepted.length === 2)
        await turns()
        expect([accepted.length, server.numConnections]).to.deep.equal([2, 2])
        expectQueue(setting, server, QUEUED - 2)
        accepted[0]?.abort()
        await setting.until(() => accepted.length === 3)
        await turns()
        expectQueue(setting, server, QUEUED - 3)
      })

      it('a pool of two consumers holds two clients, and four wait', async function () {
        skipIf(this, setting.isTls, 'lets further clients in while a handshake is under way')
        const server = await setting.listen()
        const mayEnd = new Deferred()
        let active = 0
        const pool = consumerPool(server, 2, async () => {
          active++
          await mayEnd.promise
        })
        const sockets = await clients(server, QUEUED)
        await setting.until(() => active === 2)
        await turns()
        expect([active, server.numConnections]).to.deep.equal([2, 2])
        expectQueue(setting, server, QUEUED - 2)
        for (const socket of sockets) socket.end()
        mayEnd.resolve()
        await setting.until(() => active === QUEUED)
        await server.close()
        await pool
      })

      it('one accept() takes one of the clients that arrive together, and shuts the gate for the next', async function () {
        skipIf(this, setting.isTls, 'lets further clients in while a handshake is under way')
        const server = await setting.listen()
        const connection = server.accept()
        await clients(server, 3)
        await connection
        await turns()
        expect(server.numConnections).to.equal(1)
        expectQueue(setting, server, 2)
        await client(server)
        await turns()
        expect(server.numConnections).to.equal(1)
        expectQueue(setting, server, 3)
      })

      it('a consumer that pulls again in the turn of its client gets all of them', async () => {
        const server = await setting.listen()
        const seen: Connection[] = []
        const looping = (async () => {
          for await (const connection of server) {
            await Promise.resolve()
            seen.push(connection)
          }
        })()
        await clients(server, QUEUED)
        await setting.until(() => seen.length === QUEUED)
        await server.close()
        await looping
      })

      it('the queue is as long as backlog says, before, while and after somebody pulls', async function () {
        skipIf(this, !canTellQueue() || setting.isMemory, 'needs ss')
        const server = await setting.listen({ backlog: 7 })
        const backlogs = [backlog(server)]
        const accepting = server.accept()
        backlogs.push(backlog(server))
        await client(server)
        await accepting
        await turns()
        expect([...backlogs, backlog(server)]).to.deep.equal([7, 7, 7])
      })
    })

    describe('while dropIncomingConnections is true the gate is open and every client is closed at once, whoever waits', () => {
      it('clients are closed and counted, queued ones too, and never get to a handler', async () => {
        const { server, active } = await occupied(setting, 1)
        await clients(server, 3)
        await setting.until(() => active.length === 1)
        server.dropIncomingConnections = true
        const late = await client(server)
        await gone(late)
        await setting.until(() => server.numDropped === 3)
        await turns()
        expect([active.length, server.numConnections, server.numDropped]).to.deep.equal([1, 1, 3])
      })

      it('a server that nobody iterates drops them too, and a waiting accept() gets none of them', async () => {
        const server = await setting.listen()
        server.dropIncomingConnections = true
        await gone(await client(server))
        const accepting = server.accept()
        await gone(await client(server))
        await setting.until(() => server.numDropped === 2)
        expect(server.numConnections).to.equal(0)
        server.dropIncomingConnections = false
        await clients(server, 1)
        expect(await (await accepting).reader.readLine()).to.equal('1')
        expect([server.numConnections, server.numDropped]).to.deep.equal([1, 2])
      })

      it('switched off again, clients wait as before', async () => {
        const server = await setting.listen()
        server.dropIncomingConnections = true
        await gone(await client(server))
        server.dropIncomingConnections = false
        await clients(server, 2)
        await turns()
        expect([server.numConnections, server.numDropped]).to.deep.equal([0, 1])
        expectQueue(setting, server, 2)
      })

      it('goes on at the limit, and leaves the open connections alone', async () => {
        const { server, active } = await occupied(setting, 1)
        const [first] = await clients(server, 1)
        await setting.until(() => active.length === 1)
        server.dropIncomingConnections = true
        for (let count = 0; count < 3; count++) await gone(await client(server))
        expect(await active[0]?.reader.readLine()).to.equal('1')
        active[0]?.writer.write('still here')
        first?.resume()
        expect(String((await once(first as Socket, 'data'))[0])).to.equal('still here')
      })

      it('refuses what is no boolean, and stays as it was', async () => {
        const server = await setting.listen()
        expect(() => {
          server.dropIncomingConnections = 1 as unknown as boolean
        }).to.throw(TypeError, "Cannot set the mode as 'dropIncomingConnections' must be true or false: received 1")
        expect(server.dropIncomingConnections).to.equal(false)
      })
    })

    describe('a slot is taken from accept until the descriptor is closed and the handler, if there is one, has ended', () => {
      it('without a handler it is free when the descriptor is closed', async () => {
        const server = await setting.listen({ maxConnections: 1 })
        await clients(server, 2)
        const connection = await server.accept()
        expect(server.numConnections).to.equal(1)
        const second = server.accept()
        connection.abort()
        await connection.closed
        expect(await (await second).reader.readLine()).to.equal('2')
        expect(server.numConnections).to.equal(1)
      })

      it('a handler that goes on after its connection is closed keeps its slot', async () => {
        const { server, active, end } = await occupied(setting, 1)
        await clients(server, 2)
        await setting.until(() => active.length === 1)
        active[0]?.abort()
        await active[0]?.closed
        await turns()
        expect([active.length, server.numConnections]).to.deep.equal([1, 1])
        end()
        await setting.until(() => active.length === 2)
      })

      it('a connection that is open after its handler has ended keeps its slot', async () => {
        const { server, active, end } = await occupied(setting, 1)
        const [first] = await clients(server, 2)
        await setting.until(() => active.length === 1)
        end()
        await readToEnd(first as Socket)
        await turns()
        expect([active.length, server.numConnections]).to.deep.equal([1, 1])
        first?.end()
        await setting.until(() => active.length === 2)
      })

      it('the error policy of a handler keeps its slot', async () => {
        const policy = new Deferred()
        let reports = 0
        let started = 0
        const onHandlerError = async (): Promise<void> => {
          reports++
          await policy.promise
        }
        const server = await setting.create({ maxConnections: 1, onHandlerError }, async (connection) => {
          started++
          await connection.reader.readLine()
          connection.abort()
          throw new Error('failed')
        })
        await clients(server, 2)
        await setting.until(() => reports === 1)
        await turns()
        expect([started, server.numConnections]).to.deep.equal([1, 1])
        policy.resolve()
        await setting.until(() => reports === 2)
        await setting.until(() => server.numConnections === 0)
      })
    })

    describe('in Server.create the pool is as wide as maxConnections and follows it; lowering it ends nobody', () => {
      it('raised, it lets the next clients in at once', async () => {
        const { server, active } = await occupied(setting, 1)
        await clients(server, QUEUED)
        await setting.until(() => active.length === 1)
        server.maxConnections = 4
        await setting.until(() => active.length === 4)
        await turns()
        expect([active.length, server.numConnections, server.maxConnections]).to.deep.equal([4, 4, 4])
        expectQueue(setting, server, QUEUED - 4)
      })

      it('lowered, it ends nobody and lets the next client in when fewer than that are left', async () => {
        const { server, active, end } = await occupied(setting, 3)
        const sockets = await clients(server, QUEUED)
        await setting.until(() => active.length === 3)
        server.maxConnections = 1
        for (const left of [2, 1]) {
          end()
          sockets.shift()?.end()
          await setting.until(() => server.numConnections === left)
          await turns()
          expect(active.length).to.equal(3)
          expectQueue(setting, server, 3)
        }
        end()
        sockets.shift()?.end()
        await setting.until(() => active.length === 4)
        await turns()
        expect(server.numConnections).to.equal(1)
        expectQueue(setting, server, 2)
      })

      it('lowered to what is open while the gate stands open, it shuts the gate at once', async () => {
        const { server, active } = await occupied(setting, 2)
        await clients(server, 1)
        await setting.until(() => active.length === 1)
        server.maxConnections = 1
        await client(server)
        await turns()
        expect([active.length, server.numConnections]).to.deep.equal([1, 1])
        expectQueue(setting, server, 1)
      })

      it('also holds for accept(), both ways', async () => {
        const server = await setting.listen({ maxConnections: 1 })
        const accepted: Connection[] = []
        for (let count = 0; count < 3; count++) void server.accept().then((connection) => accepted.push(connection))
        await clients(server, QUEUED)
        await setting.until(() => accepted.length === 1)
        server.maxConnections = 2
        await setting.until(() => accepted.length === 2)
        server.maxConnections = 1
        accepted[0]?.abort()
        await setting.until(() => server.numConnections === 1)
        await turns()
        expect(accepted.length).to.equal(2)
        accepted[1]?.abort()
        await setting.until(() => accepted.length === 3)
        await turns()
        expectQueue(setting, server, QUEUED - 3)
      })

      for (const value of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '2', null]) {
        it(`refuses ${inspect(value)} as maxConnections, and stays as it was`, async () => {
          const server = await setting.listen({ maxConnections: 2 })
          expect(() => {
            server.maxConnections = value as number
          }).to.throw(typeof value === 'number' ? RangeError : TypeError, "Cannot set the limit as 'maxConnections' must be")
          expect(server.maxConnections).to.equal(2)
        })
      }
    })
  })
})
