// Starts a server: all checks first, then bind and listen.

import { inspect } from 'node:util'
import type { SocketAddress } from '../address.ts'
import {
  checkBoolean,
  checkCount,
  checkDuration,
  checkFunction,
  checkMaxLength,
  checkOptions,
  checkSignal,
  connectionSettings,
  DEFAULT_BACKLOG,
  DEFAULT_HANDSHAKE_TIMEOUT,
  keepAliveSeconds,
  type ListenOptions
} from '../options.ts'
import { descriptorLimit } from '../system/descriptors.ts'
import { userTimeoutFor } from '../system/socket-facts.ts'
import { checkTlsContext } from '../tls/context.ts'
import { secureAccepted } from '../tls/secure-accepted.ts'
import type { WhereToListen } from '../where-to-listen.ts'
import type { HandlerErrorPolicy } from './handler-errors.ts'
import { ListeningServer, type ListeningServerInit } from './listening-server.ts'
import { type Accepted, GatedListener } from './listening-socket.ts'
import { proxyStep } from './proxy-step.ts'
import type { AnyHandler } from './standing-handler.ts'

const ACTION = 'Cannot listen'
/** Of the descriptors, so that the process has some for files, name resolution and its own connections. */
const SHARE_OF_DESCRIPTORS = 0.9
/** When not even the system tells: the usual soft limit. */
const COMMON_DESCRIPTOR_LIMIT = 1024

/**
 * Binds and listens at `where`. Nothing is accepted until the machine is started.
 *
 * @throws {ListenError} If the address can't be listened on.
 * @throws {TypeError | RangeError} If an argument is wrong, before anything happens.
 */
export async function startServer(
  where: WhereToListen<SocketAddress, unknown>,
  options: ListenOptions<never>,
  handler: AnyHandler | undefined,
  policy: HandlerErrorPolicy = 'raise'
): Promise<ListeningServer> {
  checkWhere(where)
  checkOptions(ACTION, options)
  if (policy !== 'raise' && policy !== 'ignore' && typeof policy !== 'function') {
    throw new TypeError(`${ACTION} as 'onHandlerError' must be 'raise', 'ignore' or a function: received ${inspect(policy)}`)
  }
  const rules = { ...serverRules(options), handler, policy }
  const { backlog = DEFAULT_BACKLOG, signal } = options
  checkCount(ACTION, 'backlog', backlog)
  checkSignal(ACTION, signal)
  signal?.throwIfAborted()
  let server: ListeningServer | undefined
  const socket = await GatedListener.bind(where, {
    backlog,
    keepAlive: rules.settings.keepAlive,
    userTimeout: userTimeoutFor(rules.settings.bufferAgeLimit, keepAliveSeconds(rules.settings.keepAlive)),
    onAccept: (client: Accepted) => server?.arrived(client),
    onAcceptError: (error: Error) => server?.acceptFailed(error)
  })
  try {
    signal?.throwIfAborted()
    const listeningOn = (where.listeningOn as (address: SocketAddress) => unknown)(socket.address)
    signal?.throwIfAborted()
    server = new ListeningServer({ ...rules, socket, listeningOn, signal })
    return server
  } catch (error) {
    await closeAfterFailure(socket)
    throw error
  }
}

/** Checks the handler of `Server.create`. */
export function checkHandler(handler: unknown): void {
  checkFunction(ACTION, 'handler', handler)
}

function checkWhere(where: unknown): void {
  const { target, listeningOn } = (where ?? {}) as { target?: unknown; listeningOn?: unknown }
  if (typeof target === 'object' && typeof listeningOn === 'function') return
  const hint =
    typeof where === 'number' ? `, such as onPort(${where})` : typeof where === 'string' ? `, such as onFile(${inspect(where)})` : ''
  throw new TypeError(`${ACTION} as 'where' must be a WhereToListen${hint}: received ${inspect(where)}`)
}

function serverRules(options: ListenOptions<never>): Omit<ListeningServerInit, 'socket' | 'listeningOn' | 'handler' | 'policy' | 'signal'> {
  const settings = connectionSettings(ACTION, options)
  const {
    maxConnections,
    maxConnectionsPerAddress,
    proxyProtocol,
    tls,
    admit,
    warnAtLimit = true,
    handshakeTimeout = DEFAULT_HANDSHAKE_TIMEOUT
  } = options
  if (maxConnections !== undefined) checkCount(ACTION, 'maxConnections', maxConnections)
  if (maxConnectionsPerAddress !== undefined) checkCount(ACTION, 'maxConnectionsPerAddress', maxConnectionsPerAddress)
  if (admit !== undefined) checkFunction(ACTION, 'admit', admit)
  checkBoolean(ACTION, 'warnAtLimit', warnAtLimit)
  checkDuration(ACTION, 'handshakeTimeout', handshakeTimeout)
  if (proxyProtocol !== undefined) checkProxyProtocol(proxyProtocol)
  if (tls !== undefined) checkTlsContext(ACTION, 'tls', tls)
  return {
    settings,
    maxConnections: maxConnections ?? Math.max(1, Math.floor((descriptorLimit() ?? COMMON_DESCRIPTOR_LIMIT) * SHARE_OF_DESCRIPTORS)),
    warnAtLimit,
    admit,
    maxConnectionsPerAddress,
    // Of the two only a PROXY header tells the client's address.
    stepsBeforeAdmission: proxyProtocol === undefined ? [] : [proxyStep(ACTION, proxyProtocol)],
    stepsAfterAdmission: tls === undefined ? [] : [{ name: 'handshake', run: (connection) => secureAccepted(connection, tls) }],
    handshakeTimeout
  }
}

function checkProxyProtocol(value: NonNullable<ListenOptions['proxyProtocol']>): void {
  if (value === null || typeof value !== 'object') {
    throw new TypeError(`${ACTION} as 'proxyProtocol' must be an object: received ${inspect(value)}`)
  }
  if (value.maxLength !== undefined) checkMaxLength(ACTION, value.maxLength)
}

// What went wrong first is what is reported.
async function closeAfterFailure(socket: GatedListener): Promise<void> {
  try {
    await socket.close()
  } catch {}
}
