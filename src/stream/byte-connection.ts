// The close protocol: how a reader, a writer and what carries them end together.

import type { Socket } from 'node:net'
import { formatAddress, type SocketAddress } from '../address.ts'
import { Deferred, muted } from '../async/deferred.ts'
import { AbortController, setImmediate } from '../async/platform.ts'
import type { StallTimer } from '../async/stall-timer.ts'
import { isFirstClock, startTimer } from '../async/timer.ts'
import type { CloseOptions, Connection } from '../connection.ts'
import { connectionClose } from '../diagnostics.ts'
import { asDeliberate, ConnectionClosedError, isFrom, withOrigin } from '../errors.ts'
import { type ConnectionSettings, DEFAULT_FORCE_AFTER, DEFAULT_LINGER } from '../options.ts'
import type { Writer } from '../writer.ts'
import { brokenBy, truncated } from './broken.ts'
import { ByteReader } from './byte-reader.ts'
import { ByteWriter, createWriter } from './byte-writer.ts'
import type { ConnectionInit } from './connection-init.ts'
import { publishClose, publishOpen } from './connection-news.ts'
import { limitIdleness } from './idleness.ts'
import { Incoming } from './incoming.ts'
import { Outgoing } from './outgoing.ts'
import type { OutgoingOwner } from './outgoing-owner.ts'
import type { ReadBuffer } from './read-buffer.ts'
import type { EndKind, Transport, TransportEvents } from './transport.ts'

// open → closing → closed: by close(). open | closing → ended → closed: the peer, the network, a limit or abort() ended it, and
// the carrier is on its way to be released. open → closed: both sides had finished. open → detached → closed: somebody else has the socket.
type State = 'open' | 'closing' | 'ended' | 'detached' | 'closed'

/** Milliseconds from which on a limit may begin to count a turn late. */
const PATIENCE_WITHOUT_TIMER = 1_000

/** The machine under a {@link Connection}. */
export class ByteConnection<A extends SocketAddress> implements TransportEvents, OutgoingOwner {
  readonly incoming: Incoming
  readonly outgoing: Outgoing
  readonly reader: ByteReader
  readonly writer: Writer
  /** What users hold; set by whoever makes both. */
  facade!: Connection<A>
  readonly init: ConnectionInit<A, ByteConnection<A>>
  #transport: Transport
  #state: State = 'open'
  // What ended the connection, if it was not an orderly close.
  #reason: { readonly reason: unknown } | undefined
  #controller: AbortController | undefined
  #closed: Deferred | undefined
  #closing: Promise<void> | undefined
  #stopTimer: (() => void) | undefined
  #linger = DEFAULT_LINGER
  // For how long it waits for the peer's FIN, once it does.
  #lingersFor: number | undefined
  #forceAt = Number.POSITIVE_INFINITY
  #idle: StallTimer | undefined
  #broken: Error | undefined
  #openedAt: number | undefined

  constructor(transport: Transport, settings: ConnectionSettings, init: ConnectionInit<A, ByteConnection<A>>) {
    this.init = init
    this.#transport = transport
    this.incoming = new Incoming(transport, settings.readerBufferSize, this)
    this.outgoing = new Outgoing(transport, this, settings.bufferAgeLimit)
    this.reader = new ByteReader(this.incoming)
    this.writer = createWriter(new ByteWriter(this.outgoing, this))
    this.#idle = limitIdleness(settings.idleTimeout, this)
    this.#openedAt = publishOpen(this)
    transport.open(this)
  }

  get transport(): Transport {
    return this.#transport
  }

  get state(): State {
    return this.#state
  }

  get socket(): Socket {
    return this.#transport.socket as Socket
  }

