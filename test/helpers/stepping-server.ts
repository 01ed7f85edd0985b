// Servers with steps between accept and handler that a test holds in its hand.

import type { InetAddress, SocketAddress } from '../../src/address.ts'
import { Deferred } from '../../src/async/deferred.ts'
import { connectionSettings } from '../../src/options.ts'
import type { HandlerErrorPolicy } from '../../src/server/handler-errors.ts'
import { ListeningServer, type ListeningServerInit } from '../../src/server/listening-server.ts'
import { GatedListener } from '../../src/server/listening-socket.ts'
import type { Step } from '../../src/server/steps.ts'
import { type Server, serverOver } from '../../src/server.ts'
import type { ByteConnection } from '../../src/stream/byte-connection.ts'
import { onPort } from '../../src/where-to-listen.ts'
import type { Scope } from './scope.ts'
import type { Handler } from './settings.ts'

export interface SteppingOptions extends Partial<Pick<ListeningServerInit, 'admit' | 'maxConnections' | 'maxConnectionsPerAddress'>> {
  handler?: Handler
  policy?: HandlerErrorPolicy
  before?: readonly Step[]
  after?: readonly Step[]
  handshakeTimeout?: number
}

/** A TCP server whose clients take the steps given. It is closed when the test ends. */
export async function steppingServer(scope: Scope, options: SteppingOptions): Promise<Server<InetAddress, number>> {
  const { handler, policy = 'raise', before = [], after = [], handshakeTimeout = Number.POSITIVE_INFINITY } = options
  let machine: ListeningServer | undefined
  const socket = await GatedListener.bind(onPort(0, { host: '127.0.0.1' }), {
    backlog: 511,
    keepAlive: false,
    onAccept: (client) => machine?.arrived(client)
  })
  machine = new ListeningServer({
    socket: socket as GatedListener,
    settings: connectionSettings('', {}),
    listeningOn: socket.address.port,
    maxConnections: options.maxConnections ?? 100,
    warnAtLimit: false,
    handler: handler as ((connection: never) => unknown) | undefined,
    policy,
    signal: undefined,
    admit: options.admit,
    maxConnectionsPerAddress: options.maxConnectionsPerAddress,
    stepsBeforeAdmission: before,
    stepsAfterAdmission: after,
    handshakeTimeout
  })
  const server = serverOver<InetAddress, number>(machine)
  scope.defer(() => server.close({ closeExistingConnections: true }))
  return server
}

/** A step that reads a line and passes if it says so; otherwise it throws what it read. It settles when the connection is closed. */
export function lineStep(name: Step['name'], word: string): Step {
  return {
    name,
    async run(connection) {
      const line = await connection.reader.readLine()
      if (line !== word) throw new Error(`said ${line}`)
    }
  }
}

/** A step that waits until the test lets a client pass. */
export interface ManualStep extends Step {
  /** Those that wait, in the order of their arrival. */
  readonly waiting: { readonly connection: ByteConnection<SocketAddress>; readonly gate: Deferred }[]
}

export function manualStep(name: Step['name'] = 'handshake'): ManualStep {
  const waiting: { connection: ByteConnection<SocketAddress>; gate: Deferred }[] = []
  return {
    name,
    waiting,
    async run(connection) {
      const gate = new Deferred()
      connection.closed.then(() => gate.reject(new Error('closed meanwhile')))
      waiting.push({ connection, gate })
      await gate.promise
    }
  }
}
