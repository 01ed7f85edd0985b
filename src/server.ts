// The server: an async iterator of accepted connections, slots, handlers and their errors, shutdown.

import { inspect } from 'node:util'
import { formatAddress, type InetAddress, inetAddress, type SocketAddress, UNNAMED, type UnixAddress } from './address.ts'
import { onceAborted } from './async/abort.ts'
import { Deferred } from './async/deferred.ts'
import { startTimer } from './async/timer.ts'
import type { Connection } from './connection.ts'
import {
  type ServerDescriptorsExhaustedMessage,
  type ServerHandlerErrorMessage,
  type ServerLimitMessage,
  serverDescriptorsExhausted,
  serverHandlerError,
  serverLimit
} from './diagnostics.ts'
import {
  BufferAgeLimitError,
  BusyError,
  ConnectionClosedError,
  ConnectionResetError,
  DelimiterNotFoundError,
  describeSystemError,
  IdleTimeoutError,
  LimitExceededError,
  ServerClosedError,
  UnexpectedEndError
} from './errors.ts'
import {
  type ConnectionSettings,
  checkBoolean,
  checkCount,
  checkDelay,
  checkFunction,
  checkOptions,
  checkSignal,
  connectionSettings,
  DEFAULT_BACKLOG,
  DEFAULT_FORCE_AFTER,
  type ListenOptions,
  type ServerOptions
} from './options.ts'
import type { AcceptedTransport } from './server/gate.ts'
import { type Accepted, discard, ListeningSocket } from './server/listening-socket.ts'
import type { ByteConnection } from './stream/byte-connection.ts'
import { openConnection } from './stream/connection-facade.ts'
import type { ConnectionInit } from './stream/connection-init.ts'
import { createAcceptedSocket, setKeepAlive, socketAddresses } from './stream/net-socket.ts'
import { NetTransport } from './stream/net-transport.ts'
import { descriptorLimit } from './system/descriptor.ts'
import type { WhereToListen } from './where-to-listen.ts'

/** The listening socket of a server, to be used with care. Async: `listening_socket`. */
export interface ListeningSocketInfo<out A extends SocketAddress = SocketAddress> {
  /** The descriptor, which stays the server's: it must not be closed, and connections must not be accepted from it. */
  readonly fd: number
  /** The address that it is bound to. */
  readonly address: A
  /** Lets the open server keep the process alive, as it does from the start. */
  ref(): void
  /** Lets the process end although the server is open. */
  unref(): void
}

/** The options of `server.close()`. */
export interface ServerCloseOptions {
  /**
   * Whether open connections are aborted; the promise then waits for their descriptors too.
   *
   * @default false
   */
  closeExistingConnections?: boolean
  /**
   * Milliseconds after which connections that are still open are aborted; 0 for at once.
   *
   * @default Infinity
   */
  forceAfter?: number
}

type Handler<A extends SocketAddress> = (connection: Connection<A>) => unknown
type HandlerErrorPolicy<A> = NonNullable<ServerOptions<A>['onHandlerError']>

const ACTION = 'Cannot listen'
/** Of the descriptors, so that the process has some for files, name resolution and its own connections. */
const SHARE_OF_DESCRIPTORS = 0.9
/** When not even the system tells: the usual soft limit. */
const COMMON_DESCRIPTOR_LIMIT = 1024
const WARNING_INTERVAL = 60_000
/** How soon a server that found no descriptor looks again; it also does whenever one of its connections closes. */
const DESCRIPTOR_RETRY = 100

/** What a client can bring about by itself, which is no fault of the handler's. */
const PEER_ERRORS = [
  ConnectionResetError,
  BufferAgeLimitError,
  IdleTimeoutError,
  UnexpectedEndError,
  DelimiterNotFoundError,
  LimitExceededError
]

/**
 * Listens at `where` and gives the server: an async iterator of accepted connections. Resolves when the socket is bound and
 * listening; a connect begun after that succeeds, whether or not somebody pulls yet. Nobody pulls: nobody is accepted.
 *
 * The server is the caller's to close: by leaving a loop over it, by `close()`, by `signal`, or by holding it with `await using`.
 *
 * @throws {ListenError} If the address can't be listened on.
 * @throws {TypeError | RangeError} If an option is wrong, before anything happens.
 * @throws `signal.reason` if `signal` is aborted already.
 * @example
 * ```ts
 * for await (await using connection of await listen(onPort(8082))) {
 *   await connection.writer.writeAll(connection.reader)
 * }
 * ```
 */