  /** How messages name the other end. */
  get peer(): string {
    return this.init.peer ?? formatAddress(this.init.remoteAddress)
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.#state === 'closed') this.#controller.abort(this.#closeReason)
    }
    return this.#controller.signal
  }

  get closed(): Promise<void> {
    if (this.#closed === undefined) {
      this.#closed = new Deferred()
      if (this.#state === 'closed') this.#closed.resolve()
    }
    return this.#closed.promise
  }

  /** Whether `error` is of this connection, and not of another that its handler uses. */
  isOrigin(error: Error): boolean {
    return isFrom(error, this)
  }

  /** Whether what went wrong was told by a read, a write or a sink already, or is none of the owner's business. */
  get isQuiet(): boolean {
    return this.init.isAccepted || this.incoming.wasReported || this.outgoing.wasReported
  }

  close(options: CloseOptions = {}): Promise<void> {
    this.startClosing(options.forceAfter ?? DEFAULT_FORCE_AFTER, options.linger)
    if (this.#closing === undefined) {
      // Whoever closes and does not wait is not told what was lost.
      this.#closing = muted(this.#close())
    }
    return this.#closing
  }

  abort(reason?: unknown): void {
    if (this.#isOver) return
    const error = asDeliberate(this.#closedError('The connection was aborted', reason))
    this.#end(reason === undefined ? error : reason)
    this.incoming.close(() => error)
    this.outgoing.fail(error)
    this.outgoing.forget(error)
    this.#transport.reset()
  }

  /** Starts what `close()` waits for. */
  startClosing(forceAfter: number, linger?: number): void {
    if (this.#state === 'detached') return
    if (linger !== undefined) this.#linger = Math.min(this.#linger, linger)
    if (this.#state === 'open') this.#state = 'closing'
    this.incoming.close(this.#useAfterClose)
    this.outgoing.finish()
    if (this.outgoing.isFailed) {
      this.outgoing.forget(this.#useAfterClose())
      // A write has failed before: there is nothing left to wait for, and no peer may take what it got for the whole.
      this.#transport.reset()
    } else if (this.#state === 'closing' && this.outgoing.isFinished && !this.#transport.isDestroyed) {
      this.#waitForPeer()
    }
    this.#forceAfter(forceAfter)
  }

  /** Puts another carrier in the place of the one that gave up its socket. Nothing may be in flight. */
  switchTo(transport: Transport): void {
    this.#transport = transport
    this.incoming.transport = transport
    this.outgoing.transport = transport
    transport.open(this)
  }

  /** Ends this object's part of the connection, whose socket somebody else has from now on. */
  markDetached(): void {
    this.#state = 'detached'
    this.#idle?.stop()
    const error = (): Error => this.#closedError('The connection was detached')
    this.incoming.close(error)
    this.outgoing.fail(error())
  }

  // News of the transport ---------------------------------------------------------------------------------------------

  received(buffer: ReadBuffer, length: number): boolean {
    return this.incoming.received(buffer, length)
  }

  written(error?: Error): void {
    this.outgoing.written(error)
  }

  finished(error?: Error): void {
    this.outgoing.finished(error)
  }

  ended(kind: EndKind): void {
    if (kind === 'cut') this.incoming.break(withOrigin(truncated(this.peer), this))
    else this.incoming.end()
    if (this.outgoing.isFinished) this.#transport.destroy()
  }

  broken(cause: Error): void {
    const error = this.#brokenBy(cause)
    this.#end(error)
    this.incoming.break(error)
    this.outgoing.fail(error)
  }

  released(): void {
    const isOrderly = this.outgoing.isFinished && (this.#state === 'closing' || this.incoming.isOver)
    if ((this.#state === 'open' || this.#state === 'closing') && !isOrderly) {
      // Somebody destroyed the socket itself.
      const error = this.#closedError('The socket was destroyed')
      this.#end(error)
      this.incoming.close(() => error)
      this.outgoing.fail(error)
    }
    this.#state = 'closed'
    this.#stopTimer?.()
    this.#idle?.stop()
    this.incoming.release()
    this.#controller?.abort(this.#closeReason)
    this.#closed?.resolve()
    if (connectionClose.hasSubscribers) publishClose(this, this.#openedAt, this.#closeReason)
    this.init.onClosed?.(this)
  }

  // What the sending side tells ---------------------------------------------------------------------------------------

  get canRelease(): boolean {
    return this.incoming.isOver && !this.#transport.mustEnd
  }

  writerClosed(): void {
    if (this.incoming.isOver) this.#transport.destroy()
    else if (this.#state === 'closing') this.#waitForPeer()
  }

  writeFailed(cause: Error): Error {
    const error = this.#brokenBy(cause)
    // The reader goes on to what has arrived; the transport tells when that is all.
    if (this.#state === 'closing') {
      this.#end(error)
      this.#transport.reset()
    }
    return error
  }

  breakOff(error: Error): void {
    if (this.#isOver) return
    this.#end(error)
    this.incoming.break(error)
    this.outgoing.fail(error)
    this.#transport.reset()
  }

  get #isOver(): boolean {
    return this.#state === 'ended' || this.#state === 'closed' || this.#state === 'detached'
  }

  async #close(): Promise<void> {
    if (this.#state === 'detached') return
    if (this.#state !== 'closed') await this.closed
    if (this.outgoing.undelivered !== undefined) throw this.outgoing.undelivered
  }

  get #useAfterClose(): () => Error {
    return () => this.#closedError('The connection is closed')
  }

  // Aborts after `delay`, unless all is handed over by then. The earliest of several calls counts.
  #forceAfter(delay: number): void {
    if (this.#state !== 'closing' || this.outgoing.isFinished || delay === Number.POSITIVE_INFINITY) return
    const at = performance.now() + delay
    if (at >= this.#forceAt) return
    this.#forceAt = at
    // A timer costs more than all else here, and mostly everything is over by then.
    if (delay > PATIENCE_WITHOUT_TIMER && isFirstClock()) setImmediate(inAnotherTurn, this, at, delay)
    else this.forceAt(at, delay)
  }

  /** Aborts at this time, unless something earlier was asked for, or it is over by now. */
  forceAt(at: number, delay: number): void {
    if (this.#forceAt !== at || this.#state !== 'closing' || this.outgoing.isFinished) return
    // What the system has taken may be told only at the end of the turn.
    this.#after(at - performance.now(), () =>
      setImmediate(() => {
        if (this.outgoing.bytesPending > 0) this.breakOff(this.#closedError(`Not everything was handed over within ${delay} ms of close()`))
        // The end itself may wait for the peer, over TLS.
        else if (!this.outgoing.isFinished) this.#after(DEFAULT_LINGER, () => this.#transport.reset())
      })
    )
  }

  // Everything is sent: give the peer time to read it and to answer with its FIN. Closed with unread input, TCP would reset what is in flight.
  #waitForPeer(): void {
    if (this.#lingersFor === this.#linger) return
    this.#lingersFor = this.#linger
    if (this.#linger === 0) this.#transport.destroy()
    else this.#after(this.#linger, () => this.#transport.destroy())
  }

  #after(delay: number, then: () => void): void {
    this.#stopTimer?.()
    this.#stopTimer = startTimer(delay, then)
  }

  #end(reason: unknown): void {
    if (this.#state !== 'closed') this.#state = 'ended'
    this.#reason ??= { reason }
  }

  get #closeReason(): unknown {
    this.#reason ??= { reason: this.#closedError('The connection is closed') }
    return this.#reason.reason
  }

  #closedError(message: string, cause?: unknown): ConnectionClosedError {
    return withOrigin(new ConnectionClosedError(message, cause === undefined ? undefined : { cause }), this)
  }

  // One error for all who are told: a write and a read that fail of the same reset.
  #brokenBy(cause: Error): Error {
    this.#broken ??= withOrigin(brokenBy(this.peer, cause), this)
    return this.#broken
  }
}

type Forced = Pick<ByteConnection<SocketAddress>, 'forceAt'>

function inAnotherTurn(connection: Forced, at: number, delay: number): void {
  setImmediate(force, connection, at, delay)
}

function force(connection: Forced, at: number, delay: number): void {
  connection.forceAt(at, delay)
}
