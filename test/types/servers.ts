// A server knows what it listens on and which connections it gives.

import { pipe } from 'it-pipe'
import {
  type Connection,
  consumerPool,
  type InetAddress,
  type InetServer,
  type ListenOptions,
  listen,
  onFile,
  onFileDescriptor,
  onPort,
  Server,
  type ServerOptions,
  type SocketAddress,
  type UnixAddress,
  type UnixServer,
  WhereToListen
} from 'it-tcp'
import { same } from './same.ts'

declare const options: ListenOptions

// listeningOn is a number for a port, a string for a file
const onTcp = await listen(onPort(0), { maxConnections: 1, backlog: 1 })
const onUnix = await Server.create(onFile('/run/app.sock'), async ({ remoteAddress }) => {
  same<UnixAddress, typeof remoteAddress>()
})
same<number, typeof onTcp.listeningOn>()
same<string, typeof onUnix.listeningOn>()
same<InetAddress, typeof onTcp.address>()
same<UnixAddress, typeof onUnix.address>()
same<InetServer, typeof onTcp>()
same<UnixServer, typeof onUnix>()
same<InetServer, Server<InetAddress, number>>()
onUnix satisfies Server<SocketAddress, string>
// @ts-expect-error the server listens on a file
onUnix satisfies InetServer
// @ts-expect-error the server listens on a port
onTcp satisfies UnixServer
// @ts-expect-error a port is a number
onTcp.listeningOn satisfies string

// which kind it is may be decided at run time
declare const condition: boolean
const either = await listen<SocketAddress, string | number>(condition ? onPort(0) : onFile('/run/app.sock'))
same<string | number, typeof either.listeningOn>()
const inherited = await listen(onFileDescriptor(3))
same<SocketAddress, typeof inherited.listeningOn>()
const custom = await listen(WhereToListen.create({ address: onTcp.address, listeningOn: ({ port }) => new Map([[port, 'mine']]) }))
same<Map<number, string>, typeof custom.listeningOn>()

// connections
for await (const connection of onTcp) same<Connection<InetAddress>, typeof connection>()
same<Connection<UnixAddress>, Awaited<ReturnType<UnixServer['accept']>>>()
for await (await using connection of await listen(onPort(0))) connection.remoteAddress.port satisfies number

// pools
await consumerPool(onTcp, 100, (connection) => same<Connection<InetAddress>, typeof connection>())
await pipe(
  onTcp,
  consumerPool(100, async (connection: Connection) => {
    connection.remoteAddress satisfies SocketAddress
  })
)
await pipe(
  onTcp,
  async function* (source) {
    for await (const connection of source) yield { connection, user: 'ada' }
  },
  consumerPool(100, ({ user }: { user: string }) => user.length)
)
// @ts-expect-error a pool needs a handler
await consumerPool(onTcp, 100)
// @ts-expect-error a handler of the other kind
await consumerPool(onTcp, 100, (_connection: Connection<UnixAddress>) => {})

// handler errors
const server = await Server.create(
  onPort(0),
  {
    maxConnections: 100,
    onHandlerError(address, error) {
      same<InetAddress, typeof address>()
      same<unknown, typeof error>()
    }
  },
  ({ reader, writer }) => pipe(reader, writer)
)
server.maxConnections = 1
server.dropIncomingConnections = true
same<'kernel' | 'userland', typeof server.acceptGate>()
const raise: ServerOptions<InetAddress> = { ...options, onHandlerError: 'raise' }
await Server.create(onPort(0), raise, () => {})
// @ts-expect-error no such policy
await Server.create(onPort(0), { onHandlerError: 'retry' }, () => {})
// @ts-expect-error only Server.create has handlers
await listen(onPort(0), { onHandlerError: 'raise' })
// @ts-expect-error a handler is needed
await Server.create(onPort(0), { maxConnections: 1 })
// @ts-expect-error it is counted, not set
server.numConnections = 0
// @ts-expect-error servers are made by listen and Server.create
new Server()
