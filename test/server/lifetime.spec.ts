import { getEventListeners, once } from 'node:events'
import type net from 'node:net'
import { createServer } from 'node:net'
import { mock } from 'node:test'
import { expect } from 'chai'
import { Deferred } from '../../src/async/deferred.ts'
import { connect } from '../../src/connect.ts'
import type { Connection } from '../../src/connection.ts'
import { ConnectionClosedError, ServerClosedError } from '../../src/errors.ts'
import type { Server } from '../../src/server.ts'
import { toFile, toHostAndPort } from '../../src/where-to-connect.ts'
import { descriptors } from '../helpers/descriptors.ts'
import { skipIf } from '../helpers/programs.ts'
import { readToEnd } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import type { Scope } from '../helpers/scope.ts'
import { closed, inEverySetting, type Setting } from '../helpers/settings.ts'
import { transcript } from '../helpers/transcript.ts'
import { until } from '../helpers/until.ts'

describe('Server: lifetime', () => {
  inEverySetting((setting) => {
    const { isTcp, isKernel, isMemory, scope, client, clients, turns } = setting

    describe('listen and Server.create resolve when the socket is bound and listening', () => {
      it('a connect begun after that succeeds, whether or not somebody pulls yet', async function () {
        skipIf(this, isMemory, 'dials a socket')
        for (const server of [await setting.listen(), await setting.create({}, () => {})]) {
          expect(server.acceptGate).to.equal(isKernel ? 'kernel' : 'userland')
          const connection = await dial(server)
          connection.abort()
          server.invariant()
        }
      })

      it('listeningOn, address and listeningSocket tell where', async () => {
        const server = await setting.listen()
        if (server.address.family === 'unix') expect(server.listeningOn).to.equal(server.address.path)
        else expect(server.address).to.deep.equal({ family: 'IPv4', address: '127.0.0.1', port: server.listeningOn })
        expect(server.listeningSocket.address).to.deep.equal(server.address)
        if (isMemory) expect(server.listeningSocket.fd).to.equal(-1)
        else expect(server.listeningSocket.fd).to.be.above(2)
      })

      it('with a signal that is aborted already nothing happens but a rejection with its reason', async () => {
        const before = descriptors()
        expect(await rejection(setting.listen({ signal: AbortSignal.abort('never') }))).to.equal('never')
        expect(descriptors()).to.equal(before)
      })

      it('with a signal that is aborted meanwhile nothing is left listening', async () => {
        const controller = new AbortController()
        const before = descriptors()
        const listening = rejection(setting.listen({ signal: controller.signal }))
        controller.abort('too late')
        expect(await listening).to.equal('too late')
        expect(getEventListeners(controller.signal, 'abort')).to.have.lengthOf(0)
        await until(() => descriptors() === before)
      })
    })

    describe('from the call of close() on isClosed is true, no handler is called and no connection handed out', () => {
      it('in the very turn isClosed is true and signal is aborted, with a ServerClosedError', async () => {
        const server = await setting.listen()
        const { signal } = server
        expect([server.isClosed, signal.aborted]).to.deep.equal([false, false])
        const closing = server.close()
        expect([server.isClosed, signal.aborted]).to.deep.equal([true, true])
        server.invariant()
        expect(signal.reason).to.be.instanceOf(ServerClosedError)
        await closing
        await server.finished
      })

      it('signal is aborted also for whoever asks for it afterwards', async () => {
        const server = await setting.listen()
        await server.close()
        expect(server.signal.aborted).to.equal(true)
        expect(server.signal.reason).to.be.instanceOf(ServerClosedError)
      })

      it('clients that wait are not served but told, and those in the kernel’s queue by a reset', async () => {
        const { server, active, release } = await occupied(setting, 1)
        const [, ...waiting] = await clients(server, 4)
        await setting.until(() => active.length === 1)
        const ends = waiting.map(endOf)
        await server.close()
        expect(await Promise.all(ends)).to.deep.equal(
          Array(3).fill(isKernel ? 'ECONNRESET' : (await ends[0]) === 'end' ? 'end' : 'ECONNRESET')
        )
        release()
        await server.finished
        expect(active.length).to.equal(1)
      })

      it('a client that arrives in the turn of close() gets to no handler', async () => {
        for (let round = 0; round < 20; round++) {
          let isClosed = false
          let calledAfterwards = 0
          const server = await setting.create({}, (connection) => {
            if (isClosed) calledAfterwards++
            connection.abort()
          })
          const arriving = Array.from({ length: 5 }, () => client(server).then(endOf, () => 'refused'))
          await turns(round % 7)
          isClosed = true
          await server.close()
          await Promise.all(arriving)
          await server.finished
          expect(calledAfterwards).to.equal(0)
        }
      })

      it('a pending accept() rejects with ServerClosedError and a later one too; a pending next() is done and a later one too', async () => {
        const server = await setting.listen()
        const accepting = rejection(server.accept())
        const next = server.next()
        await server.close()
        for (const error of [await accepting, await rejection(server.accept())]) {
          expect(error).to.be.instanceOf(ServerClosedError).and.to.include({ code: 'ERR_SERVER_CLOSED' })
        }
        for (const result of [await next, await server.next()]) expect(result).to.deep.equal({ value: undefined, done: true })
        await server.finished
      })

      it('an aborted signal closes it, and no listener is left on the signal', async () => {
        const controller = new AbortController()
        const server = await setting.listen({ signal: controller.signal })
        expect(getEventListeners(controller.signal, 'abort')).to.have.lengthOf(1)
        controller.abort()
        expect(server.isClosed).to.equal(true)
        expect(getEventListeners(controller.signal, 'abort')).to.have.lengthOf(0)
        await server.closeFinished
        await server.finished
      })

      it('close() takes its listener off the signal', async () => {
        const { signal } = new AbortController()
        const server = await setting.listen({ signal })
        await server.close()
        expect(getEventListeners(signal, 'abort')).to.have.lengthOf(0)
      })

      it('a raised handler error closes it', async () => {
        const server = await setting.create({}, () => {
          throw new Error('raised')
        })
        const finished = rejection(server.finished)
        await client(server)
        expect(await finished)
          .to.be.an('error')
          .with.property('message', 'raised')
        expect(server.isClosed).to.equal(true)
        await server.closeFinished
      })

      it('leaving await using closes it', async () => {
        let held: Server | undefined
        {
          await using server = await setting.listen()
          held = server
        }
        expect(held.isClosed).to.equal(true)
        await held.closeFinished
      })

      it('it resolves when the address can be bound again, although connections are open', async function () {
        skipIf(this, isMemory, 'has a port that is none of the system, which somebody else may have')
        const server = await setting.listen()
        await clients(server, setting.isTls ? 1 : 2)
        const connection = await server.accept()
        await server.close()
        const address = server.address
        const plain = createServer().listen(
          address.family === 'unix' ? { path: address.path } : { port: address.port, host: address.address }
        )
        await once(plain, 'listening')
        plain.close()
        await once(plain, 'close')
        expect(await connection.reader.readLine()).to.equal('1')
        expect(server.numConnections).to.equal(1)
      })

      it('it resolves when every descriptor of the listening socket is closed, with the gate shut and open', async function () {
        skipIf(this, isMemory, 'has no descriptor')
        for (const isOpen of [false, true]) {
          await turns(2)
          const before = descriptors()
          const server = await setting.listen()
          const accepting = isOpen ? rejection(server.accept()) : undefined
          await turns(2)
          expect(descriptors()).to.be.above(before)
          await server.close()
          expect(descriptors()).to.equal(before)
          await accepting
        }
      })

      it('further plain calls return the same promise, which is closeFinished', async () => {
        const server = await setting.listen()
        const closing = server.close()
        expect(server.close()).to.equal(closing)
        expect(server.closeFinished).to.equal(closing)
        await closing
        expect(server.close()).to.equal(closing)
      })

      it('closeFinished and finished start nothing', async () => {
        const server = await setting.listen()
        let settled = 0
        for (const promise of [server.closeFinished, server.finished]) void promise.then(() => settled++)
        await clients(server, 1)
        expect(await (await server.accept()).reader.readLine()).to.equal('1')
        await turns()
        expect([server.isClosed, settled]).to.deep.equal([false, 0])
        await server.close()
        await setting.until(() => settled === 2)
      })

      it('finished waits for the handlers, closeFinished does not', async () => {
        const { server, active, release } = await occupied(setting, 2)
        const record = transcript()
        void server.closeFinished.then(() => record('closeFinished'))
        void server.finished.then(() => record('finished'))
        for (const socket of await clients(server, 2)) socket.resume().end()
        await setting.until(() => active.length === 2)
        await server.close()
        await turns()
        expect(record.lines).to.deep.equal(['closeFinished'])
        release()
        await setting.until(() => record.lines.length === 2)
        expect(record.lines).to.deep.equal(['closeFinished', 'finished'])
        expect(server.numConnections).to.equal(0)
      })

      for (const options of [
        { forceAfter: -1 },
        { forceAfter: Number.NaN },
        { forceAfter: '1' },
        { closeExistingConnections: 1 },
        5,
        null
      ]) {
        it(`refuses ${JSON.stringify(options)} without closing`, async () => {
          const server = await setting.listen()
          const error = await rejection(server.close(options as { forceAfter: number }))
          expect(error).to.satisfy((e: unknown) => e instanceof TypeError || e instanceof RangeError)
          expect(server.isClosed).to.equal(false)
        })
      }
    })

    describe('close({ closeExistingConnections: true }) aborts the open connections and resolves when their descriptors are closed', () => {
      for (const isEscalation of [false, true]) {
        it(`${isEscalation ? 'after a plain close()' : 'at once'}; finished waits for the handlers`, async () => {
          const { server, active, release } = await occupied(setting, 3)
          let isFinished = false
          void server.finished.then(() => {
            isFinished = true
          })
          const sockets = await clients(server, 5)
          const ends = sockets.map(endOf)
          await setting.until(() => active.length === 3)
          // Their tickets are read: with them, Node takes a reset for an end.
          if (setting.isTls) await turns()
          if (isEscalation) {
            await server.close()
            await turns()
            expect(active.map(({ signal }) => signal.aborted)).to.deep.equal([false, false, false])
          }
          const before = server.numConnections
          await server.close({ closeExistingConnections: true })
          expect(active.map(({ signal }) => signal.aborted)).to.deep.equal([true, true, true])
          expect(await rejection(active[0]?.reader.read() as Promise<unknown>)).to.be.instanceOf(ConnectionClosedError)
          await turns()
          expect([isFinished, before, server.numConnections]).to.deep.equal([false, 3, 3])
          const told = await Promise.all(ends)
          if (isTcp) expect(told.slice(0, 3)).to.deep.equal(Array(3).fill('ECONNRESET'))
          release()
          await server.finished
          expect([active.length, server.numConnections]).to.deep.equal([3, 0])
        })
      }

      it('called twice at once both resolve when all is closed', async () => {
        const { server, active, release } = await occupied(setting, 2)
        await clients(server, 2)
        await setting.until(() => active.length === 2)
        const isAllClosed = (): boolean => active.every(({ signal }) => signal.aborted)
        const options = { closeExistingConnections: true }
        expect(await Promise.all([1, 2].map(() => server.close(options).then(isAllClosed)))).to.deep.equal([true, true])
        release()
        await server.finished
      })

      it('aborts connections of accept() too', async () => {
        const server = await setting.listen()
        await clients(server, 1)
        const connection = await server.accept()
        const reading = rejection(connection.reader.readExactly(100))
        await server.close({ closeExistingConnections: true })
        expect(await reading).to.be.instanceOf(ConnectionClosedError)
        expect([connection.signal.aborted, server.numConnections]).to.deep.equal([true, 0])
        await server.finished
      })

      it('a handler that fails of it is not raised, one that fails by itself is', async () => {
        for (const failure of [undefined, new Error('by itself')]) {
          let started = 0
          const server = await setting.create({}, async ({ reader }) => {
            started++
            try {
              await reader.readAll()
            } catch (error) {
              throw failure ?? new Error('read failed', { cause: error })
            }
          })
          await clients(server, 1)
          await setting.until(() => started === 1)
          const finished = failure === undefined ? server.finished : rejection(server.finished)
          await server.close({ closeExistingConnections: true })
          expect(await finished).to.equal(failure)
        }
      })
    })

    describe('when a handler ends or throws, its reader and writer are closed, then the slot is free', () => {
      for (const fails of [false, true]) {
        it(`${fails ? 'throws' : 'ends'}: what it wrote arrives, then the end; the slot is free when the descriptor is closed`, async () => {
          let held: Connection | undefined
          const server = await setting.create({ onHandlerError: 'ignore' }, (connection) => {
            held = connection
            connection.writer.write(Buffer.alloc(300_000))
            if (fails) throw new Error('failed')
          })
          const [socket] = await clients(server, 1)
          expect(await readToEnd(socket as net.Socket)).to.have.lengthOf(300_000)
          await turns()
          expect([held?.signal.aborted, server.numConnections]).to.deep.equal([false, 1])
          expect(await rejection(held?.reader.read() as Promise<unknown>)).to.be.instanceOf(ConnectionClosedError)
          socket?.end()
          await setting.until(() => server.numConnections === 0)
          expect(held?.signal.aborted).to.equal(true)
        })
      }

      it('under raise the listener is closed at once, not after that close', async () => {
        const failure = new Error('failed')
        const server = await setting.create({}, ({ writer }) => {
          writer.write('before the end')
          throw failure
        })
        const finished = rejection(server.finished)
        const [socket] = await clients(server, 1)
        expect(await finished).to.equal(failure)
        expect([server.isClosed, server.numConnections]).to.deep.equal([true, 1])
        await server.closeFinished
        expect(server.numConnections).to.equal(1)
        expect(String(await readToEnd(socket as net.Socket))).to.equal('before the end')
        socket?.end()
        await setting.until(() => server.numConnections === 0)
      })

      it('a callback runs when the connection is closed', async () => {
        const record = transcript()
        const onHandlerError = (): void => record('callback')
        const server = await setting.create({ onHandlerError }, (connection) => {
          connection.signal.addEventListener('abort', () => record('closed'))
          record('handler')
          throw new Error('failed')
        })
        const [socket] = await clients(server, 1)
        await readToEnd(socket as net.Socket)
        await turns()
        record('client leaves')
        socket?.end()
        await setting.until(() => record.lines.length === 4)
        expect(record.lines).to.deep.equal(['handler', 'client leaves', 'closed', 'callback'])
        await setting.until(() => server.numConnections === 0)
      })
    })

    describe('a loop over a closed server ends; a pending accept() rejects with ServerClosedError', () => {
      it('a loop that waits ends, one in its body ends after it, and one begun later at once', async () => {
        const server = await setting.listen()
        const mayGoOn = new Deferred()
        let inBody = 0
        const loop = async (): Promise<void> => {
          for await (const _ of server) {
            inBody++
            await mayGoOn.promise
          }
        }
        const loops = [loop(), loop()]
        await clients(server, 1)
        await setting.until(() => inBody === 1)
        await server.close()
        mayGoOn.resolve()
        await Promise.all([...loops, loop()])
        expect(inBody).to.equal(1)
      })
    })

    describe('leaving an await using scope is close({ forceAfter: 30_000 }), then until every slot is free, then the result of finished', () => {
      it('waits for the handlers and the connections', async () => {
        const { server, active, release } = await occupied(setting, 2)
        const sockets = await clients(server, 2)
        await setting.until(() => active.length === 2)
        let isDisposed = false
        const disposing = server[Symbol.asyncDispose]().then(() => {
          isDisposed = true
        })
        expect(server.isClosed).to.equal(true)
        release()
        await Promise.all(sockets.map(readToEnd))
        await turns()
        expect([isDisposed, server.numConnections]).to.deep.equal([false, 2])
        for (const socket of sockets) socket.end()
        await disposing
        expect(server.numConnections).to.equal(0)
      })

      it('waits for the connections of accept() too', async () => {
        const server = await setting.listen()
        await clients(server, 1)
        const connection = await server.accept()
        let isDisposed = false
        const disposing = server[Symbol.asyncDispose]().then(() => {
          isDisposed = true
        })
        await server.closeFinished
        await turns()
        expect(isDisposed).to.equal(false)
        connection.abort()
        await disposing
      })

      it('throws the raised error after the connections have ended', async () => {
        const failure = new Error('failed')
        const mayEnd = new Deferred()
        let started = 0
        const server = await setting.create({}, async () => {
          if (++started === 2) throw failure
          await mayEnd.promise
        })
        const finished = rejection(server.finished)
        const sockets = await clients(server, 2)
        expect(await finished).to.equal(failure)
        let isDisposed = false
        const disposing = rejection(server[Symbol.asyncDispose]()).finally(() => {
          isDisposed = true
        })
        for (const socket of sockets) socket.resume().end()
        await turns()
        expect(isDisposed).to.equal(false)
        mayEnd.resolve()
        expect(await disposing).to.equal(failure)
        expect(server.numConnections).to.equal(0)
      })

      it('after 30 s the connections that are open are aborted, not before', async () => {
        const pass = stopClock(scope)
        const server = await setting.listen()
        await clients(server, 1)
        const connection = await server.accept()
        const disposing = server[Symbol.asyncDispose]()
        await server.closeFinished
        pass(29_999)
        await turns()
        expect(connection.signal.aborted).to.equal(false)
        pass(1)
        await turns()
        expect(connection.signal.aborted).to.equal(true)
        await disposing
      })
    })

    describe('a second close with stricter options escalates', () => {
      it('forceAfter: 0 after a plain close() aborts at once', async () => {
        const { server, connection } = await withOne(setting)
        await server.close()
        expect(connection.signal.aborted).to.equal(false)
        await server.close({ forceAfter: 0 })
        await connection.closed
        await server.finished
      })

      it('with a handler that goes on its connection is aborted all the same, and its failing of that is not raised', async () => {
        const pass = stopClock(scope)
        let held: Connection | undefined
        const server = await setting.create({}, async (connection) => {
          held = connection
          await connection.reader.readAll()
        })
        await clients(server, 1)
        await setting.until(() => held !== undefined)
        await server.close({ forceAfter: 1_000 })
        pass(999)
        await turns()
        expect(held?.signal.aborted).to.equal(false)
        pass(1)
        await turns()
        expect(held?.signal.aborted).to.equal(true)
        await server.finished
      })

      it('the earlier deadline counts, whichever call came first', async () => {
        const pass = stopClock(scope)
        for (const delays of [
          [5_000, 1_000],
          [1_000, 5_000]
        ]) {
          const { server, connection } = await withOne(setting)
          for (const forceAfter of delays) await server.close({ forceAfter })
          pass(999)
          await turns()
          expect(connection.signal.aborted).to.equal(false)
          pass(1)
          await turns()
          expect(connection.signal.aborted).to.equal(true)
          await server.finished
        }
      })

      it('a forceAfter beyond what a timer can hold is honoured', async () => {
        const pass = stopClock(scope)
        const { server, connection } = await withOne(setting)
        await server.close({ forceAfter: 2 ** 31 + 1_000 })
        pass(1)
        await turns()
        pass(2 ** 31 - 2)
        await turns()
        expect(connection.signal.aborted).to.equal(false)
        pass(1_001)
        await turns()
        expect(connection.signal.aborted).to.equal(true)
      })
    })
  })
})

