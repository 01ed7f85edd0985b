// STARTTLS: the same connection goes on in TLS.
//
// What arrived and was not read is the handshake's, and so is what arrives from now on. What was written before leaves in clear, first; what is
// written meanwhile is held until the peer is verified.

import { formatAddress, type SocketAddress } from '../address.ts'
import { onceAborted, throwIfAborted } from '../async/abort.ts'
import { startTimer } from '../async/timer.ts'
import { BusyError, ConnectionClosedError, HandshakeTimeoutError, withOrigin } from '../errors.ts'
import { checkDuration, checkOptions, checkSignal, DEFAULT_HANDSHAKE_TIMEOUT, DEFAULT_TIMEOUT } from '../options.ts'
import type { ByteConnection } from '../stream/byte-connection.ts'
import type { Upgrade } from '../stream/connection-init.ts'
import type { TlsClientOptions } from '../tls.ts'
import { clientTerms } from './client-options.ts'
import { isTlsContext } from './context.ts'
import { ClientHandshake } from './handshake.ts'
import { Reservation } from './reservation.ts'
import { greet } from './server-hello.ts'
import { failureOf, type Prepare, shakeHands } from './shake-hands.ts'
import { handshakeError } from './tls-error.ts'

const ACTION = 'Cannot start TLS'

type Machine = ByteConnection<SocketAddress>

/** That a connection can start TLS. `host` is what was dialled, if that was a name or an address. */
export function upgradeTo(host: string | undefined, handshakeTimeout = DEFAULT_HANDSHAKE_TIMEOUT): Upgrade<Machine> {
  return {
    async startTls(machine, options, limits = {}) {
      checkOptions(ACTION, limits)
      const isServer = isTlsContext(options)
      const { timeout = isServer ? handshakeTimeout : DEFAULT_TIMEOUT, signal } = limits
      checkDuration(ACTION, 'timeout', timeout)
      checkSignal(ACTION, signal)
      const prepare = isServer ? greet(options) : clientOf(machine, options, host)
      checkUnused(machine)
      throwIfAborted(signal)
      await startTls(machine, prepare, { timeout, signal, late: () => lateError(machine, timeout) })
    }
  }
}

/** How long a handshake may take. */
export interface HandshakeLimits {
  /** Milliseconds; `Infinity` where somebody else has an eye on it. */
  readonly timeout: number
  readonly signal: AbortSignal | undefined
  /** What is told if it takes longer. */
  readonly late: () => Error
}

/** Goes on in TLS, or rejects and aborts the connection. */
export async function startTls(machine: Machine, prepare: Prepare, { timeout, signal, late }: HandshakeLimits): Promise<void> {
  const { incoming, outgoing } = machine
  let ended: { readonly reason: unknown } | undefined
  const end = (reason: unknown): void => {
    ended ??= { reason }
    machine.abort(reason)
  }
  const stopTimer = startTimer(timeout, () => end(late()))
  const unhook = onceAborted(signal, end)
  const reservation = new Reservation(incoming)
  try {
    const held = outgoing.hold()
    if (outgoing.isFailed || !outgoing.isIdle) await held
    const early: Uint8Array[] = []
    const handshake = await prepare(machine, reservation, early)
    if (incoming.isOver) throw incoming.brokenBy ?? handshakeError(peerOf(machine), new Error('the peer ended the connection'))
    await shakeHands(machine, handshake, early)
    outgoing.goOn()
  } catch (error) {
    const reason = ended === undefined ? failureOf(machine, error) : ended.reason
    machine.abort(reason)
    throw reason
  } finally {
    reservation.end()
    stopTimer()
    unhook()
  }
}

function clientOf(machine: Machine, options: TlsClientOptions | true, host: string | undefined): Prepare {
  const { remoteAddress } = machine.init
  const terms = clientTerms(ACTION, options, host, 'options')
  return () => new ClientHandshake(terms, 'port' in remoteAddress ? remoteAddress.port : remoteAddress.path)
}

function checkUnused(machine: Machine): void {
  const { incoming, outgoing, transport, state } = machine
  const busy = (why: string): BusyError => withOrigin(new BusyError(`${ACTION} as ${why}`), machine)
  if (transport.tls !== undefined) throw busy('the connection speaks TLS already')
  const broken = incoming.brokenBy ?? outgoing.refusal('start TLS')
  if (broken !== undefined) throw broken
  if (state !== 'open') throw withOrigin(new ConnectionClosedError(`${ACTION} as the connection is closed`), machine)
  if (incoming.isOver) throw withOrigin(new ConnectionClosedError(`${ACTION} as the peer has ended the connection`), machine)
  if (incoming.isBusy) throw busy('a read of this connection is pending')
  if (outgoing.pump !== undefined) throw busy('a source is being written')
}

function lateError(machine: Machine, timeout: number): HandshakeTimeoutError {
  return withOrigin(new HandshakeTimeoutError(`The handshake with ${peerOf(machine)} took longer than ${timeout} ms`), machine)
}

function peerOf(machine: Machine): string {
  return formatAddress(machine.init.remoteAddress)
}
