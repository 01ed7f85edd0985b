import { getEventListeners, once } from 'node:events'
import type { Socket } from 'node:net'
import { expect } from 'chai'
import type { Connection } from '../../src/connection.ts'
import { consumerPool } from '../../src/consumer-pool.ts'
import { BusyError, ServerClosedError } from '../../src/errors.ts'
import { expectQueue, numbers, occupied, QUEUED } from '../helpers/gate-cases.ts'
import { skipIf } from '../helpers/programs.ts'
import { rejection } from '../helpers/rejection.ts'
import { inEverySetting } from '../helpers/settings.ts'
import { turns as turnsAlone } from '../helpers/until.ts'

describe('Server: the gate', () => {
  inEverySetting((setting) => {
    const { isTcp, client, clients, turns } = setting

    describe('several consumers may pull at once: every connection goes to exactly one of them, in the order of arrival', () => {
      it('pending accept()s and next()s are served in their order', async () => {
        const server = await setting.listen()
        const pulls = [server.accept(), server.next().then(({ value }) => value), server.accept(), server.next().then(({ value }) => value)]
        await clients(server, pulls.length)
        const lines = await Promise.all(pulls.map(async (pull) => await (await pull)?.reader.readLine()))
        expect(lines).to.deep.equal(numbers(pulls.length))
      })

      it('queued clients are handed out in the order of their arrival', async () => {
        const server = await setting.listen()
        await clients(server, QUEUED)
        const lines: (string | null)[] = []
        for (let count = 0; count < QUEUED; count++) lines.push(await (await server.accept()).reader.readLine())
        expect(lines).to.deep.equal(numbers(QUEUED))
      })

      it('handlers start in the order of arrival, whoever waits how long', async () => {
        const lines: (string | null)[] = []
        const server = await setting.create({ maxConnections: 1 }, async (connection) => {
          lines.push(await connection.reader.readLine())
          connection.abort()
        })
        await clients(server, 20)
        await setting.until(() => lines.length === 20)
        expect(lines).to.deep.equal(numbers(20))
      })

      it('three loops over one server share its clients', async () => {
        const server = await setting.listen()
        const lines: string[] = []
        const loop = async (): Promise<void> => {
          for await (const connection of server) {
            lines.push((await connection.reader.readLine()) as string)
            connection.abort()
          }
        }
        const loops = [loop(), loop(), loop()]
        await clients(server, 50)
        await setting.until(() => lines.length === 50)
        expect(new Set(lines)).to.deep.equal(new Set(numbers(50)))
        await Promise.all([server.close(), ...loops])
      })
    })

    describe('an accept that is aborted loses no connection: the next pull gets it', () => {
      it('rejects with the reason, leaves no listener on the signal and shuts the gate', async () => {
        const server = await setting.listen()
        const controller = new AbortController()
        const reason = new Error('enough')
        const accepting = rejection(server.accept({ signal: controller.signal }))
        await turns()
        expect(getEventListeners(controller.signal, 'abort')).to.have.lengthOf(1)
        controller.abort(reason)
        server.invariant()
        expect(await accepting).to.equal(reason)
        expect(getEventListeners(controller.signal, 'abort')).to.have.lengthOf(0)
        await clients(server, 1)
        await turns()
        expect(server.numConnections).to.equal(0)
        expectQueue(setting, server, 1)
        expect(await (await server.accept()).reader.readLine()).to.equal('1')
      })

      it('leaves the others that wait in their order', async () => {
        const server = await setting.listen()
        const controller = new AbortController()
        const first = server.accept()
        const second = rejection(server.accept({ signal: controller.signal }))
        const third = server.accept()
        controller.abort('enough')
        expect(await second).to.equal('enough')
        await clients(server, 2)
        expect(await (await first).reader.readLine()).to.equal('1')
        expect(await (await third).reader.readLine()).to.equal('2')
      })

      it('leaves no listener on the signal when it succeeds or the server closes', async () => {
        const server = await setting.listen()
        const { signal } = new AbortController()
        const accepting = server.accept({ signal })
        await client(server)
        await accepting
        expect(getEventListeners(signal, 'abort')).to.have.lengthOf(0)
        const pending = rejection(server.accept({ signal }))
        await server.close()
        expect(await pending).to.be.instanceOf(ServerClosedError)
        expect(getEventListeners(signal, 'abort')).to.have.lengthOf(0)
      })

      it('with a signal that is aborted already takes nobody', async () => {
        const server = await setting.listen()
        await clients(server, 1)
        expect(await rejection(server.accept({ signal: AbortSignal.abort('never') }))).to.equal('never')
        await turns()
        expect(server.numConnections).to.equal(0)
        expect(await (await server.accept()).reader.readLine()).to.equal('1')
      })

      it('aborted at any moment around the arrival of its client, it loses none', async () => {
        const server = await setting.listen()
        const rounds = 100
        const lines: (string | null)[] = []
        for (let round = 0; round < rounds; round++) {
          const controller = new AbortController()
          const accepting = server.accept({ signal: controller.signal }).then(
            (connection) => connection,
            () => server.accept()
          )
          const arriving = client(server)
          await turnsAlone(round % 5)
          controller.abort()
          server.invariant()
          const socket = await arriving
          socket.write(`${round}\n`)
          const connection = await accepting
          lines.push(await connection.reader.readLine())
          connection.abort()
          socket.destroy()
          await connection.closed
        }
        expect(lines).to.deep.equal(Array.from({ length: rounds }, (_, round) => String(round)))
      })

      it('refuses options that are none', async () => {
        const server = await setting.listen()
        expect(await rejection(server.accept(5 as unknown as { signal: AbortSignal }))).to.be.instanceOf(TypeError)
        expect(await rejection(server.accept({ signal: 5 as unknown as AbortSignal }))).to.be.instanceOf(TypeError)
        server.invariant()
      })
    })

    describe('leaving a loop over a server closes the server; the connection in hand is its owner’s', () => {
      it('break closes the server and leaves the connection open', async () => {
        const server = await setting.listen()
        const [socket] = await clients(server, 1)
        let held: Connection | undefined
        for await (const connection of server) {
          held = connection
          break
        }
        expect(server.isClosed).to.equal(true)
        await server.closeFinished
        expect(await held?.reader.readLine()).to.equal('1')
        held?.writer.write('goodbye')
        socket?.resume()
        expect(String((await once(socket as Socket, 'data'))[0])).to.equal('goodbye')
      })

      it('throw closes the server, and the connection held with await using', async () => {
        const server = await setting.listen()
        const [socket] = await clients(server, 1)
        socket?.resume().end()
        const failure = new Error('failed')
        let held: Connection | undefined
        const looping = (async () => {
          for await (await using connection of server) {
            held = connection
            throw failure
          }
        })()
        expect(await rejection(looping)).to.equal(failure)
        expect([server.isClosed, held?.signal.aborted, server.numConnections]).to.deep.equal([true, true, 0])
      })

      it('return() closes the server and says that it is done', async () => {
        const server = await setting.listen()
        const pending = server.next()
        expect(await server.return()).to.deep.equal({ value: undefined, done: true })
        expect(await pending).to.deep.equal({ value: undefined, done: true })
        expect(server.isClosed).to.equal(true)
      })
    })

    describe('on a server made by Server.create the handler is the consumer', () => {
      it('accept(), next(), a loop and a pool fail with BusyError and take nobody, and it serves on', async () => {
        const lines: (string | null)[] = []
        const server = await setting.create({}, async (connection) => {
          lines.push(await connection.reader.readLine())
        })
        const loop = async (): Promise<void> => {
          for await (const _ of server) throw new Error('A client was handed out')
        }
        const pool = consumerPool(server, 1, () => {
          throw new Error('A client was handed out')
        })
        for (const pull of [server.accept(), server.next(), loop(), pool]) {
          const error = await rejection(pull)
          expect(error).to.be.instanceOf(BusyError).and.to.include({ code: 'ERR_BUSY' })
          server.invariant()
        }
        await clients(server, 1)
        await setting.until(() => lines.length === 1)
        expect(server.isClosed).to.equal(false)
      })
    })

    describe('a client that left while it was queued', () => {
      it('with a reset is closed and never delivered (TCP)', async function () {
        skipIf(this, !isTcp, 'a unix peer has no address to tell by')
        const server = await setting.listen()
        const [first, second] = await clients(server, 3)
        await setting.leave(first as Socket)
        await setting.leave(second as Socket)
        const connection = await server.accept()
        expect(await connection.reader.readLine()).to.equal('3')
        expect(server.numConnections).to.equal(1)
      })

      it('with a reset never gets to a handler, nor takes a slot (TCP)', async function () {
        skipIf(this, !isTcp, 'a unix peer has no address to tell by')
        const { server, active, end } = await occupied(setting, 1)
        const [first, ...others] = await clients(server, QUEUED)
        await setting.until(() => active.length === 1)
        for (const other of others.slice(0, -1)) await setting.leave(other)
        first?.end()
        end()
        await setting.until(() => active.length === 2)
        expect(await active[1]?.reader.readLine()).to.equal(String(QUEUED))
        expect(server.numConnections).to.equal(1)
      })

      it('with its end is delivered with what it sent', async function () {
        skipIf(this, setting.isTls, 'a client that has not shaken hands has sent nothing')
        const server = await setting.listen()
        const socket = await client(server)
        socket.end('all of it')
        await once(socket, 'finish')
        const connection = await server.accept()
        expect(Buffer.from(await connection.reader.readAll()).toString()).to.equal('all of it')
      })
    })
  })
})
