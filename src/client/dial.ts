// Dialling: from where to connect to a connected socket, within one deadline.

import { lookup as dnsLookup } from 'node:dns/promises'
import { isIP, isIPv4, type NetConnectOpts, type Socket } from 'node:net'
import { type HostAndPort, type InetAddress, inetAddress, type SocketAddress, type UnixAddress } from '../address.ts'
import { Deadline, TIMED_OUT } from '../async/deadline.ts'
import { doNothing } from '../async/do-nothing.ts'
import { setImmediate } from '../async/platform.ts'
import { startTimer } from '../async/timer.ts'
import { ConnectError, ConnectTimeoutError } from '../errors.ts'
import { netRefusal } from '../system/permission.ts'
import type { BindOptions, WhereToConnect } from '../where-to-connect.ts'
import { type Attempt, inTurns, race } from './happy-eyeballs.ts'

/** Milliseconds before another try at a unix socket whose queue is full: doubled from the first to the last. */
const FIRST_RETRY = 1
const LAST_RETRY = 64

/** `ConnectSocketOptions` with the default filled in. */
export interface DialLimits {
  readonly timeout: number
  readonly signal: AbortSignal | undefined
}

/** Where a single attempt goes: what `socket.connect()` is called with. */
export type Endpoint = UnixEndpoint | InetEndpoint

interface UnixEndpoint {
  readonly path: string
}

interface InetEndpoint extends Readonly<BindOptions> {
  readonly host: string
  readonly port: number
  /** Node.js's own Happy Eyeballs gives each address 250 ms and no more (https://github.com/nodejs/node/issues/54359). */
  readonly autoSelectFamily: false
}

/** A connected socket, and where it was dialled: a peer that resets at once has no address any more. */
export interface Dialled {
  readonly socket: Socket
  readonly endpoint: Endpoint
}

/**
 * What is done with a connected socket before it is handed out, such as sending a header or a handshake. Resolves with the socket to go on
 * with, which may be another one over the same connection. It must handle the `'error'` events of such another one. When it fails, or the
 * deadline passes, the socket that it got is destroyed.
 */
export type Step = (socket: Socket) => Promise<Socket>

/** Every address of a host name, in the order in which the resolver would have them tried. */
export type Lookup = (host: string) => Promise<{ address: string; family: number }[]>

/** In the order that `dns.setDefaultResultOrder` and `--dns-result-order` ask for. */
export const systemLookup: Lookup = (host) => dnsLookup(host, { all: true })

/**
 * Connects one of the sockets that `createSocket` makes to `where`, with no listener left on it, and takes the steps. Whatever fails, or
 * takes longer than the limits allow, nothing stays open.
 */
export async function dial(
  { target, bind }: WhereToConnect<SocketAddress>,
  { timeout, signal }: DialLimits,
  createSocket: () => Socket,
  steps: readonly Step[] = [],
  lookup: Lookup = systemLookup
): Promise<Dialled> {
  const deadline = new Deadline(timeout, signal)
  let lastFailure: Error | undefined
  const onFailure = (error: Error): void => {
    lastFailure = error
  }
  try {
    const refusal = netRefusal()
    if (refusal !== undefined) throw new ConnectError(target, refusal)
    const known = 'path' in target ? { path: target.path } : numericEndpoint(target, bind)
    const endpoints = known === undefined ? await lookUp(target, bind, lookup, deadline) : [known]
    const attempts = endpoints.map((endpoint) => attempt(endpoint, createSocket, onFailure))
    const outcome = await deadline.run<Dialled | Error[]>((resolve) => race(attempts, resolve, resolve))
    if (Array.isArray(outcome)) throw attemptsFailed(target, endpoints, outcome)
    return steps.length === 0 && !deadline.hasPassed ? outcome : await prepare(outcome, steps, target, deadline)
  } catch (error) {
    // Made here and not in the timer, so that the stack shows who called.
    if (error === TIMED_OUT) throw new ConnectTimeoutError(target, timeout, lastFailure && { cause: lastFailure })
    throw error
  } finally {
    deadline.stop()
  }
}

/** Where to go without asking for the address; undefined for a name. */
function numericEndpoint(target: HostAndPort | InetAddress, bind: BindOptions): Endpoint | undefined {
  const host = 'host' in target ? target.host : target.address
  const family = isIP(host)
  if (family === 0) return undefined
  if (!isReachable(family, bind)) throw unreachable(target, bind)
  return endpointAt(host, target.port, bind)
}

async function lookUp(target: HostAndPort | SocketAddress, bind: BindOptions, lookup: Lookup, deadline: Deadline): Promise<Endpoint[]> {
  const { host, port } = target as HostAndPort
  let found: { address: string; family: number }[]
  try {
    found = await deadline.wait(lookup(host))
  } catch (error) {
    deadline.throwIfPassed()
    throw new ConnectError(target, error)
  }
  const usable = found.filter(({ family }) => isReachable(family, bind))
  if (usable.length === 0) throw unreachable(target, bind)
  return inTurns(usable).map(({ address }) => endpointAt(address, port, bind))
}

function endpointAt(host: string, port: number, bind: BindOptions): InetEndpoint {
  return bind.localAddress === undefined && bind.localPort === undefined
    ? { host, port, autoSelectFamily: false }
    : { ...bind, host, port, autoSelectFamily: false }
}

function isReachable(family: number, { localAddress }: BindOptions): boolean {
  return localAddress === undefined || family === isIP(localAddress)
}

