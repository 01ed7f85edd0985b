import { once } from 'node:events'
import { createServer, type Server as HttpServer, request } from 'node:http'
import { createServer as createHttp2Server, connect as http2Connect } from 'node:http2'
import { connect as netConnect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { expect } from 'chai'
import fastify from 'fastify'
import WebSocket, { WebSocketServer } from 'ws'
import { type InetServer, onPort, Server } from '../../src/index.ts'
import { skipIf } from '../helpers/programs.ts'
import { quietWarnings } from '../helpers/quiet.ts'
import { useScope } from '../helpers/scope.ts'
import { CAN_GATE_IN_KERNEL, canTellQueue, queue } from '../helpers/settings.ts'
import { until } from '../helpers/until.ts'

const SLOTS = 3
const CLIENTS = 100

/** What is behind the gate, and one client of it. */
interface Subject {
  readonly name: string
  /** Whether the handler looks at the first bytes before it gives the socket away. */
  readonly peeks?: boolean
  start(gauge: Gauge): Promise<{ take(socket: Socket): void; close(): unknown }>
  /** Asks once, and leaves. */
  ask(port: number, number: number): Promise<string>
}

/** Counts who is served at once, and lets them wait until told. */
class Gauge {
  most = 0
  #now = 0
  #release = (): void => {}
  readonly #released = new Promise<void>((resolve) => {
    this.#release = resolve
  })

  async serve(): Promise<void> {
    this.most = Math.max(this.most, ++this.#now)
    await this.#released
    this.#now--
  }

  get now(): number {
    return this.#now
  }

  release(): void {
    this.#release()
  }
}

const SUBJECTS: readonly Subject[] = [
  { name: 'node:http', start: startHttp, ask: askHttp },
  { name: 'node:http after a peek at the first bytes', peeks: true, start: startHttp, ask: askHttp },
  {
    name: 'node:http2',
    async start(gauge) {
      const http2 = createHttp2Server()
      http2.on('stream', async (stream, headers) => {
        stream.on('error', () => {})
        await gauge.serve()
        if (stream.destroyed) return
        stream.respond({ ':status': 200 })
        stream.end(`answer to ${headers[':path']}`)
      })
      return { take: (socket) => void http2.emit('connection', socket), close: () => http2.close() }
    },
    async ask(port, number) {
      const session = http2Connect(`http://127.0.0.1:${port}`)
      const stream = session.request({ ':path': `/${number}` })
      const answer = await text(stream)
      session.close()
      await once(session, 'close')
      return answer
    }
  },
  {
    name: 'ws',
    async start(gauge) {
      const http = createServer()
      const sockets = new WebSocketServer({ server: http })
      sockets.on('connection', (socket, { url }) => {
        socket.on('message', async (message) => {
          await gauge.serve()
          socket.send(`answer to ${url} ${message}`)
        })
      })
      return {
        take: (socket) => void http.emit('connection', socket),
        close: () => {
          sockets.close()
          http.close()
        }
      }
    },
    async ask(port, number) {
      const socket = new WebSocket(`ws://127.0.0.1:${port}/${number}`)
      await once(socket, 'open')
      socket.send('hello')
      const [message] = await once(socket, 'message')
      socket.close()
      await once(socket, 'close')
      return String(message).replace(' hello', '')
    }
  },
  {
    name: 'fastify',
    async start(gauge) {
      const app = fastify()
      app.get('/:number', async (incoming) => {
        await gauge.serve()
        return `answer to ${incoming.url}`
      })
      await app.ready()
      return { take: (socket) => void app.server.emit('connection', socket), close: () => app.close() }
    },
    ask: askHttp
  }
]

describe('Servers of others behind the gate', () => {
  const scope = useScope()

  for (const subject of SUBJECTS) {
    it(`${subject.name} serves 100 clients through 3 slots, and the others wait in the kernel`, async function () {
      skipIf(this, !CAN_GATE_IN_KERNEL, 'needs the kernel gate')
      this.timeout(30_000)
      quietWarnings(scope)
      const gauge = new Gauge()
      const { take, close } = await subject.start(gauge)
      scope.defer(close)
      let most = 0
      const server: InetServer = scope.open(
        await Server.create(onPort(0, { host: '127.0.0.1' }), { maxConnections: SLOTS }, async (connection) => {
          most = Math.max(most, server.numConnections)
          if (subject.peeks === true) expect(Buffer.from((await connection.reader.peek(4)) as Uint8Array).toString()).to.equal('GET ')
          take(await connection.detach())
        })
      )
      const answers = Array.from({ length: CLIENTS }, (_, number) => subject.ask(server.listeningOn, number))
      await until(() => gauge.now === SLOTS, 'all slots are in use')
      if (canTellQueue()) await until(() => queue(server as unknown as Server) === CLIENTS - SLOTS, 'the others wait in the kernel')
      expect(server.numConnections).to.equal(SLOTS)
      gauge.release()
      expect(await Promise.all(answers)).to.deep.equal(answers.map((_, number) => `answer to /${number}`))
      expect(gauge.most).to.equal(SLOTS)
      expect(most).to.equal(SLOTS)
      await until(() => server.numConnections === 0)
    })
  }

  it('node:http says no word of clients that reset at any moment', async () => {
    const http = createServer((_, response) => response.end('hello'))
    http.emit('listening')
    scope.defer(() => http.close())
    const server = scope.open(
      await Server.create(onPort(0, { host: '127.0.0.1' }), async (connection) => {
        http.emit('connection', await connection.detach())
      })
    )
    for (let moment = 0; moment < 30; moment++) {
      const client = netConnect(server.listeningOn, '127.0.0.1')
      client.on('error', () => {})
      await once(client, 'connect')
      client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n'.slice(0, moment))
      for (let turn = 0; turn < moment % 6; turn++) await new Promise(setImmediate)
      client.resetAndDestroy()
      await once(client, 'close')
    }
    expect(await askHttp(server.listeningOn, 7)).to.equal('hello')
    await until(() => server.numConnections === 0)
  })
})

async function startHttp(gauge: Gauge): Promise<{ take(socket: Socket): void; close(): unknown }> {
  const http: HttpServer = createServer(async ({ url }, response) => {
    await gauge.serve()
    response.end(`answer to ${url}`)
  })
  http.emit('listening')
  return { take: (socket) => void http.emit('connection', socket), close: () => http.close() }
}

async function askHttp(port: number, number: number): Promise<string> {
  const outgoing = request({ port, host: '127.0.0.1', path: `/${number}`, agent: false })
  outgoing.end()
  const [response] = await once(outgoing, 'response')
  return await text(response)
}
