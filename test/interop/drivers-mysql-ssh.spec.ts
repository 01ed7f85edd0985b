import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import type { AddressInfo, Server as NetServer, Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { expect } from 'chai'
import mysql from 'mysql2'
import { createConnection, createPool } from 'mysql2/promise'
import ssh2, { type ClientChannel, type ConnectConfig } from 'ssh2'
import { Deferred } from '../../src/async/deferred.ts'
import { connect, connectSocket, fromDuplex, onPortChosenByOs, Server, toDuplex, toHostAndPort } from '../../src/index.ts'
import { useScope } from '../helpers/scope.ts'
import { until } from '../helpers/until.ts'

const HOST = '127.0.0.1'

/** What a connection of mysql2's server has, and its types lack. */
interface Answering {
  sequenceId: number
  writeTextResult(rows: readonly unknown[], columns: readonly unknown[]): void
}

const NAMES = { catalog: 'def', schema: '', table: '', orgTable: '', orgName: '', name: 'asked' }
const COLUMN = { ...NAMES, columnType: 253, characterSet: 33, columnLength: 65_535, flags: 0, decimals: 0 }

describe('mysql2 takes the sockets of connectSocket(), told to close at the end of the server', () => {
  const scope = useScope()

  /** A server that speaks MySQL's protocol, and answers each query with the query itself, so many times. */
  async function mysqlServer(numRows = 1): Promise<{ port: number; numClients(): number }> {
    let numClients = 0
    const server = mysql.createServer((client) => {
      numClients++
      const answering = client as unknown as Answering
      // CLIENT_PROTOCOL_41, CLIENT_SECURE_CONNECTION, CLIENT_PLUGIN_AUTH and the like.
      client.serverHandshake({
        protocolVersion: 10,
        serverVersion: '8.0.0',
        connectionId: numClients,
        statusFlags: 2,
        characterSet: 8,
        capabilityFlags: 0xffffff & ~0x800,
        authCallback: (_: unknown, accept: (error: null) => void) => {
          accept(null)
          answering.sequenceId = 0
        }
      })
      client.on('query', (sql: string) => {
        // Left alone it would go on counting; an exchange begins with 0, and the question was that.
        answering.sequenceId = 1
        answering.writeTextResult(
          Array.from({ length: numRows }, () => ({ asked: sql })),
          [COLUMN]
        )
        answering.sequenceId = 0
      })
      client.on('error', () => {})
    })
    // Its types have no listen() with a host.
    const { _server: listening } = server as unknown as { _server: NetServer }
    listening.listen(0, HOST)
    await once(listening, 'listening')
    scope.defer(() => new Promise((resolve) => listening.close(resolve)))
    return { port: (listening.address() as AddressInfo).port, numClients: () => numClients }
  }

  /** At its end mysql2 says that it quits, and leaves it to the server's FIN to close its socket, which net.connect's does and a half-open one does not. */
  async function dialled(port: number): Promise<Socket> {
    const socket = await connectSocket(toHostAndPort(HOST, port), { timeout: 5_000 })
    scope.defer(() => socket.destroy())
    socket.allowHalfOpen = false
    return socket
  }

  for (const form of ['a socket', 'a function that returns one'] as const) {
    it(`as ${form}`, async () => {
      const { port, numClients } = await mysqlServer(1000)
      const socket = await dialled(port)
      const client = await createConnection({ user: 'me', password: 'secret', stream: form === 'a socket' ? socket : () => socket })
      const [rows] = await client.query("select 'a', 1")
      expect(rows).to.have.length(1000)
      expect((rows as unknown[]).at(-1)).to.deep.equal({ asked: "select 'a', 1" })
      await client.end()
      expect(numClients()).to.equal(1)
      await until(() => socket.closed)
    })
  }

  it('a pool, by a function that gives it sockets that were dialled before', async () => {
    const { port, numClients } = await mysqlServer()
    // A pool asks its function for a stream whenever it wants one, and waits for no promise: it gets those that are there.
    const sockets = await Promise.all(Array.from({ length: 3 }, () => dialled(port)))
    const unused = [...sockets]
    const pool = createPool({ user: 'me', connectionLimit: 3, stream: () => unused.pop() })
    const answers = await Promise.all(Array.from({ length: 9 }, (_, i) => pool.query(`select ${i}`)))
    expect(answers.map(([rows]) => (rows as { asked: string }[])[0]?.asked)).to.deep.equal(
      Array.from({ length: 9 }, (_, i) => `select ${i}`)
    )
    expect(numClients()).to.equal(3)
    await pool.end()
    await until(() => sockets.every((socket) => socket.closed))
  })

  it('a server that breaks off is an error of the query, and leaves nothing open', async () => {
    const isAsked = new Deferred<void>()
    await using server = await Server.create(onPortChosenByOs({ host: HOST }), async (connection) => {
      await isAsked.promise
      connection.abort()
    })
    const socket = await dialled(server.listeningOn)
    const connecting = createConnection({ user: 'me', stream: socket })
    isAsked.resolve()
    const error = await connecting.catch((error: unknown) => error)
    expect(error).to.have.property('code', 'ECONNRESET')
    await until(() => socket.closed)
  })
})

describe('ssh2 takes sockets and Duplexes of this library as they are', () => {
  const scope = useScope()
  const LOGIN = { username: 'me', password: 'secret' }
  const { privateKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
    publicKeyEncoding: { type: 'pkcs1', format: 'pem' }
  })

  /** What an ssh server does: it lets in who knows the password, and calls `exec` with each channel. */
  function sshServer(exec: (channel: ssh2.ServerChannel) => unknown): ssh2.Server {
    return new ssh2.Server({ hostKeys: [privateKey] }, (client) => {
      client.on('authentication', (context) => {
        if (context.method === 'password' && context.password === LOGIN.password) context.accept()
        else context.reject(['password'])
      })
      client.on('error', () => {})
      client.on('session', (accept) => {
        accept().on('exec', (accept) => void exec(accept()))
      })
    })
  }

  async function listening(server: ssh2.Server): Promise<number> {
    server.listen(0, HOST)
    await once(server, 'listening')
    scope.defer(() => new Promise<void>((resolve) => server.close(() => resolve())))
    return (server.address() as AddressInfo).port
  }

  async function login(sock: ConnectConfig['sock']): Promise<ssh2.Client> {
    const client = new ssh2.Client()
    const ready = once(client, 'ready')
    client.connect({ ...LOGIN, ...(sock !== undefined && { sock }) })
    await ready
    scope.defer(() => client.end())
    return client
  }

  function exec(client: ssh2.Client, command: string): Promise<ClientChannel> {
    return new Promise((resolve, reject) => {
      client.exec(command, (error, channel) => (error === undefined ? resolve(channel) : reject(error)))
    })
  }

  const echo = (channel: ssh2.ServerChannel): unknown => channel.pipe(channel)

  it('a client over connectSocket()', async () => {
    const port = await listening(sshServer(echo))
    const socket = await connectSocket(toHostAndPort(HOST, port), { timeout: 5_000 })
    const client = await login(socket)
    const channel = await exec(client, 'cat')
    channel.end('x'.repeat(1_000_000))
    expect(await text(channel)).to.have.length(1_000_000)
    client.end()
    await until(() => socket.closed)
  })

  it('a client that may not come in is told so, and its socket is closed', async () => {
    const port = await listening(sshServer(echo))
    const socket = await connectSocket(toHostAndPort(HOST, port))
    const client = new ssh2.Client()
    const failed = once(client, 'error')
    client.connect({ ...LOGIN, password: 'wrong', sock: socket })
    expect((await failed)[0]).to.have.property('level', 'client-authentication')
    await until(() => socket.closed)
  })

  it('a server behind the gate, by detach(): three clients, one slot', async () => {
    const ssh = sshServer(echo)
    let numServed = 0
    await using server = await Server.create(
      onPortChosenByOs({ host: HOST }),
      { maxConnections: 1, warnAtLimit: false },
      async (connection) => {
        numServed++
        ssh.injectSocket(await connection.detach())
      }
    )
    const where = toHostAndPort(HOST, server.listeningOn)
    const talk = async (word: string): Promise<string> => {
      const client = await login(await connectSocket(where))
      const channel = await exec(client, 'cat')
      channel.end(word)
      const answer = await text(channel)
      expect(server.numConnections).to.equal(1)
      client.end()
      return answer
    }
    expect(await Promise.all(['one', 'two', 'three'].map(talk))).to.deep.equal(['one', 'two', 'three'])
    expect(numServed).to.equal(3)
  })

  it('both ends, by toDuplex(): the connections keep their limits', async () => {
    const ssh = sshServer(echo)
    await using server = await Server.create(onPortChosenByOs({ host: HOST }), { idleTimeout: 10_000 }, async (connection) => {
      // Its types want a net.Socket; it does with any Duplex.
      ssh.injectSocket(toDuplex(connection) as never)
      await connection.closed
    })
    await using connection = await connect(toHostAndPort(HOST, server.listeningOn))
    const client = await login(toDuplex(connection))
    const channel = await exec(client, 'cat')
    channel.end('over a Duplex')
    expect(await text(channel)).to.equal('over a Duplex')
    expect(connection.reader.bytesRead).to.be.greaterThan(100)
    client.end()
    await connection.closed
  })

  it('its channels are streams by fromDuplex(): lines, limits, half-close, on both sides', async () => {
    const served: string[] = []
    const port = await listening(
      sshServer(async (channel) => {
        await using stream = fromDuplex(channel)
        for await (const line of stream.reader.lines({ maxLength: 100, timeout: 5_000 })) {
          served.push(line)
          stream.writer.write(`You said ${line}\n`)
        }
        stream.writer.write('and that was all\n')
      })
    )
    const client = await login(await connectSocket(toHostAndPort(HOST, port)))
    await using stream = fromDuplex(await exec(client, 'lines'))
    stream.writer.write('hello\nwor')
    expect(await stream.reader.readLine()).to.equal('You said hello')
    await stream.writer([Buffer.from('ld\n')])
    expect(await stream.reader.readAll()).to.satisfy(
      (bytes: Uint8Array) => Buffer.from(bytes).toString() === 'You said world\nand that was all\n'
    )
    expect(served).to.deep.equal(['hello', 'world'])
    await stream.close()
    client.end()
  })
})