function unreachable(target: HostAndPort | SocketAddress, { localAddress }: BindOptions): ConnectError {
  return new ConnectError(target, new Error(`no address of it can be reached from ${localAddress}`))
}

/** Connects one socket to `endpoint`, again while that fails only for the moment. */
function attempt(endpoint: Endpoint, createSocket: () => Socket, onFailure: (error: Error) => void): Attempt<Dialled> {
  return (succeed, fail) => {
    let delay = FIRST_RETRY
    let giveUp = start()
    return () => giveUp()

    function start(): () => void {
      return connectOnce(endpoint, createSocket, connected, failed)
    }

    function connected(socket: Socket): void {
      if (!isSelfConnected(socket, endpoint)) {
        succeed({ socket, endpoint })
        return
      }
      // RST, so that the port is free again for whoever is to listen there.
      socket.on('error', doNothing).resetAndDestroy()
      startAgain()
    }

    function failed(error: Error): void {
      onFailure(error)
      if ('path' in endpoint && (error as NodeJS.ErrnoException).code === 'EAGAIN') startAgain()
      else fail(error)
    }

    function startAgain(): void {
      giveUp = startTimer(delay, () => {
        giveUp = start()
      })
      delay = Math.min(2 * delay, LAST_RETRY)
    }
  }
}

/** Connects one socket to `endpoint`, once. */
function connectOnce(
  endpoint: Endpoint,
  createSocket: () => Socket,
  succeed: (socket: Socket) => void,
  fail: (error: Error) => void
): () => void {
  const socket = createSocket()
  socket.on('connect', onConnect).on('error', fail)
  socket.connect(endpoint as NetConnectOpts)
  return () => {
    // An error may be on its way.
    socket.removeListener('connect', onConnect).removeListener('error', fail).on('error', doNothing).destroy()
  }

  function onConnect(): void {
    socket.removeListener('connect', onConnect).removeListener('error', fail)
    if (!('path' in endpoint)) socket.setNoDelay(true)
    succeed(socket)
  }
}

/** Takes the steps, one after the other. */
async function prepare(
  { socket, endpoint }: Dialled,
  steps: readonly Step[],
  target: HostAndPort | SocketAddress,
  deadline: Deadline
): Promise<Dialled> {
  let current = socket
  try {
    for (const step of steps) current = await takeStep(step, current, target, deadline)
    // It may have passed in the very turn in which the last thing succeeded.
    deadline.throwIfPassed()
    return { socket: current, endpoint }
  } catch (error) {
    for (const each of new Set([current, socket])) each.on('error', doNothing).destroy()
    throw error
  }
}

function takeStep(step: Step, socket: Socket, target: HostAndPort | SocketAddress, deadline: Deadline): Promise<Socket> {
  return deadline.run<Socket>((resolve, reject) => {
    let isOver = false
    let cause: unknown = new Error('the peer closed the connection')
    socket.on('error', onError).on('close', onClose)
    step(socket).then(
      (next) => {
        if (isOver) {
          next.on('error', doNothing).destroy()
          return
        }
        socket.removeListener('error', onError).removeListener('close', onClose)
        resolve(next)
      },
      // The listeners stay: the socket is about to be destroyed, and an error may be on its way.
      reject
    )
    return abandon

    function onError(error: Error): void {
      cause = error
    }

    function onClose(): void {
      // Behind what the step itself makes of it.
      setImmediate(() => {
        if (isOver) return
        abandon()
        reject(new ConnectError(target, cause))
      })
    }

    function abandon(): void {
      isOver = true
    }
  })
}

/**
 * Whether `socket` is connected to itself. If nobody listens on a port of this machine that is one of those the system chooses
 * from, it may choose that very port for our end, and TCP's simultaneous open makes a connection of it. Another try, as in
 * Go, gets another port and with it the truth: connection refused.
 */
function isSelfConnected(socket: Socket, endpoint: Endpoint): boolean {
  // Who asks for the port by number may want just that.
  if ('path' in endpoint || endpoint.localPort) return false
  return socket.localPort === endpoint.port && socket.localAddress === socket.remoteAddress
}

function attemptsFailed(target: HostAndPort | SocketAddress, endpoints: readonly Endpoint[], causes: readonly Error[]): ConnectError {
  if (causes.length === 1) return new ConnectError(target, causes[0])
  const errors = endpoints.map((endpoint, index) => {
    return 'path' in endpoint ? causes[index] : new ConnectError(inetAddress(endpoint.host, endpoint.port), causes[index])
  })
  // The first address is the one that the resolver thinks best.
  return new ConnectError(target, causes[0], errors)
}

/** The addresses of a connected TCP socket. The system forgets the peer's with a reset: then it is what was dialled. */
export function inetAddresses({ socket, endpoint }: Dialled): { remoteAddress: InetAddress; localAddress: InetAddress } {
  const { localAddress = '', localPort = 0 } = socket
  return { remoteAddress: remoteAddressOf(socket, endpoint), localAddress: inetAddress(localAddress, localPort) }
}

function remoteAddressOf(socket: Socket, endpoint: Endpoint): InetAddress {
  if ('path' in endpoint) return inetAddress('', 0)
  const { host, port } = endpoint
  // There is one way to write an IPv4 address: asking the system would cost a call. 0.0.0.0 leads to this machine.
  if (isIPv4(host) && host !== '0.0.0.0') return inetAddress(host, port)
  return inetAddress(socket.remoteAddress ?? host, port)
}

/** Whether it is a unix socket that is to be reached. */
export function isUnix(target: HostAndPort | SocketAddress): target is UnixAddress {
  return 'path' in target
}
