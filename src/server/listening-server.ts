// The machine of a server: who takes its clients, and its life from the first to the end of the last handler.

import { formatAddress, type SocketAddress } from '../address.ts'
import { onceAborted } from '../async/abort.ts'
import { muted } from '../async/deferred.ts'
import type { Connection } from '../connection.ts'
import type { ObservedServer } from '../diagnostics.ts'
import { BusyError, ServerClosedError } from '../errors.ts'
import { type ConnectionSettings, checkOptions, checkSignal, DEFAULT_FORCE_AFTER } from '../options.ts'
import type { ServerStatistics } from '../server-statistics.ts'
import type { ByteConnection } from '../stream/byte-connection.ts'
import type { Upgrade } from '../stream/connection-init.ts'
import { upgradeTo } from '../tls/start-tls.ts'
import { Consumers, type ConsumersOwner } from './consumers.ts'
import { Gatekeeper, type GateOwner } from './gatekeeper.ts'
import { type HandlerErrorPolicy, HandlerErrors, type Raisable } from './handler-errors.ts'
import { Lifetime } from './lifetime.ts'
import type { Accepted, GatedListener } from './listening-socket.ts'
import { type EntryRules, Reception, type ReceptionOwner } from './reception.ts'
import { Slots, slotOf } from './slots.ts'
import { type AnyHandler, type HandlerOwner, StandingHandler } from './standing-handler.ts'
import { Tally } from './tally.ts'

export interface ListeningServerInit extends EntryRules {
  readonly socket: GatedListener
  readonly settings: ConnectionSettings
  readonly listeningOn: unknown
  readonly maxConnections: number
  readonly warnAtLimit: boolean
  readonly handler: AnyHandler | undefined
  readonly policy: HandlerErrorPolicy
  readonly signal: AbortSignal | undefined
}

/** The machine under a `Server`. It accepts once it has been started. */
export class ListeningServer implements ConsumersOwner, GateOwner, HandlerOwner, Raisable, ReceptionOwner {
  readonly socket: GatedListener
  readonly listeningOn: unknown
  readonly lifetime: Lifetime
  readonly upgrade: Upgrade<ByteConnection<SocketAddress>>
  readonly #slots = new Slots()
  readonly #tally = new Tally()
  readonly #gate: Gatekeeper
  readonly #errors: HandlerErrors
  readonly #reception: Reception
  readonly #handler: StandingHandler | undefined
  readonly #consumers: Consumers
  readonly #unhook: () => void
  #shell: ObservedServer | undefined
  #maxConnections: number
  #isDropping = false

