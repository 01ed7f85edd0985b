import { once } from 'node:events'
import { createServer, get } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect } from 'chai'
import pg from 'pg'
import { Client, request } from 'undici'
import { connectSocket } from '../../src/connect.ts'
import { toFile, toHostAndPort } from '../../src/where-to-connect.ts'
import { startPostgresOnPath } from '../helpers/postgres.ts'
import { useScope } from '../helpers/scope.ts'

describe('The sockets of connectSocket() are what node:http and drivers take as they are', () => {
  const scope = useScope()

  async function webServer(): Promise<number> {
    const server = createServer((incoming, response) => {
      response.end(`${incoming.method} ${incoming.url}`)
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    scope.defer(async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    })
    return (server.address() as AddressInfo).port
  }

  it('http.get() with createConnection', async () => {
    const port = await webServer()
    const socket = await connectSocket(toHostAndPort('127.0.0.1', port))
    const response = await new Promise<import('node:http').IncomingMessage>((resolve, reject) => {
      get({ createConnection: () => socket, path: '/hello' }, resolve).on('error', reject)
    })
    let body = ''
    for await (const chunk of response) body += chunk
    expect(body).to.equal('GET /hello')
    socket.destroy()
  })

  it('undici, as its connector', async () => {
    const port = await webServer()
    const numDialled: number[] = []
    const client = new Client(`http://127.0.0.1:${port}`, {
      connect: ({ port: to }, callback) => {
        numDialled.push(Number(to))
        connectSocket(toHostAndPort('127.0.0.1', Number(to))).then(
          (socket) => callback(null, socket),
          (error: Error) => callback(error, null)
        )
      }
    })
    for (const path of ['/first', '/second']) {
      const { body } = await request(`http://127.0.0.1:${port}${path}`, { dispatcher: client })
      expect(await body.text()).to.equal(`GET ${path}`)
    }
    expect(numDialled).to.deep.equal([port])
    await client.close()
  })

  it('pg, over a unix socket', async function () {
    this.timeout(60_000)
    const path = await startPostgresOnPath(this, scope)
    const socket = await connectSocket(toFile(path))
    // pg connects what it is given: it is connected already.
    socket.connect = () => {
      queueMicrotask(() => socket.emit('connect'))
      return socket
    }
    const client = new pg.Client({ user: 'postgres', database: 'postgres', stream: () => socket })
    await client.connect()
    try {
      const { rows } = await client.query('select generate_series(1, $1::int) as n', [10_000])
      expect(rows).to.have.length(10_000)
      expect(rows.at(-1)).to.deep.equal({ n: 10_000 })
    } finally {
      await client.end()
    }
    if (!socket.closed) await once(socket, 'close')
  })
})
