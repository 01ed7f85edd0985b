import { expect } from 'chai'
import {
  ConnectError,
  type Connection,
  ConnectionResetError,
  ConnectTimeoutError,
  connect,
  connectSocket,
  consumerPool,
  ListenError,
  listen,
  Server,
  withConnection
} from '../../src/index.ts'
import { MemoryNetwork } from '../../src/testing.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { turns, until } from '../helpers/until.ts'

describe('a network in memory, with servers and clients of the library', () => {
  const scope = useScope()
  // Aborted when the test ends: nobody waits for an end that does not come.
  const held = (connection: Connection): Connection => {
    scope.defer(() => connection.abort())
    return connection
  }

  it('serves clients as sockets do, on the port that is asked for', async () => {
    const network = new MemoryNetwork()
    const server = scope.open(await Server.create(network.onPort(7), ({ reader, writer }) => writer(reader)))
    expect([server.listeningOn, server.acceptGate]).to.deep.equal([7, 'kernel'])
    const reply = await withConnection(network.toHostAndPort('echo', 7), async ({ reader, writer, remoteAddress, localAddress }) => {
      expect(remoteAddress).to.deep.equal({ family: 'IPv4', address: '10.0.0.1', port: 7 })
      expect(localAddress.address).to.equal('127.0.0.1')
      writer.write('hello\n')
      return await reader.readLine()
    })
    expect(reply).to.equal('hello')
    await server.close()
    await server.finished
    expect(network.open).to.deep.equal([])
  })

  it('lets a client say where it comes from, which policies see', async () => {
    const network = new MemoryNetwork()
    const server = scope.open(await listen(network.onPort(7), { admit: (address) => address.address !== '10.9.9.9' }))
    const accepted = server.accept()
    const from = (localAddress: string) => connect(network.toHostAndPort('mx', 7, { localAddress, localPort: 1234 }))
    const refused = await from('10.9.9.9')
    expect(await rejection(refused.reader.read())).to.be.instanceOf(ConnectionResetError)
    held(await from('10.9.9.8'))
    expect((await accepted).remoteAddress).to.deep.equal({ family: 'IPv4', address: '10.9.9.8', port: 1234 })
    expect(server.statistics()).to.deep.include({ accepted: 2, turnedAway: { admit: 1, perAddress: 0, proxyHeader: 0, handshake: 0 } })
    held(await accepted)
  })

  it('chooses a port for 0, another one each time', async () => {
    const network = new MemoryNetwork()
    const servers = [scope.open(await listen(network.onPort(0))), scope.open(await listen(network.onPort(0)))]
    expect(servers.map(({ listeningOn }) => listeningOn)).to.deep.equal([49_152, 49_153])
    expect(network.open).to.deep.equal(['server on 0.0.0.0:49152', 'server on 0.0.0.0:49153'])
  })

  it('listens on all hosts, or on the one that is named', async () => {
    const network = new MemoryNetwork()
    const all = scope.open(await listen(network.onPort(1)))
    const named = scope.open(await listen(network.onPort(2, { host: 'mx' })))
    for (const [server, host, port] of [
      [all, 'mx', 1],
      [all, 'www', 1],
      [named, 'mx', 2]
    ] as const) {
      const accepted = server.accept()
      held(await connect(network.toHostAndPort(host, port)))
      held(await accepted)
    }
    expect(await rejection(connect(network.toHostAndPort('www', 2)))).to.be.instanceOf(ConnectError)
  })

  it('refuses a port that is in use as the system does, until its server has closed', async () => {
    const network = new MemoryNetwork()
    const first = await listen(network.onPort(7))
    const error = (await rejection(listen(network.onPort(7, { host: 'mx' })))) as ListenError
    expect(error).to.be.instanceOf(ListenError)
    expect(error.message).to.equal('Cannot listen on 10.0.0.1:7: address already in use')
    expect(error.cause).to.include({ code: 'EADDRINUSE', syscall: 'listen' })
    await first.close()
    await (await listen(network.onPort(7, { host: 'mx' }))).close()
  })

  it('refuses clients where nobody listens', async () => {
    const network = new MemoryNetwork()
    const error = (await rejection(connect(network.toHostAndPort('mx', 25)))) as ConnectError
    expect(error).to.be.instanceOf(ConnectError)
    expect(error.message).to.equal('Cannot connect to mx:25: connection refused')
    expect(error.cause).to.include({ code: 'ECONNREFUSED', syscall: 'connect' })
    expect(network.open).to.deep.equal([])
  })

  it('has a backlog that is exact: a further client waits for its timeout', async () => {
    const network = new MemoryNetwork()
    const server = scope.open(await listen(network.onPort(7), { backlog: 2 }))
    for (const _ of [1, 2]) held(await connect(network.toHostAndPort('mx', 7)))
    const error = await rejection(connect(network.toHostAndPort('mx', 7), { timeout: 20 }))
    expect(error).to.be.instanceOf(ConnectTimeoutError)
    const late = connect(network.toHostAndPort('mx', 7))
    await turns()
    expect(server.statistics().waiting).to.equal(2)
    held(await server.accept())
    held(await late)
    expect(server.statistics().waiting).to.equal(2)
  })

  it('lets a client that waits give up by its signal, and loses nobody else', async () => {
    const network = new MemoryNetwork()
    const server = scope.open(await listen(network.onPort(7), { backlog: 1 }))
    held(await connect(network.toHostAndPort('mx', 7)))
    const controller = new AbortController()
    const given = rejection(connect(network.toHostAndPort('mx', 7), { signal: controller.signal }))
    await turns()
    const waiting = connect(network.toHostAndPort('mx', 7))
    controller.abort('enough')
    expect(await given).to.equal('enough')
    held(await server.accept())
    held(await waiting)
    held(await server.accept())
  })

  it('refuses those who wait, and resets those in the queue, when the server closes', async () => {
    const network = new MemoryNetwork()
    const server = await listen(network.onPort(7), { backlog: 1 })
    const queued = await connect(network.toHostAndPort('mx', 7))
    const waiting = rejection(connect(network.toHostAndPort('mx', 7)))
    await turns()
    await server.close()
    expect(await rejection(queued.reader.read())).to.be.instanceOf(ConnectionResetError)
    expect(((await waiting) as ConnectError).cause).to.include({ code: 'ECONNREFUSED' })
    await queued.closed
    await until(() => network.open.length === 0)
  })

  it('holds the limit of connections: the others wait in the queue', async () => {
    const network = new MemoryNetwork()
    let most = 0
    const server = scope.open(
      await Server.create(network.onPort(7), { maxConnections: 3, warnAtLimit: false }, async ({ reader, writer }) => {
        most = Math.max(most, server.numConnections)
        await writer(reader)
      })
    )
    const replies = await Promise.all(
      Array.from({ length: 50 }, (_, number) =>
        withConnection(network.toHostAndPort('echo', 7), async ({ reader, writer }) => {
          writer.write(`${number}\n`)
          return await reader.readLine()
        })
      )
    )
    expect(replies).to.deep.equal(Array.from({ length: 50 }, (_, number) => `${number}`))
    expect(most).to.equal(3)
    server.invariant()
  })

  it('never delivers a client that reset while it was queued', async () => {
    const network = new MemoryNetwork()
    const server = scope.open(await listen(network.onPort(7)))
    const gone = await connect(network.toHostAndPort('mx', 7))
    gone.abort()
    await gone.closed
    const alive = held(await connect(network.toHostAndPort('mx', 7)))
    const accepted = held(await server.accept())
    expect(accepted.remoteAddress).to.deep.equal(alive.localAddress)
    await until(() => network.open.length === 3)
  })

  it('works with a pool over a server', async () => {
    const network = new MemoryNetwork()
    const server = await listen(network.onPort(7))
    const serving = consumerPool(server, 2, ({ reader, writer }) => writer(reader))
    const client = await connect(network.toHostAndPort('echo', 7))
    client.writer.write('x')
    expect((await client.reader.read())?.byteLength).to.equal(1)
    await client.close()
    await server.close()
    await serving
    expect(network.open).to.deep.equal([])
  })

  it('has links under connections of servers, which either side gives', async () => {
    const network = new MemoryNetwork()
    const server = scope.open(
      await Server.create(network.onPort(7), { onHandlerError: 'ignore' }, async ({ reader, writer }) => {
        for await (const line of reader.lines()) writer.write(`${line}!\n`)
      })
    )
    const client = await connect(network.toHostAndPort('mx', 7))
    const link = network.link(client)
    expect(() => network.link([...server.connections][0] as never)).to.not.throw()
    link.hold('toClient')
    client.writer.write('a\n')
    await turns()
    expect(client.reader.bytesRead).to.equal(0)
    link.release()
    expect(await client.reader.readLine()).to.equal('a!')
    link.reset()
    expect(await rejection(client.reader.readLine())).to.be.instanceOf(ConnectionResetError)
  })

  it('has no socket for connectSocket', async () => {
    const network = new MemoryNetwork()
    expect(String(await rejection(connectSocket(network.toHostAndPort('mx', 7))))).to.match(
      /^TypeError: Cannot connect as 'where' has no socket/
    )
  })

  it('refuses what is wrong, quoting it', () => {
    const network = new MemoryNetwork()
    expect(() => new MemoryNetwork({ capacity: 1.5 })).to.throw(RangeError, /'capacity' must be .*received 1.5/)
    expect(() => network.onPort(-1)).to.throw(RangeError, /'port' must be .*received -1/)
    expect(() => network.onPort(1, { host: 7 as never })).to.throw(TypeError, /'host' must be .*received 7/)
    expect(() => network.onPort(1, 'mx' as never)).to.throw(TypeError, /'options' must be .*received 'mx'/)
    expect(() => network.toHostAndPort('', 1)).to.throw(RangeError, /'host'/)
    expect(() => network.toHostAndPort('mx', 0)).to.throw(RangeError, /'port' must be .*received 0/)
  })
})
