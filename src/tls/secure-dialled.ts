// The handshake of a client that has just dialled: within the deadline of the whole attempt.

import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { formatAddress, type HostAndPort, type SocketAddress } from '../address.ts'
import { now } from '../async/clock.ts'
import { ConnectTimeoutError } from '../errors.ts'
import type { ByteConnection } from '../stream/byte-connection.ts'
import { nodeTls } from '../system/node-tls.ts'
import type { ClientTerms } from './client-options.ts'
import { ClientHandshake } from './handshake.ts'
import { clientChainError } from './secure-stream.ts'
import { startTls } from './start-tls.ts'
import { handshakeError } from './tls-error.ts'

type Target = SocketAddress | HostAndPort

interface Limits {
  readonly timeout: number
  readonly signal: AbortSignal | undefined
}

/** Goes on in TLS on a connection to `target` that was dialled since `startedAt`, by the clock of `performance.now()`. */
export async function secureDialled(
  machine: ByteConnection<SocketAddress>,
  terms: ClientTerms,
  target: Target,
  { timeout, signal }: Limits,
  startedAt: number
): Promise<void> {
  const prepare = (): ClientHandshake => new ClientHandshake(terms, portOf(target))
  await startTls(machine, prepare, { timeout: rest(timeout, startedAt), signal, late: () => new ConnectTimeoutError(target, timeout) })
}

/** The same for a socket that is to be an ordinary one: by documented means only, and nothing of ours is left on it. Somebody else has an eye on the time. */
export function secureSocket(socket: Socket, terms: ClientTerms, target: Target): Promise<TLSSocket> {
  const handshake = new ClientHandshake(terms, portOf(target))
  const { options, askFor } = handshake
  return new Promise((resolve, reject) => {
    const tls = nodeTls().connect({
      ...options,
      socket,
      rejectUnauthorized: false,
      // It is checked below, where the name is known in its normal form.
      checkServerIdentity: () => undefined,
      servername: askFor ?? ''
    })
    tls.on('secureConnect', onSecure).on('error', onError).on('close', onClose)

    function onSecure(): void {
      try {
        tls.authorized = handshake.conclude({ socket: tls, chainError: () => clientChainError(tls) }).isAuthorized
      } catch (error) {
        fail(handshakeError(formatAddress(target), error as Error))
        return
      }
      leave()
      resolve(tls)
    }

    function onError(error: Error): void {
      fail(handshakeError(formatAddress(target), error))
    }

    function onClose(): void {
      onError(new Error('the peer ended the connection during the handshake'))
    }

    function fail(reason: unknown): void {
      leave()
      // An error may be on its way.
      tls.on('error', () => {})
      tls.destroy()
      socket.destroy()
      reject(reason)
    }

    function leave(): void {
      tls.off('secureConnect', onSecure).off('error', onError).off('close', onClose)
    }
  })
}

function rest(timeout: number, startedAt: number): number {
  return Math.max(1, timeout - (now() - startedAt))
}

function portOf(target: Target): number | string {
  return 'port' in target ? target.port : target.path
}