// ---------------------------------------------------------------------------------------------------------------------

/** A server whose handlers wait until `release()` is called. */
async function occupied(setting: Setting, maxConnections: number): Promise<{ server: Server; active: Connection[]; release: () => void }> {
  const active: Connection[] = []
  const mayEnd = new Deferred()
  setting.scope.defer(() => mayEnd.resolve())
  const server = await setting.create({ maxConnections }, async (connection) => {
    active.push(connection)
    await mayEnd.promise
  })
  return { server, active, release: () => mayEnd.resolve() }
}

/** A server with one client. */
async function withOne(setting: Setting): Promise<{ server: Server; connection: Connection }> {
  const server = await setting.listen()
  await setting.clients(server, 1)
  return { server, connection: await server.accept() }
}

async function dial({ address }: Server): Promise<Connection> {
  return await connect(address.family === 'unix' ? toFile(address.path) : toHostAndPort(address.address, address.port))
}

/** How the other side ends `socket`: 'end', or the code of the error. */
async function endOf(socket: net.Socket): Promise<string> {
  let end = 'end'
  socket.on('error', (error: NodeJS.ErrnoException) => {
    end = error.code ?? error.message
  })
  socket.on('end', () => socket.destroy()).resume()
  await closed(socket)
  return end
}

/** Stops timers and the clock, for the rest of the test: only the function that is returned lets them go on. */
function stopClock(scope: Scope): (time: number) => void {
  let now = performance.now()
  const clock = mock.method(performance, 'now', () => now)
  mock.timers.enable({ apis: ['setTimeout'] })
  scope.defer(() => {
    mock.timers.reset()
    clock.mock.restore()
  })
  return (time) => {
    now += time
    mock.timers.tick(time)
  }
}
