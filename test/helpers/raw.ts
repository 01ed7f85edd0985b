// Foreign peers: plain `node:net` sockets, so that the library is never tested against itself alone.

import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, createConnection, createServer, type Server, type Socket } from 'node:net'
import type { Scope } from './scope.ts'

/** A port of 127.0.0.1, or the path of a unix socket. */
export type Target = number | string

export interface RawServer {
  /** Where clients find it: its port, or its path. */
  readonly target: Target
  readonly server: Server
  /** The next client, in the order of arrival. */
  accept(): Promise<Socket>
}

/** Listens on a port that the system chooses, or on `path`. Sockets are paused and may be half-open. */
export async function rawServer(scope: Scope, path?: string): Promise<RawServer> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true })
  const arrived: Socket[] = []
  const waiting: ((socket: Socket) => void)[] = []
  server.on('connection', (socket) => {
    closeAtEnd(scope, socket)
    const resolve = waiting.shift()
    if (resolve === undefined) arrived.push(socket)
    else resolve(socket)
  })
  server.listen(path ?? { port: 0, host: '127.0.0.1' })
  await once(server, 'listening')
  scope.defer(() => new Promise((resolve) => server.close(resolve)))
  return {
    server,
    target: path ?? (server.address() as AddressInfo).port,
    accept() {
      const socket = arrived.shift()
      return socket === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(socket)
    }
  }
}

/** Connects to `target`. The socket is paused and may be half-open. */
export async function rawClient(scope: Scope, target: Target): Promise<Socket> {
  const socket = dial(target)
  closeAtEnd(scope, socket)
  await once(socket, 'connect')
  return socket
}

/** Two ends of one connection, over TCP or over a unix socket at `path`. */
export async function rawPair(scope: Scope, path?: string): Promise<[client: Socket, server: Socket]> {
  const server = await rawServer(scope, path)
  return [await rawClient(scope, server.target), await server.accept()]
}

/** Connects, sends `data` and resets the connection. Resolves when it is gone. TCP only: a unix socket knows no reset. */
export async function resettingClient(port: number, data: Uint8Array | string = ''): Promise<void> {
  const socket = dial(port)
  socket.on('error', () => {})
  await once(socket, 'connect')
  if (data.length > 0) await new Promise((resolve) => socket.write(data, resolve))
  socket.resetAndDestroy()
  if (!socket.closed) await once(socket, 'close')
}

/** A port on which nobody listens, below those that systems choose from: no other test is given it by chance before this one is done with it. */
export async function closedPort(): Promise<number> {
  const port = randomInt(10_000, 32_768)
  const server = createServer()
  const isFree = await new Promise<boolean>((resolve) => {
    server.on('error', () => resolve(false)).listen(port, () => server.close(() => resolve(true)))
  })
  return isFree ? port : await closedPort()
}

/** Everything that comes until the peer's FIN; rejects on a reset. The socket stays open for writing. */
export async function readToEnd(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  // One that speaks TLS reads an end although it is paused.
  const isOver = socket.readableEnded
  socket.on('data', (chunk: Buffer) => chunks.push(chunk)).resume()
  if (!isOver) await once(socket, 'end')
  return Buffer.concat(chunks)
}

function dial(target: Target): Socket {
  const options = { allowHalfOpen: true }
  const where = typeof target === 'string' ? { path: target } : { port: target, host: '127.0.0.1' }
  return createConnection({ ...options, ...where }).pause()
}

/** Destroys `socket` when the test ends. An error that no test waits for is no failure: the peer under test may reset as it likes. */
export function closeAtEnd(scope: Scope, socket: Socket): void {
  socket.on('error', () => {})
  scope.defer(async () => {
    socket.destroy()
    if (!socket.closed) await once(socket, 'close')
  })
}
