// The contract of a server: an async iterator of accepted connections, the gate in front of it, and how it is closed.

import { type InspectOptions, inspect } from 'node:util'
import { formatAddress, type InetAddress, type SocketAddress, type UnixAddress } from './address.ts'
import type { Connection } from './connection.ts'
import { checkBoolean, checkCount, checkDelay, checkOptions, DEFAULT_FORCE_AFTER, type ServerOptions } from './options.ts'
import { ListeningServer } from './server/listening-server.ts'
import { checkHandler, startServer } from './server/start.ts'
import type { ServerStatistics } from './server-statistics.ts'
import type { WhereToListen } from './where-to-listen.ts'

/** The listening socket of a server; use with care. Async: `listening_socket`. */
export interface ListeningSocketInfo<out A extends SocketAddress = SocketAddress> {
  /** The descriptor, which belongs to the server: do not close it, and do not accept connections from it. */
  readonly fd: number
  /** The address it is bound to. */
  readonly address: A
  /** Lets the open server keep the process alive, as it does from the start. */
  ref(): void
  /** Lets the process end even though the server is open. */
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
   * Milliseconds after which connections that are still open are aborted; 0 aborts them at once.
   *
   * @default Infinity
   */
  forceAfter?: number
}

type Handler<A extends SocketAddress> = (connection: Connection<A>) => unknown

// Set by the class, whose constructor nobody else can call.
let wrap: <A extends SocketAddress, L>(machine: ListeningServer) => Server<A, L>

/** The server that listens where `W` says. */
export type ServerOn<W> = W extends WhereToListen<infer A, infer L> ? Server<A, L> : never

