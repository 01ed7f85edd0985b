// Giving a connection's socket to somebody else, as if nobody had read from it.

import type { Socket } from 'node:net'
import type { SocketAddress } from '../address.ts'
import { BusyError, ConnectionClosedError, withOrigin } from '../errors.ts'
import type { ByteConnection } from './byte-connection.ts'

/** See `Connection.detach`. */
export async function detach(connection: ByteConnection<SocketAddress>): Promise<Socket> {
  checkUnused(connection)
  await connection.outgoing.flushed()
  // Whatever began meanwhile.
  checkUnused(connection)
  const { transport } = connection
  if (transport.release === undefined) throw new TypeError('Cannot detach as the connection has no socket of its own')
  const unread = connection.incoming.takeUnread()
  connection.markDetached()
  const socket = transport.release(unread)
  socket.once('close', () => connection.released())
  return socket
}

function checkUnused(connection: ByteConnection<SocketAddress>): void {
  const { incoming, outgoing, state } = connection
  const broken = incoming.brokenBy ?? outgoing.refusal('detach')
  if (broken !== undefined) throw broken
  if (state !== 'open') throw withOrigin(new ConnectionClosedError('Cannot detach as the connection is closed'), connection)
  if (incoming.isBusy) throw withOrigin(new BusyError('Cannot detach as a read of this connection is pending'), connection)
  if (outgoing.pump !== undefined) throw withOrigin(new BusyError('Cannot detach as a source is being written'), connection)
}
