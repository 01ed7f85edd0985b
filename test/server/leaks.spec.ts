import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createConnection, type Socket } from 'node:net'
import { expect } from 'chai'
import { listen } from '../../src/listen.ts'
import type { Server } from '../../src/server.ts'
import { onFile, onPort } from '../../src/where-to-listen.ts'
import { descriptors } from '../helpers/descriptors.ts'
import { rejection } from '../helpers/rejection.ts'
import { closed, inEverySocketSetting } from '../helpers/settings.ts'
import { turns as turnsAlone, until } from '../helpers/until.ts'

describe('Server: many clients', () => {
  inEverySocketSetting((setting) => {
    const { isTcp, isKernel, scope, clients, turns } = setting

    describe('many short connections through a limit of 3', () => {
      it('all are served, never more than 3 open, and nothing is left', async function () {
        this.timeout(120_000)
        const total = isTcp && isKernel ? 20_000 : 5_000
        // Mocha's own timer starts when the test has returned its promise.
        await turns(1)
        const before = descriptors()
        const resources = activeResources()
        let [started, ended, most] = [0, 0, 0]
        const server = await setting.create({ maxConnections: 3 }, async ({ reader, writer }) => {
          most = Math.max(most, server.numConnections)
          started++
          writer.write((await reader.read()) as Uint8Array)
          ended++
          server.invariant()
        })
        let served = 0
        await Promise.all(
          Array.from({ length: 50 }, async () => {
            while (served < total) {
              const number = String(served++)
              expect(await ask(server, number)).to.equal(number)
              server.invariant()
            }
          })
        )
        await setting.until(() => server.numConnections === 0)
        expect([started, ended, most]).to.deep.equal([total, total, 3])
        await server.close()
        await server.finished
        await until(() => activeResources() === resources)
        await until(() => descriptors() <= before)
      })
    })

    describe('nothing leaks', () => {
      it('after many turns of the gate', async function () {
        this.timeout(60_000)
        const server = await setting.listen()
        await turns(2)
        const before = descriptors()
        for (let cycle = 1; cycle <= 10_000; cycle++) {
          const controller = new AbortController()
          const accepting = server.accept({ signal: controller.signal }).catch(() => {})
          controller.abort()
          if (cycle % 10 === 0) await accepting
          if (cycle % 100 === 0) await turnsAlone(2)
          server.invariant()
        }
        await until(() => descriptors() === before)
      })

      it('after a listen that failed', async () => {
        const server = await setting.listen()
        const before = descriptors()
        for (let count = 0; count < 20; count++) {
          // Not the server's path: whoever finds out whether it is alive is a client of it.
          const failing = isTcp ? listenOn(server) : listen(onFile(scope.tempDir()))
          expect(await rejection(failing)).to.include({ code: 'ERR_LISTEN' })
        }
        await until(() => descriptors() === before)
        await clients(server, 1)
        expect(await (await server.accept()).reader.readLine()).to.equal('1')
      })

      it('to a child process: while one lives queued clients are told of the end and the address can be bound again', async () => {
        const server = await setting.listen()
        const accepting = server.accept()
        // Lives until its standard input ends. Started while the gate is open, so that there is most to inherit.
        const child = spawn(process.execPath, ['-e', 'process.stdin.resume()'], { stdio: ['pipe', 'ignore', 'ignore'] })
        await once(child, 'spawn')
        const [, queued] = await clients(server, 2)
        ;(await accepting).abort()
        await server.close()
        await gone(queued as Socket)
        const again = scope.open(await listenOn(server))
        await clients(again, 1)
        ;(await again.accept()).abort()
        child.stdin.end()
        await once(child, 'close')
      })
    })
  })
})
/** Waits until the other side has closed `socket`, or reset it. */
async function gone(socket: Socket): Promise<void> {
  socket.on('end', () => socket.destroy()).resume()
  await closed(socket)
}

/** What the server answers to a connection of its own. */
async function ask(server: Server, question: string): Promise<string> {
  const { listeningOn } = server
  const socket = typeof listeningOn === 'string' ? createConnection(listeningOn) : createConnection(listeningOn as number, '127.0.0.1')
  socket.setEncoding('utf8').write(question)
  let answer = ''
  socket.on('data', (text) => {
    answer += text
  })
  await once(socket, 'close')
  return answer
}

/** Listens on the address of `server`. */
async function listenOn({ address }: Server): Promise<Server> {
  return (await listen(address.family === 'unix' ? onFile(address.path) : onPort(address.port, { host: address.address }))) as Server
}

function activeResources(): string {
  return process.getActiveResourcesInfo().sort().join()
}
