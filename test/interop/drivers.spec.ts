import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, existsSync, readdirSync, readFileSync } from 'node:fs'
import { createServer, get } from 'node:http'
import type { AddressInfo } from 'node:net'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import pg from 'pg'
import { Client, request } from 'undici'
import { connectSocket } from '../../src/connect.ts'
import { toFile, toHostAndPort } from '../../src/where-to-connect.ts'
import { stop, userNamed } from '../helpers/postgres.ts'
import { run, skipIf } from '../helpers/programs.ts'
import { type Scope, useScope } from '../helpers/scope.ts'
import { until } from '../helpers/until.ts'

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
    const path = await postgres(this, scope)
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

/** Starts PostgreSQL in a directory of its own; gives the path of its socket. */
async function postgres(context: Mocha.Context, scope: Scope): Promise<string> {
  const versions = '/usr/lib/postgresql'
  const version = existsSync(versions) ? readdirSync(versions).at(-1) : undefined
  const bin = join(versions, String(version), 'bin')
  skipIf(context, version === undefined, 'needs PostgreSQL')
  // It refuses to run as root.
  const user: { uid?: number; gid?: number } | undefined = userInfo().uid === 0 ? userNamed('postgres') : {}
  skipIf(context, user === undefined, 'needs a user named postgres')
  const directory = scope.tempDir()
  if (user?.uid !== undefined && user.gid !== undefined) chownSync(directory, user.uid, user.gid)
  const data = join(directory, 'data')
  const { code, stderr } = await run(join(bin, 'initdb'), ['-D', data, '-U', 'postgres', '-A', 'trust', '--no-sync'], {
    cwd: directory,
    ...user
  })
  expect(code, stderr).to.equal(0)
  const server = spawn(join(bin, 'postgres'), ['-D', data, '-k', directory, '-h', '', '-c', 'fsync=off'], {
    cwd: directory,
    stdio: 'ignore',
    ...user
  })
  scope.defer(() => stop(server))
  const path = join(directory, '.s.PGSQL.5432')
  await until(() => existsSync(`${path}.lock`) && readFileSync(join(data, 'postmaster.pid'), 'utf8').includes('ready'))
  return path
}