  constructor(init: ListeningServerInit) {
    const { socket, settings, handler, warnAtLimit, policy, signal } = init
    this.socket = socket
    this.listeningOn = init.listeningOn
    this.#maxConnections = init.maxConnections
    this.upgrade = upgradeTo(undefined, init.handshakeTimeout)
    this.lifetime = new Lifetime(socket.address, this.#slots, handler !== undefined, this)
    this.#gate = new Gatekeeper(socket, this, warnAtLimit)
    this.#errors = new HandlerErrors(this, policy)
    this.#handler = handler === undefined ? undefined : new StandingHandler(handler, this.#errors, this)
    this.#consumers = new Consumers(this.#handler, this)
    this.#reception = new Reception({ socket, settings, slots: this.#slots, tally: this.#tally, gate: this.#gate, owner: this }, init)
    this.#unhook = onceAborted(signal, () => void this.close())
  }

  /** Lets clients in. `shell` is what users hold. */
  start(shell: ObservedServer): void {
    this.#shell = shell
    this.#gate.adjust()
  }

  get shell(): ObservedServer {
    return this.#shell as ObservedServer
  }

  get address(): SocketAddress {
    return this.socket.address
  }

  get numConnections(): number {
    return this.#slots.inUse
  }

  get numDropped(): number {
    return this.#tally.dropped
  }

  get statistics(): ServerStatistics {
    return this.#tally.statistics(this.#slots, this.#errors, this.socket)
  }

  /** The connections that were handed out and whose descriptor is open. */
  get connections(): readonly Connection[] {
    return this.#slots.open.filter((connection) => slotOf(connection).state === 'served').map(({ facade }) => facade)
  }

  get maxConnections(): number {
    return this.#maxConnections
  }

  set maxConnections(value: number) {
    this.#maxConnections = value
    this.#gate.adjust()
  }

  get isDropping(): boolean {
    return this.#isDropping
  }

  set isDropping(value: boolean) {
    this.#isDropping = value
    this.#gate.adjust()
  }

  // What its parts ask and tell ---------------------------------------------------------------------------------------

  get wantsClients(): boolean {
    if (this.lifetime.isClosing) return false
    return this.#isDropping || (!this.isFull && this.#consumers.areWaiting)
  }

  get isFull(): boolean {
    return this.#slots.inUse >= this.#maxConnections
  }

  get hasHandler(): boolean {
    return this.#handler !== undefined
  }

  get takesNobody(): boolean {
    return this.#isDropping || this.lifetime.isClosing
  }

  arrived(client: Accepted): void {
    this.#reception.arrived(client)
  }

  acceptFailed(error: Error): void {
    this.#gate.acceptFailed(error)
  }

  entered(connection: ByteConnection<SocketAddress>, isReady: boolean): void {
    if (isReady) this.#makeReady(connection)
    // The gate first: the handler may look at the server. Whoever listens to the diagnostics may change it: look again at each step.
    this.#gate.afterAccept()
    if (this.isFull) this.#gate.limitReached(this.#maxConnections)
    this.#consumers.handOut()
  }

  passed(connection: ByteConnection<SocketAddress>): void {
    this.#makeReady(connection)
    this.#consumers.handOut()
    this.#gate.afterHandOut()
  }

  connectionClosed(connection: ByteConnection<SocketAddress>): void {
    const slot = slotOf(connection)
    this.#slots.closed(connection)
    if (slot.state === 'ready') {
      // It broke off while it waited, and is never handed out.
      this.#consumers.remove(connection)
      this.#reception.drop(connection)
    } else if (slot.state !== 'arriving' && !slot.isHandled) {
      this.settle(connection)
    }
  }

  handlerEnded(connection: ByteConnection<SocketAddress>): void {
    // What a client does not take after its handler ended well is not the handler's error.
    if (slotOf(connection).isOpen) connection.startClosing(DEFAULT_FORCE_AFTER)
    else this.settle(connection)
  }

  admitFailed(address: SocketAddress, error: unknown): void {
    this.#errors.admitFailed(address, error)
  }

  stopWith(error: unknown): void {
    void this.close()
    this.lifetime.fail(error)
  }

  // The descriptor is closed, and the handler has ended: what is left is the policy for its error.
  settle(connection: ByteConnection<SocketAddress>): void {
    const report = this.#errors.settle(slotOf(connection))
    if (report === undefined) this.#freeSlot(connection)
    else void report.then(() => this.#freeSlot(connection))
  }

  #freeSlot(connection: ByteConnection<SocketAddress>): void {
    this.#slots.free()
    this.#reception.released(connection)
    this.#gate.adjust()
    this.lifetime.slotFreed()
  }

  // Consumers ---------------------------------------------------------------------------------------------------------

  accept(options: { signal?: AbortSignal }): Promise<Connection> {
    try {
      checkOptions('Cannot accept', options)
      checkSignal('Cannot accept', options.signal)
      this.#checkPull()
    } catch (error) {
      return Promise.reject(error)
    }
    return muted(this.#pullWithin(options.signal))
  }

  // One that is begun ahead, and that nobody waits for when the server closes, ends no process.
  async #pullWithin(signal: AbortSignal | undefined): Promise<Connection> {
    if (signal?.aborted === true) throw signal.reason
    if (this.lifetime.isClosing) throw this.lifetime.closedError()
    return await (signal === undefined ? this.#consumers.pull() : this.#consumers.pullUntil(signal))
  }

  async next(): Promise<IteratorResult<Connection, undefined>> {
    this.#checkPull()
    if (this.lifetime.isClosing) return { value: undefined, done: true }
    try {
      return { value: await this.#consumers.pull(), done: false }
    } catch (error) {
      if (error instanceof ServerClosedError) return { value: undefined, done: true }
      throw error
    }
  }

  #checkPull(): void {
    if (this.#handler !== undefined) throw new BusyError("Cannot pull as this server's handler takes all connections")
  }

  appetiteChanged(): void {
    this.#gate.adjust()
  }

  handsOut(connection: ByteConnection<SocketAddress>): boolean {
    if (connection.transport.isDestroyed) {
      this.#reception.drop(connection)
      return false
    }
    slotOf(connection).state = 'served'
    this.#tally.left('served')
    return true
  }

  #makeReady(connection: ByteConnection<SocketAddress>): void {
    slotOf(connection).state = 'ready'
    this.#consumers.add(connection)
  }

  // Shutdown ----------------------------------------------------------------------------------------------------------

  /** Starts to close. Resolves when the listening socket is closed, and the same promise every time. */
  close(): Promise<void> {
    if (!this.lifetime.isClosing) this.#close()
    return this.lifetime.closed
  }

  /** Aborts the open connections, and resolves when they are closed too. */
  async closeWithConnections(): Promise<void> {
    const closing = this.close()
    const connections = this.#slots.cutAll()
    await Promise.all([closing, ...connections.map((connection) => connection.closed)])
  }

  /** Closes, and resolves when every connection and handler has ended, as they do by themselves or by force after `delay`. */
  async closeAndFinish(delay: number): Promise<void> {
    this.lifetime.forceAfter(delay)
    await this.close()
    await this.lifetime.emptied()
    await this.lifetime.finished
  }

  #close(): void {
    this.lifetime.start()
    this.#unhook()
    this.#consumers.close(() => this.lifetime.closedError())
    if (this.#tally.underway > 0) this.#reception.dropAll()
    void this.lifetime.tell(this.#gate.close())
  }

  invariant(): void {
    const check = (holds: boolean, what: string): void => {
      if (!holds) throw new Error(`Invariant of the server on ${formatAddress(this.address)} broken: ${what}`)
    }
    const running = this.#handler?.running ?? 0
    check(running <= this.#slots.inUse, `${running} handlers in ${this.#slots.inUse} slots`)
    check(!this.lifetime.isClosing || !this.socket.isOpen, 'the gate of a closed server is open')
    const underway = this.#slots.open.filter((connection) => /^(?:arriving|ready)$/.test(slotOf(connection).state)).length
    check(underway <= this.#tally.underway, `${underway} clients under way, and ${this.#tally.underway} are counted`)
    this.#consumers.invariant(check, this.lifetime.isClosing)
    this.#slots.invariant(check)
    this.#tally.invariant(check)
    this.#reception.invariant(check)
    this.#gate.invariant(check)
  }
}