export function listen<A extends SocketAddress, L>(where: WhereToListen<A, L>, options?: ListenOptions): Promise<Server<A, L>>
// Which kind it is may be decided at run time: type parameters are not inferred from a union.
export function listen<W extends WhereToListen<SocketAddress, unknown>>(where: W, options?: ListenOptions): Promise<ServerOn<W>>
export async function listen<A extends SocketAddress, L>(where: WhereToListen<A, L>, options: ListenOptions = {}): Promise<Server<A, L>> {
  return await open(where, options, undefined, 'raise')
}

/** The server that listens where `W` says. */
export type ServerOn<W> = W extends WhereToListen<infer A, infer L> ? Server<A, L> : never

async function open<A extends SocketAddress, L>(
  where: WhereToListen<A, L>,
  options: ListenOptions,
  handler: Handler<A> | undefined,
  policy: HandlerErrorPolicy<A>
): Promise<Server<A, L>> {
  if (typeof where?.target !== 'object' || typeof where.listeningOn !== 'function') {
    throw new TypeError(`${ACTION} as 'where' must be a WhereToListen: received ${inspect(where)}`)
  }
  checkOptions(ACTION, options)
  const settings = connectionSettings(ACTION, options)
  const { maxConnections, backlog = DEFAULT_BACKLOG, signal } = options
  if (maxConnections !== undefined) checkCount(ACTION, 'maxConnections', maxConnections)
  checkCount(ACTION, 'backlog', backlog)
  checkSignal(ACTION, signal)
  signal?.throwIfAborted()
  let server: Server<A, L> | undefined
  const socket = await ListeningSocket.bind(where, {
    backlog,
    keepAlive: settings.keepAlive,
    onAccept: (client: Accepted) => server?.[ACCEPTED](client),
    onAcceptError: (error: Error) => server?.[FAILED](error)
  })
  if (signal?.aborted === true) {
    await socket.close()
    throw signal.reason
  }
  server = new Server(CONSTRUCT, {
    socket,
    settings,
    listeningOn: (where.listeningOn as (address: A) => L)(socket.address),
    maxConnections: maxConnections ?? Math.max(1, Math.floor((descriptorLimit() ?? COMMON_DESCRIPTOR_LIMIT) * SHARE_OF_DESCRIPTORS)),
    handler,
    policy,
    signal
  })
  return server
}

interface ServerInit<A extends SocketAddress, L> {
  readonly socket: ListeningSocket<A>
  readonly settings: ConnectionSettings
  readonly listeningOn: L
  readonly maxConnections: number
  readonly handler: Handler<A> | undefined
  readonly policy: HandlerErrorPolicy<A>
  readonly signal: AbortSignal | undefined
}

// Keys of what is this file's alone on a class that is public.
const CONSTRUCT = Symbol('construct')
const ACCEPTED = Symbol('accepted')
const FAILED = Symbol('failed')

/**
 * A server that listens. Made by {@link listen} or {@link Server.create}. Async: `Tcp.Server.t`.
 *
 * - accept(2) is called only while someone waits for a connection (`next()`, `accept()`, a free consumer) and
 *   `numConnections < maxConnections`. Clients beyond that wait in the kernel's queue, untouched.
 * - A slot is taken from accept until the descriptor is closed and the handler, if there is one, has ended and its error policy has run.
 * - Several consumers may pull at once: every connection goes to exactly one of them, in the order of arrival.
 * - Leaving a loop over a server closes the server; who wants to take some and go on uses `accept()`.
 * - From the call of `close()` on no handler is called and no connection handed out.
 * - A client can't stop a server: what the peer alone can cause is no handler error under `'raise'`.
 * - An open server keeps the process alive; `listeningSocket.unref()` opts out.
 *
 * Leaving an `await using` scope is `close({ forceAfter: 30_000 })`, then until every connection and handler has ended, then the result of
 * `finished`.
 *
 * @example
 * ```ts
 * const server = await listen(onPort(8080), { maxConnections: 100 })
 * for await (await using connection of server) {
 *   connection.writer.write(`You are ${connection.remoteAddress.address}\n`)
 *   // Leaving the loop closes the server: this one serves a single client.
 *   break
 * }
 * console.log(server.isClosed) // true
 * ```
 */
