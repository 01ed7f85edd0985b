// A connection knows the kind of its addresses.

import type { Socket } from 'node:net'
import { pipe } from 'it-pipe'
import type { Duplex, Sink, Source } from 'it-stream-types'
import {
  type Chunk,
  type Connection,
  type ConnectOptions,
  connect,
  connectSocket,
  type InetAddress,
  ItTcpError,
  isPeerError,
  type Reader,
  type SocketAddress,
  toFile,
  toHostAndPort,
  type UnixAddress,
  type Writer,
  withConnection
} from 'it-tcp'
import type { Uint8ArrayList } from 'uint8arraylist'
import { same } from './same.ts'

declare const condition: boolean
declare const overSomething: Connection
const host = toHostAndPort('localhost', 80)
const file = toFile('/run/app.sock')

// the kind of address goes all the way
const overTcp = await connect(host, { timeout: 5_000, signal: AbortSignal.timeout(1_000) })
const overUnix = await connect(file)
same<Connection<InetAddress>, typeof overTcp>()
same<Connection<UnixAddress>, typeof overUnix>()
same<InetAddress, typeof overTcp.remoteAddress>()
same<UnixAddress, typeof overUnix.localAddress>()
overTcp satisfies Connection
overUnix satisfies Connection<SocketAddress>
// @ts-expect-error the connection is a unix socket
overUnix satisfies Connection<InetAddress>
// @ts-expect-error the connection is a TCP socket
overTcp satisfies Connection<UnixAddress>
// @ts-expect-error a connection of either kind is not known to be of one
overSomething satisfies Connection<InetAddress>
// @ts-expect-error an internet address has no path
overTcp.remoteAddress.path

// which kind it is may be decided at run time
const either = await connect(condition ? file : host)
either.remoteAddress satisfies SocketAddress
either satisfies Connection

// the function of withConnection gets the same connection, and its result is the result
same<number, Awaited<ReturnType<typeof one>>>()
async function one(): Promise<number> {
  return await withConnection(host, async (connection) => {
    same<Connection<InetAddress>, typeof connection>()
    return 1
  })
}
const text = await withConnection(file, { timeout: 5_000, idleTimeout: 1_000 }, ({ remoteAddress }) => remoteAddress.path)
same<string, typeof text>()
same<string | null, typeof line>()
const line = await withConnection(condition ? file : host, ({ reader }) => reader.readLine())

// options
const options: ConnectOptions = { readerBufferSize: 1, bufferAgeLimit: Number.POSITIVE_INFINITY, keepAlive: false }
same<Promise<Socket>, ReturnType<typeof connectSocket>>()
await connectSocket(host, { timeout: 1 })
// @ts-expect-error timeout is a number
await connect(host, { timeout: '5s' })
// @ts-expect-error no such option
await connect(host, { timeOut: 5_000 })
// @ts-expect-error true is no duration
options.keepAlive = true
// @ts-expect-error a path is not where to connect
await connect('/run/app.sock')
// @ts-expect-error a function is needed
await withConnection(host, { timeout: 1 })

// what is read
const { reader, writer } = overTcp
same<Reader, typeof reader>()
same<Writer, typeof writer>()
same<Uint8Array<ArrayBuffer> | null, Awaited<ReturnType<Reader['read']>>>()
for await (const chunk of reader) chunk satisfies Uint8Array
await crypto.subtle.digest('SHA-256', await reader.readAll({ maxLength: 1_000 }))
new Blob([await reader.readAll()])
same<number | null, Awaited<ReturnType<Reader['readInto']>>>()
for await (const each of reader.lines())
  each satisfies string
  // @ts-expect-error the end is null: it has to be looked at
;(await reader.read()).length
// @ts-expect-error the reader is not replaced
overTcp.reader = overUnix.reader

// what is written
declare const list: Uint8ArrayList
writer.write('text')
writer.write(new Uint8Array())
writer.write(list)
new Uint8Array() satisfies Chunk
writer.bufferAgeLimit = 1
await writer([new Uint8Array(), list])
await writer.writeAll(reader)
// @ts-expect-error numbers are no bytes
writer.write(42)
// @ts-expect-error nor is null
writer.write(null)
await writer(['text'])
// @ts-expect-error a sink takes no numbers
await writer([42])

// it-pipe's streams
overTcp satisfies Duplex<Source<Uint8Array>, Source<Uint8Array>, Promise<void>>
reader satisfies Source<Uint8Array>
writer satisfies Sink<Source<Uint8Array>, Promise<void>>
await pipe(reader, writer)
await pipe(overTcp, overTcp)
await pipe(overTcp, overUnix, overTcp)
await pipe(
  overTcp,
  async function* (source) {
    for await (const chunk of source) {
      chunk satisfies Uint8Array
      yield chunk.subarray(1)
    }
  },
  overTcp
)

// what went wrong is told apart by class, or by whose fault it is
const fault: unknown = condition
isPeerError(fault) satisfies boolean
if (fault instanceof ItTcpError) fault.code satisfies string
await withConnection(host, { linger: 0, forceAfter: 1_000 }, () => {})
// @ts-expect-error lingering is how it closes, not how it connects
await connect(host, { linger: 0 })
// @ts-expect-error it is the class of errors, and none itself
new ItTcpError('x')
