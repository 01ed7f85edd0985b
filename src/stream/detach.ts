// Giving a connection's socket to somebody else, as if nobody had read from it.

import type { Socket } from 'node:net'
import type { SocketAddress } from '../address.ts'
import { doNothing } from '../async/do-nothing.ts'
import { BusyError, ConnectionClosedError, withOrigin } from '../errors.ts'
import type { ByteConnection } from './byte-connection.ts'
import { unguard } from './guarded-socket.ts'

/** See `Connection.detach`. */
export async function detach(connection: ByteConnection<SocketAddress>): Promise<Socket> {
  checkUnused(connection)
  if (connection.transport.release === undefined) throw new TypeError('Cannot detach as the connection has no socket of its own')
  while (!connection.outgoing.isIdle) {
    await connection.outgoing.flushed()
    // Whatever began meanwhile.
    checkUnused(connection)
  }
  if (connection.transport.isDestroyed) {
    // The socket has failed, and is about to say of what.
    await connection.closed
    checkUnused(connection)
  }
  // The carrier may have something to tell yet when it is asked for its socket.
  unguard(connection.socket)
  const unread = connection.incoming.takeUnread()
  connection.markDetached()
  const socket = connection.transport.release(unread)
  guardUntilOwned(socket)
  return socket.once('close', () => connection.released())
}

/** Ends a connection at once, whoever has its socket: what a server does when its patience is over. */
export function cutOff(connection: ByteConnection<SocketAddress>): void {
  if (connection.state === 'detached') resetOrDestroy(connection.socket)
  else connection.abort()
}

function checkUnused(connection: ByteConnection<SocketAddress>): void {
  const { incoming, outgoing, state } = connection
  const broken = incoming.brokenBy ?? outgoing.refusal('detach')
  if (broken !== undefined) throw broken
  if (state !== 'open') throw withOrigin(new ConnectionClosedError('Cannot detach as the connection is closed'), connection)
  if (incoming.isBusy) throw withOrigin(new BusyError('Cannot detach as a read of this connection is pending'), connection)
  if (outgoing.pump !== undefined) throw withOrigin(new BusyError('Cannot detach as a source is being written'), connection)
}

// Whoever has it is told by its 'close'.
function resetOrDestroy(socket: Socket): void {
  // While shutdown(2) is pending, libuv refuses to reset and the descriptor would be lost.
  if (socket.writableEnded && !socket.writableFinished) {
    socket.destroy()
    return
  }
  try {
    socket.resetAndDestroy()
  } catch {
    // A unix socket, or TLS: ERR_INVALID_HANDLE_TYPE.
    socket.destroy()
  }
}

// The new owner may have to wait for something else before it listens: until then a client that resets must not end the process.
function guardUntilOwned(socket: Socket): void {
  const onNewListener = (event: string | symbol): void => {
    if (event === 'error') socket.off('newListener', onNewListener).off('error', doNothing)
  }
  socket.on('error', doNothing).on('newListener', onNewListener)
}