/**
 * A listening server. Created by {@link listen} or {@link Server.create}. Async: `Tcp.Server.t`.
 *
 * - accept(2) is called only while someone waits for a connection (`next()`, `accept()`, a free consumer) and
 *   `numConnections < maxConnections`. Clients beyond that wait in the kernel's queue, untouched.
 * - A slot is taken from accept until the descriptor is closed and the handler, if there is one, has ended and its error policy has run.
 * - Several consumers may pull at once: each connection goes to exactly one of them, in order of arrival.
 * - Leaving a loop over a server closes the server; to take some clients and go on, use `accept()`.
 * - Once `close()` has been called, no handler is called and no connection is handed out.
 * - A client can't stop a server: an error that the peer can cause on its own does not count as a handler's error under `'raise'`.
 * - An open server keeps the process alive; `listeningSocket.unref()` opts out.
 *
 * Leaving an `await using` scope calls `close({ forceAfter: 30_000 })`, waits until every connection and handler has ended, and then throws
 * if `finished` rejects.
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
  /** What the server listens on: the port of a TCP server, the path of a Unix server. Async: `listening_on`. */
  readonly listeningOn: L
  /** The listening socket. Accepting from it bypasses the gate. Async: `listening_socket`. */
  readonly listeningSocket: ListeningSocketInfo<A>
  /** Resolves when the listening socket is closed; does not close it. Async: `close_finished`. */
  readonly closeFinished: Promise<void>
  /** Resolves when the server is closed and every handler has ended; rejects at once with a handler's error under `'raise'`. */
  readonly finished: Promise<void>
  // Not typed by the kind of address: what takes connections would keep a UnixServer from being a Server.
  readonly #machine: ListeningServer

  static {
    wrap = <A extends SocketAddress, L>(machine: ListeningServer) => new Server<A, L>(machine)
  }

  private constructor(machine: ListeningServer) {
    if (!(machine instanceof ListeningServer)) {
      throw new TypeError('Cannot construct a Server as only listen() and Server.create() make one')
    }
    const { socket, lifetime } = machine
    this.#machine = machine
    this.listeningOn = machine.listeningOn as L
    this.listeningSocket = Object.freeze({
      get fd() {
        return socket.fd
      },
      address: socket.address as A,
      ref: () => socket.ref(),
      unref: () => socket.unref()
    })
    this.closeFinished = lifetime.closed
    this.finished = lifetime.finished
    machine.start(this)
  }

  /**
   * Starts a server that calls `handler` for each client, at most `maxConnections` at once; the others wait in the kernel. When
   * the handler ends or throws, its connection is closed. Resolves when the socket is bound and listening. Async: `Server.create`.
   *
   * @throws {ListenError} If the address can't be listened on.
   * @throws {TypeError | RangeError} If an argument is wrong, before anything happens.
   * @throws Whatever the `listeningOn` of `where` throws; nothing is left listening then.
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
    const [options = {}, handler] = rest.length === 1 ? [{}, rest[0]] : rest
    checkHandler(handler)
    checkOptions('Cannot listen', options)
    return serverOver(await startServer(where, options, handler, options.onHandlerError))
  }

  /** The address actually bound; for a Unix server, the path asked for. */
  get address(): A {
    return this.#machine.address as A
  }

  /** `'kernel'`: clients that nobody is waiting for stay unaccepted. `'userland'`: they are accepted and parked, unread. */
  get acceptGate(): 'kernel' | 'userland' {
    return this.#machine.socket.gate
  }

  /** Slots in use: connections that are open, on their way to a handler, or whose handler has not ended. */
  get numConnections(): number {
    return this.#machine.numConnections
  }

  /** Clients that were accepted and closed unserved: because of `dropIncomingConnections`, or because they or the server left first. */
  get numDropped(): number {
    return this.#machine.numDropped
  }

  /**
   * The connections that were handed out and whose descriptor is still open, even while they are closing or after `detach()`. Each loop
   * covers those that exist when it starts, in no particular order.
   */
  get connections(): Iterable<Connection<A>> {
    const machine = this.#machine
    return { [Symbol.iterator]: () => (machine.connections as Iterable<unknown> as Iterable<Connection<A>>)[Symbol.iterator]() }
  }

  /** Slots that may be in use at once. May be changed while running; lowering it ends nobody. */
  get maxConnections(): number {
    return this.#machine.maxConnections
  }

  set maxConnections(value: number) {
    checkCount('Cannot set the limit', 'maxConnections', value)
    this.#machine.maxConnections = value
  }

  /** While true every client is accepted and closed at once, so that it fails fast instead of waiting. May be changed while running. */
  get dropIncomingConnections(): boolean {
    return this.#machine.isDropping
  }

  set dropIncomingConnections(value: boolean) {
    checkBoolean('Cannot set the mode', 'dropIncomingConnections', value)
    this.#machine.isDropping = value
  }

  /** Aborted when the server starts to close, so that handlers can wind down. A handler that ends by it has not failed. */
  get signal(): AbortSignal {
    return this.#machine.lifetime.signal
  }

  /** Whether the server has started to close. Async: `is_closed`. */
  get isClosed(): boolean {
    return this.#machine.lifetime.isClosing
  }

  /** What the server has counted since it was created. Never throws. */
  statistics(): ServerStatistics {
    return this.#machine.statistics
  }

  /**
   * Takes the next client. The connection is the caller's to close.
   *
   * Cancellation: if `options.signal` aborts, no client is lost; the next pull gets it.
   *
   * @throws {ServerClosedError} If the server is closed or closes meanwhile.
   * @throws {BusyError} If the server was created by `Server.create`, whose handler takes all clients.
   */
  accept(options: { signal?: AbortSignal } = {}): Promise<Connection<A>> {
    return this.#machine.accept(options) as Promise<unknown> as Promise<Connection<A>>
  }

  /**
   * Takes the next client, for a loop; done when the server is closed. The connection is the caller's to close.
   *
   * @throws {BusyError} If the server was created by `Server.create`, whose handler takes all clients.
   */
  next(): Promise<IteratorResult<Connection<A>, undefined>> {
    return this.#machine.next() as Promise<IteratorResult<unknown, undefined>> as Promise<IteratorResult<Connection<A>, undefined>>
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
   * are reset. Open connections continue, unless `closeExistingConnections` or `forceAfter` says otherwise. Idempotent: further plain calls
   * return the same promise; a stricter call overrides a milder one. Async: `close`.
   *
   * @throws {TypeError | RangeError} If an option is wrong; the server is then left as it is.
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
    const machine = this.#machine
    const closed = machine.close()
    machine.lifetime.forceAfter(forceAfter)
    return closeExistingConnections ? machine.closeWithConnections() : closed
  }

  /**
   * Checks the internal state, for tests. Async: `invariant`.
   *
   * @throws {Error} If the state is inconsistent, which is a bug of this library.
   */
  invariant(): void {
    this.#machine.invariant()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#machine.closeAndFinish(DEFAULT_FORCE_AFTER)
  }

  /** What `console.log` shows. */
  [inspect.custom](_depth: number, options: InspectOptions): string {
    const { lifetime, maxConnections, statistics } = this.#machine
    return `Server ${inspect({ address: formatAddress(this.address), state: lifetime.state, maxConnections, ...statistics }, options)}`
  }
}

/** A server over TCP; `listeningOn` is its port. */
export type InetServer = Server<InetAddress, number>
/** A server on a Unix-domain socket; `listeningOn` is its path. */
export type UnixServer = Server<UnixAddress, string>

/** What users hold of a machine, and what it then tells them by. */
export function serverOver<A extends SocketAddress, L>(machine: ListeningServer): Server<A, L> {
  return wrap(machine)
}