export class Server<A extends SocketAddress = SocketAddress, L = unknown>
  implements AsyncIterableIterator<Connection<A>, undefined>, AsyncDisposable
{
  /** What the server listens on: the port of a TCP server, the path of a unix server. Async: `listening_on`. */
  readonly listeningOn: L
  /** The listening socket. Accepting from it circumvents the gate. Async: `listening_socket`. */
  readonly listeningSocket: ListeningSocketInfo<A>
  /** Resolves when the listening socket is closed. Starts nothing. Async: `close_finished`. */
  readonly closeFinished: Promise<void>
  /** Resolves when the server is closed and every handler has ended; rejects at once with a handler error that is raised. */
  readonly finished: Promise<void>
  readonly #socket: ListeningSocket<A>
  readonly #settings: ConnectionSettings
  // Typed for the variance of the class: what takes connections would keep a UnixServer from being a Server.
  readonly #handler: Handler<never> | undefined
  readonly #policy: HandlerErrorPolicy<never>
  readonly #onClosed = (connection: ByteConnection<SocketAddress>): void => this.#connectionClosed(connection as ByteConnection<A>)
  // In no order, each slot with its index: the tables of a Set that has grown keep closed connections alive until the next major collection.
  readonly #connections: ByteConnection<A>[] = []
  readonly #waiters: Deferred<Connection<A>>[] = []
  readonly #closeFinished = new Deferred()
  readonly #finished = new Deferred()
  readonly #unhook: () => void
  #maxConnections: number
  #slots = 0
  #handlers = 0
  #isDropping = false
  #dropped = 0
  #isClosed = false
  #isListening = true
  #isRaised = false
  #isCheckDue = false
  #emptied: Deferred | undefined
  #retry: NodeJS.Timeout | undefined
  #stopForce: (() => void) | undefined
  #forceAt = Number.POSITIVE_INFINITY
  #controller: AbortController | undefined
  #nextLimitWarning = 0
  #nextDescriptorWarning = 0

  /** @internal {@link listen} and {@link Server.create} make servers. */
  constructor(key: typeof CONSTRUCT, init: ServerInit<A, L>) {
    if (key !== CONSTRUCT) throw new TypeError('Cannot construct a Server as only listen() and Server.create() make one')
    const { socket, settings, listeningOn, maxConnections, handler, policy, signal } = init
    this.#socket = socket
    this.#settings = settings
    this.#handler = handler
    this.#policy = policy
    this.#maxConnections = maxConnections
    this.#unhook = onceAborted(signal, () => void this.close())
    this.listeningOn = listeningOn
    this.listeningSocket = Object.freeze({ fd: socket.fd, address: socket.address, ref: () => socket.ref(), unref: () => socket.unref() })
    this.closeFinished = this.#closeFinished.promise
    this.finished = this.#finished.promise
    this.#adjust()
  }

  /**
   * Starts a server that calls `handler` for each client, at most `maxConnections` at once; the others wait in the kernel. When
   * the handler ends or throws, its connection is closed. Resolves when the socket is bound and listening. Async: `Server.create`.
   *
   * @throws {ListenError} If the address can't be listened on.
   * @throws {TypeError | RangeError} If an argument is wrong, before anything happens.
   * @example
   * ```ts
   * await using server = await Server.create(onPort(8080), { maxConnections: 100 }, async ({ reader, writer }) => {
   *   await writer(reader)
   * })
   * ```
   */
  static create<A extends SocketAddress, L>(where: WhereToListen<A, L>, handler: Handler<A>): Promise<Server<A, L>>
  static create<A extends SocketAddress, L>(
    where: WhereToListen<A, L>,
    options: ServerOptions<A>,
    handler: Handler<A>
  ): Promise<Server<A, L>>
  static create<W extends WhereToListen<SocketAddress, unknown>>(where: W, handler: Handler<SocketAddress>): Promise<ServerOn<W>>
  static create<W extends WhereToListen<SocketAddress, unknown>>(
    where: W,
    options: ServerOptions<SocketAddress>,
    handler: Handler<SocketAddress>
  ): Promise<ServerOn<W>>
  static async create<A extends SocketAddress, L>(
    where: WhereToListen<A, L>,
    ...rest: [Handler<A>] | [ServerOptions<A>, Handler<A>]
  ): Promise<Server<A, L>> {
    const [options, handler] = rest.length === 1 ? [{}, rest[0]] : rest
    checkFunction(ACTION, 'handler', handler)
    checkOptions(ACTION, options)
    const { onHandlerError = 'raise' } = options
    if (onHandlerError !== 'raise' && onHandlerError !== 'ignore' && typeof onHandlerError !== 'function') {
      throw new TypeError(`${ACTION} as 'onHandlerError' must be 'raise', 'ignore' or a function: received ${inspect(onHandlerError)}`)
    }
    return await open(where, options, handler, onHandlerError)
  }

  /** The address really bound; for a unix server the path asked for. */
  get address(): A {
    return this.#socket.address
  }

  /** `'kernel'`: clients that nobody waits for stay unaccepted. `'userland'`: they are accepted, unread, and parked. */
  get acceptGate(): 'kernel' | 'userland' {
    return this.#socket.gate
  }

  /** Slots in use: connections that are open or whose handler has not ended. */
  get numConnections(): number {
    return this.#slots
  }

  /** Clients that were accepted and closed at once because of `dropIncomingConnections`. */
  get numDropped(): number {
    return this.#dropped
  }

  /** Slots that may be in use at once. May be changed while running; lowering it ends nobody. */
  get maxConnections(): number {
    return this.#maxConnections
  }

  set maxConnections(value: number) {
    checkCount('Cannot set the limit', 'maxConnections', value)
    this.#maxConnections = value
    this.#adjust()
  }

  /** While true every client is accepted and closed at once, so that it fails fast instead of waiting. May be changed while running. */
  get dropIncomingConnections(): boolean {
    return this.#isDropping
  }

  set dropIncomingConnections(value: boolean) {
    checkBoolean('Cannot set the mode', 'dropIncomingConnections', value)
    this.#isDropping = value
    this.#adjust()
  }

  /** Aborted when the server starts to close, so that handlers can wind down. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.#isClosed) this.#controller.abort(this.#closedError())
    }
    return this.#controller.signal
  }

  /** Whether the server has started to close. Async: `is_closed`. */
  get isClosed(): boolean {
    return this.#isClosed
  }

  /**
   * Takes the next client. The connection is the caller's to close.
   *
   * Cancellation: if `options.signal` aborts, no client is lost; the next pull gets it.
   *
   * @throws {ServerClosedError} If the server is or gets closed.
   * @throws {BusyError} If the server was made by `Server.create`, whose handler takes all clients.
   */
  async accept(options: { signal?: AbortSignal } = {}): Promise<Connection<A>> {
    checkOptions('Cannot accept', options)
    const { signal } = options
    checkSignal('Cannot accept', signal)
    signal?.throwIfAborted()
    this.#checkPull()
    if (this.#isClosed) throw this.#closedError()
    const waiter = this.#wait()
    const unhook = onceAborted(signal, (reason) => {
      const index = this.#waiters.indexOf(waiter)
      // Not there: a client was handed over in this very turn, and the caller has it.
      if (index === -1) return
      this.#waiters.splice(index, 1)
      this.#adjust()
      waiter.reject(reason)
    })
    try {
      return await waiter.promise
    } finally {
      unhook()
    }
  }

  /**
   * Takes the next client, for a loop; done when the server is closed. The connection is the caller's to close.
   *
   * @throws {BusyError} If the server was made by `Server.create`, whose handler takes all clients.
   */
  async next(): Promise<IteratorResult<Connection<A>, undefined>> {
    this.#checkPull()
    if (this.#isClosed) return { value: undefined, done: true }
    try {
      return { value: await this.#wait().promise, done: false }
    } catch (error) {
      if (error instanceof ServerClosedError) return { value: undefined, done: true }
      throw error
    }
  }

  /** Closes the server; called by leaving a loop over it. Resolves when the listening socket is closed. */
  async return(): Promise<IteratorResult<Connection<A>, undefined>> {
    await this.close()
    return { value: undefined, done: true }
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  /**
   * Stops listening. Resolves when the listening socket is closed, so that the address can be bound again; clients in the kernel's queue
   * are reset. Open connections go on, unless `closeExistingConnections` or `forceAfter` says otherwise. Idempotent: further plain calls give
   * the same promise; a stricter call escalates. Async: `close`.
   *
   * @throws {TypeError | RangeError} If an option is wrong; the server then stays as it is.
   */
  close(options: ServerCloseOptions = {}): Promise<void> {
    try {
      checkOptions('Cannot close', options)
      if (options.closeExistingConnections !== undefined) {
        checkBoolean('Cannot close', 'closeExistingConnections', options.closeExistingConnections)
      }
      if (options.forceAfter !== undefined) checkDelay('Cannot close', 'forceAfter', options.forceAfter)
    } catch (error) {
      return Promise.reject(error)
    }
    const { closeExistingConnections = false, forceAfter = Number.POSITIVE_INFINITY } = options
    if (!this.#isClosed) void this.#close()
    this.#forceAfter(forceAfter)
    return closeExistingConnections ? this.#closeWithConnections() : this.closeFinished
  }

  /**
   * Checks the internal state, for tests. Async: `invariant`.
   *
   * @throws {Error} If the state is inconsistent, which is a bug of this library.
   */
  invariant(): void {
    const check = (holds: boolean, what: string): void => {
      if (!holds) throw new Error(`Invariant of the server on ${formatAddress(this.address)} broken: ${what}`)
    }
    check(this.#slots >= this.#connections.length, `${this.#slots} slots for ${this.#connections.length} open connections`)
    check(this.#slots >= 0, `${this.#slots} slots`)
    const isInPlace = (connection: ByteConnection<A>, index: number): boolean => (connection.init as Slot<A>).index === index
    check(this.#connections.every(isInPlace), 'an open connection is not where its slot says')
    check(this.#handlers <= this.#slots, `${this.#handlers} handlers in ${this.#slots} slots`)
    check(this.#handler === undefined || this.#waiters.length === 0, 'a consumer waits beside the handler')
    check(!this.#isClosed || this.#waiters.length === 0, 'a consumer waits for a closed server')
    check(!this.#isClosed || !this.#socket.isOpen, 'the gate of a closed server is open')
    // Between an accept and the end of its turn the gate may be open although nobody waits any more.
    const mayBeOpen = this.#wantsClients || this.#isCheckDue
    check(!this.#socket.isOpen || mayBeOpen, 'the gate is open although nobody waits or no slot is free')
    check(this.#socket.isOpen || !this.#wantsClients || this.#retry !== undefined, 'the gate is shut although a client is wanted')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close({ forceAfter: DEFAULT_FORCE_AFTER })
    await this.#empty()
    await this.finished
  }

  // The gate ----------------------------------------------------------------------------------------------------------

  get #wantsClients(): boolean {
    if (this.#isClosed) return false
    return this.#isDropping || (this.#slots < this.#maxConnections && (this.#handler !== undefined || this.#waiters.length > 0))
  }

  // Opens or shuts the gate, whichever is right now.
  #adjust(): void {
    const wanted = this.#wantsClients
    if (!wanted) {
      this.#stopRetrying()
      if (this.#socket.isOpen) this.#socket.shut()
    } else if (this.#socket.isOpen || this.#open()) {
      this.#stopRetrying()
    }
  }

  #open(): boolean {
    try {
      if (this.#socket.open()) return true
      this.#outOfDescriptors()
    } catch (error) {
      // Whoever freed the slot has no use for it, and the next try may succeed.
      this.#outOfDescriptors(error as Error)
    }
    return false
  }

  /** @internal A client was accepted; called in the callback of accept(2). */
  [ACCEPTED](client: Accepted): void {
    if (this.#isDropping || this.#isClosed) {
      this.#dropped++
      discard(client)
      return
    }
    const connection = this.#admit(client)
    if (connection === undefined) {
      this.#adjustAfterAccept()
      return
    }
    this.#slots++
    ;(connection.init as Slot<A>).index = this.#connections.push(connection) - 1
    const waiter = this.#waiters.shift()
    // The gate first: the handler may look at the server.
    this.#adjustAfterAccept()
    if (this.#slots >= this.#maxConnections) this.#atLimit()
    if (this.#handler !== undefined) this.#serve(connection, this.#handler)
    else waiter?.resolve(connection.facade)
  }

  #adjustAfterAccept(): void {
    if (!this.#socket.isOpen) return
    const isWanted = this.#wantsClients
    if (!isWanted && (this.#handler !== undefined || this.#slots >= this.#maxConnections)) {
      this.#socket.shut()
    } else if (!this.#socket.hasRoom) {
      this.#socket.shut()
      if (isWanted) this.#outOfDescriptors()
    } else if (!isWanted) {
      // Whoever got the client may pull again in this very turn: look after its microtasks, and before the next accept(2).
      this.#checkSoon()
    }
  }

  /** @internal accept(2) failed, as it does when the whole system has run out of something. */
  [FAILED](error: Error): void {
    // libuv would try again at once, and for ever.
    this.#socket.shut()
    this.#outOfDescriptors(error)
  }

  // A connection of a client; undefined if it is gone already.
  #admit(client: Accepted): ByteConnection<A> | undefined {
    if ('transport' in client) return this.#admitTransport(client)
    const { keepAlive } = this.#settings
    let remoteAddress: SocketAddress
    let localAddress: SocketAddress = this.address
    if (this.address.family === 'unix') {
      remoteAddress = UNNAMED
    } else if ('handle' in client) {
      if (client.handle.getpeername?.(named) !== 0) {
        discard(client)
        return undefined
      }
      remoteAddress = inetAddress(named.address, named.port)
      if (isWildcard(this.address)) {
        localAddress = client.handle.getsockname?.(named) === 0 ? inetAddress(named.address, named.port) : this.address
      }
    } else {
      if (client.socket.remoteAddress === undefined) {
        discard(client)
        return undefined
      }
      ;({ remoteAddress, localAddress } = socketAddresses(client.socket))
    }
    const socket = 'handle' in client ? createAcceptedSocket(client.handle, keepAlive) : client.socket
    if (!this.#socket.inheritsSocketOptions && remoteAddress.family !== 'unix') {
      socket.setNoDelay(true)
      setKeepAlive(socket, keepAlive)
    }
    return openConnection<A>(new NetTransport(socket), this.#settings, new Slot(remoteAddress as A, localAddress as A, this.#onClosed))
  }

  #admitTransport(client: AcceptedTransport): ByteConnection<A> | undefined {
    const { transport, remoteAddress, localAddress } = client
    if (remoteAddress !== undefined) {
      return openConnection<A>(
        transport,
        this.#settings,
        new Slot(remoteAddress as SocketAddress as A, localAddress as SocketAddress as A, this.#onClosed)
      )
    }
    discard(client)
    return undefined
  }

  #checkSoon(): void {
    if (this.#isCheckDue) return
    this.#isCheckDue = true
    // A tick made by a microtask runs when all microtasks have.
    queueMicrotask(() =>
      process.nextTick(() => {
        this.#isCheckDue = false
        this.#adjust()
      })
    )
  }

  #atLimit(): void {
    if (serverLimit.hasSubscribers) {
      const message: ServerLimitMessage = { address: this.address, maxConnections: this.#maxConnections }
      serverLimit.publish(message)
    }
    const now = performance.now()
    if (now < this.#nextLimitWarning) return
    this.#nextLimitWarning = now + WARNING_INTERVAL
    process.emitWarning(
      `The server on ${formatAddress(this.address)} has as many connections as it may, ${this.#maxConnections}; further clients wait`,
      { code: 'IT_TCP_AT_LIMIT' }
    )
  }

  #outOfDescriptors(error?: Error): void {
    if (this.#retry === undefined) {
      this.#retry = setTimeout(() => {
        this.#retry = undefined
        this.#adjust()
      }, DESCRIPTOR_RETRY)
      // The listening socket keeps the process alive, or was told not to.
      this.#retry.unref()
      if (serverDescriptorsExhausted.hasSubscribers) {
        const message: ServerDescriptorsExhaustedMessage = { address: this.address }
        serverDescriptorsExhausted.publish(message)
      }
    }
    const now = performance.now()
    if (now < this.#nextDescriptorWarning) return
    this.#nextDescriptorWarning = now + WARNING_INTERVAL
    const why = error === undefined ? 'the process has run out of descriptors' : describeSystemError(error)
    process.emitWarning(`The server on ${formatAddress(this.address)} can't accept: ${why}; clients wait`, {
      code: 'IT_TCP_OUT_OF_DESCRIPTORS'
    })
  }

  #stopRetrying(): void {
    clearTimeout(this.#retry)
    this.#retry = undefined
  }

  // Consumers ---------------------------------------------------------------------------------------------------------

  #checkPull(): void {
    if (this.#handler !== undefined) throw new BusyError("Cannot pull as this server's handler takes all connections")
  }

  #wait(): Deferred<Connection<A>> {
    const waiter = new Deferred<Connection<A>>()
    this.#waiters.push(waiter)
    this.#adjust()
    return waiter
  }

  #connectionClosed(connection: ByteConnection<A>): void {
    const slot = connection.init as Slot<A>
    const last = this.#connections.pop() as ByteConnection<A>
    if (last !== connection) {
      this.#connections[slot.index] = last
      ;(last.init as Slot<A>).index = slot.index
    }
    slot.index = CLOSED
    if (!slot.isHandled) this.#settle(slot)
  }

  // Without an async function, whose frame would stay in memory beside the handler's own for as long as the connection lives.
  #serve(connection: ByteConnection<A>, handler: Handler<never>): void {
    ;(connection.init as Slot<A>).isHandled = true
    this.#handlers++
    let result: Promise<unknown>
    try {
      result = Promise.resolve(handler(connection.facade as never))
    } catch (error) {
      this.#handlerFailed(connection, error)
      return
    }
    // As `await` does: a promise may have a then() of its own, which may throw or call back twice.
    Promise.prototype.then.call(
      result,
      () => this.#handlerEnded(connection),
      (error) => this.#handlerFailed(connection, error)
    )
  }

  #handlerFailed(connection: ByteConnection<A>, error: unknown): void {
    const slot = connection.init as Slot<A>
    slot.failure = { error }
    if (serverHandlerError.hasSubscribers) {
      const message: ServerHandlerErrorMessage = { address: this.address, remoteAddress: slot.remoteAddress, error }
      serverHandlerError.publish(message)
    }
    if (this.#policy === 'raise' && !isExcused(error, connection, slot)) this.#raise(error)
    this.#handlerEnded(connection)
  }

  #handlerEnded(connection: ByteConnection<A>): void {
    const slot = connection.init as Slot<A>
    slot.isHandled = false
    this.#handlers--
    // What a client does not take after its handler ended well is not the handler's error.
    if (slot.index !== CLOSED) connection.startClosing(DEFAULT_FORCE_AFTER)
    else this.#settle(slot)
  }

  // The descriptor is closed, and the handler has ended: what is left is the policy for its error.
  #settle(slot: Slot<A>): void {
    if (slot.failure !== undefined && typeof this.#policy === 'function') void this.#report(this.#policy, slot, slot.failure.error)
    else this.#freeSlot()
  }

  async #report(policy: (address: never, error: unknown) => unknown, slot: Slot<A>, error: unknown): Promise<void> {
    try {
      await policy(slot.remoteAddress as never, error)
    } catch (raised) {
      this.#raise(raised)
    }
    this.#freeSlot()
  }

  #freeSlot(): void {
    this.#slots--
    if (this.#slots === 0) this.#emptied?.resolve()
    this.#adjust()
    this.#finishIfDone()
  }

  #raise(error: unknown): void {
    if (this.#isRaised) {
      process.emitWarning(`A handler of the server on ${formatAddress(this.address)} failed after another: ${inspect(error)}`, {
        code: 'IT_TCP_HANDLER_ERROR'
      })
      return
    }
    this.#isRaised = true
    // Not awaited: it resolves when the socket is closed, and never rejects.
    void this.close()
    this.#finished.reject(error)
  }

  // Shutdown ----------------------------------------------------------------------------------------------------------

  async #close(): Promise<void> {
    this.#isClosed = true
    this.#unhook()
    this.#stopRetrying()
    for (const waiter of this.#waiters.splice(0)) waiter.reject(this.#closedError())
    const closing = this.#socket.close()
    this.#controller?.abort(this.#closedError())
    await closing
    this.#isListening = false
    this.#closeFinished.resolve()
    this.#finishIfDone()
  }

  async #closeWithConnections(): Promise<void> {
    const connections = [...this.#connections]
    for (const connection of connections) this.#cut(connection)
    await Promise.all([this.closeFinished, ...connections.map((connection) => connection.closed)])
  }

  #cut(connection: ByteConnection<A>): void {
    ;(connection.init as Slot<A>).isCutOff = true
    connection.abort()
  }

  // Aborts what is still open after `delay`. The earliest of several calls counts.
  #forceAfter(delay: number): void {
    const at = performance.now() + delay
    if (at >= this.#forceAt) return
    this.#forceAt = at
    this.#stopForce?.()
    const cutAll = (): void => {
      for (const connection of [...this.#connections]) this.#cut(connection)
    }
    // Open connections keep the process alive; when there are none, nothing is left to force.
    if (delay === 0) cutAll()
    else this.#stopForce = startTimer(delay, cutAll, false)
  }

  async #empty(): Promise<void> {
    if (this.#slots === 0) return
    this.#emptied ??= new Deferred()
    await this.#emptied.promise
  }

  #finishIfDone(): void {
    if (this.#isListening || (this.#handler !== undefined && this.#slots > 0)) return
    if (this.#slots === 0) this.#stopForce?.()
    if (!this.#isRaised) this.#finished.resolve()
  }

  #closedError(): ServerClosedError {
    return new ServerClosedError(`The server on ${formatAddress(this.address)} is closed`)
  }
}

/** A server over TCP; `listeningOn` is its port. */
export type InetServer = Server<InetAddress, number>
/** A server on a unix-domain socket; `listeningOn` is its path. */
export type UnixServer = Server<UnixAddress, string>

// The index of a connection that is not open.
const CLOSED = -1

/** What an accepted connection starts with, and what its server keeps of it. */
class Slot<A extends SocketAddress> implements ConnectionInit<A> {
  readonly remoteAddress: A
  readonly localAddress: A
  readonly isAccepted = true
  readonly onClosed: (connection: ByteConnection<SocketAddress>) => void
  /** Where the server has it among its open connections. */
  index = CLOSED
  /** Whether a handler is at work on it. */
  isHandled = false
  /** Whether the server aborted it. */
  isCutOff = false
  failure: { readonly error: unknown } | undefined

  constructor(remoteAddress: A, localAddress: A, onClosed: (connection: ByteConnection<SocketAddress>) => void) {
    this.remoteAddress = remoteAddress
    this.localAddress = localAddress
    this.onClosed = onClosed
  }
}

// Filled in for each client. It has all that is set from the start: to add that to a new object costs more than the system call.
const named = { address: '', family: '', port: 0 }

// Whether the client, or the server's own closing of the connection, is what made its handler fail.
function isExcused(error: unknown, connection: ByteConnection<SocketAddress>, slot: Slot<SocketAddress>): boolean {
  for (const one of causes(error)) {
    if (!connection.isOrigin(one)) continue
    if (PEER_ERRORS.some((Class) => one instanceof Class)) return true
    if (slot.isCutOff && one instanceof ConnectionClosedError) return true
  }
  return false
}

function isWildcard(address: InetAddress): boolean {
  return address.address === '::' || address.address === '0.0.0.0'
}

// The error itself and everything that its causes and its parts lead to.
function* causes(error: unknown, seen = new Set<unknown>()): Generator<Error> {
  if (!(error instanceof Error) || seen.has(error)) return
  seen.add(error)
  yield error
  yield* causes(error.cause, seen)
}
