// The duplex of a reader and a writer, and the close protocol.

import type { Socket } from 'node:net'
import { formatAddress, type InetAddress, inetAddress, type SocketAddress } from '../address.ts'
import { Deferred } from '../async/deferred.ts'
import { StallLimit } from '../async/stall-timer.ts'
import { startTimer } from '../async/timer.ts'
import type { CloseOptions, Connection } from '../connection.ts'
import {
  type ConnectionCloseMessage,
  type ConnectionOpenMessage,
  connectionClose,
  connectionOpen,
  type ObservedServer
} from '../diagnostics.ts'
import { ConnectionClosedError, ConnectionResetError, describeSystemError, IdleTimeoutError, isFrom, withOrigin } from '../errors.ts'
import { type ConnectionSettings, checkDelay, checkOptions, DEFAULT_FORCE_AFTER } from '../options.ts'
import type { Reader } from '../reader.ts'
import type { Writer } from '../writer.ts'
import { ByteReader } from './byte-reader.ts'
import { ByteWriter, createWriter, type WriterOwner } from './byte-writer.ts'
import { ByteSocket, type SocketEvents } from './net-transport.ts'

/** How long `close()` waits for the peer's FIN: a descriptor closed with unread input sends a RST, which discards the reply in flight. */
const LINGER = 2_000

/** What made the connection, and so who is told of its end. */
export interface ConnectionInit<A extends SocketAddress> {
  readonly remoteAddress: A
  readonly localAddress: A
  /** Whether a server accepted it: disposing then does not throw for what the client did. */
  readonly isAccepted: boolean
  /** The server that accepted it. */
  readonly server?: ObservedServer
  /** Called when the descriptor is closed. */
  readonly onClosed?: (connection: ByteConnection<SocketAddress>) => void
}

// open → closing → closed: by close(). open | closing → ended → closed: the peer, the network, a limit or abort() ended it, and
// the descriptor is on its way to be closed. open → closed: both sides had finished.
type State = 'open' | 'closing' | 'ended' | 'closed'

/** The implementation of {@link Connection}. */
export class ByteConnection<A extends SocketAddress> implements Connection<A>, SocketEvents, WriterOwner {
  readonly reader: ByteReader
  readonly writer: Writer
  readonly #writer: ByteWriter
  readonly #socket: ByteSocket
  readonly #init: ConnectionInit<A>
  #state: State = 'open'
  // What ended the connection, if it was not an orderly close.
  #reason: unknown
  #controller: AbortController | undefined
  #closed: Deferred | undefined
  #closing: Promise<void> | undefined
  #stopTimer: (() => void) | undefined
  #isLingering = false
  #wasAborted = false
  #forceAt = Number.POSITIVE_INFINITY
  #idle: StallLimit | undefined
  #reset: ConnectionResetError | undefined
  #openedAt: number | undefined

  constructor(socket: Socket, settings: ConnectionSettings, init: ConnectionInit<A>) {
    this.#init = init
    this.#socket = new ByteSocket(socket, this)
    this.reader = new ByteReader(settings.readerBufferSize, this.#socket, this)
    this.#writer = new ByteWriter(this.#socket, this, settings.bufferAgeLimit)
    this.writer = createWriter(this.#writer)
    if (settings.idleTimeout !== Number.POSITIVE_INFINITY) this.#limitIdleness(settings.idleTimeout)
    if (connectionClose.hasSubscribers) this.#openedAt = performance.now()
    if (connectionOpen.hasSubscribers) connectionOpen.publish(this.#describe())
    this.#socket.resume()
  }

  /** What made it, for whoever that was. */
  get init(): ConnectionInit<A> {
    return this.#init
  }

  get socket(): Socket {
    return this.#socket.socket
  }

  get remoteAddress(): A {
    return this.#init.remoteAddress
  }

  get localAddress(): A {
    return this.#init.localAddress
  }

  get source(): Reader {
    return this.reader
  }

  get sink(): Writer {
    return this.writer
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

  /** Whether `abort()` is what ended it. */
  get wasAborted(): boolean {
    return this.#wasAborted
  }

  /** Whether `error` is of this connection, and not of another that its handler uses. */
  isOrigin(error: Error): boolean {
    return isFrom(error, this)
  }

  close(options: CloseOptions = {}): Promise<void> {
    try {
      checkOptions('Cannot close', options)
      if (options.forceAfter !== undefined) checkDelay('Cannot close', 'forceAfter', options.forceAfter)
    } catch (error) {
      return Promise.reject(error)
    }
    this.startClosing(options.forceAfter ?? DEFAULT_FORCE_AFTER)
    if (this.#closing === undefined) {
      this.#closing = this.#close()
      // Whoever closes and does not wait is not told what was lost.
      this.#closing.catch(ignore)
    }
    return this.#closing
  }

  abort(reason?: unknown): void {
    if (this.#state === 'ended' || this.#state === 'closed') return
    this.#wasAborted = true
    const error = this.#closedError('The connection was aborted', reason)
    this.#end(reason ?? error)
    this.reader.close(() => error)
    this.#writer.fail(error)
    this.#writer.forget(error)
    this.#socket.reset()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const isQuiet = this.#init.isAccepted || this.reader.hasTold || this.#writer.hasTold
    try {
      await this.close()
    } catch (error) {
      if (!isQuiet) throw error
    }
  }

  // What the socket tells ---------------------------------------------------------------------------------------------

  received(bytes: Uint8Array, length: number, lent: boolean): boolean {
    return this.reader.received(bytes, length, lent)
  }

  get keepsChunks(): boolean {
    return this.reader.keepsChunks
  }

  peerEnded(): void {
    this.reader.peerEnded()
    if (this.#writer.isFinished) this.#socket.destroy()
  }

  broken(cause: Error): void {
    const error = this.#resetError(cause)
    this.#end(error)
    this.reader.broken(error)
    this.#writer.fail(error)
  }

  released(): void {
    if (this.#state === 'open' && !(this.reader.isOver && this.#writer.isFinished)) {
      // Somebody destroyed the socket itself.
      const error = this.#closedError('The socket was destroyed')
      this.#end(error)
      this.reader.close(() => error)
      this.#writer.fail(error)
    }
    this.#state = 'closed'
    this.#stopTimer?.()
    this.#idle?.stop()
    this.reader.released()
    this.#controller?.abort(this.#closeReason)
    this.#closed?.resolve()
    if (connectionClose.hasSubscribers) this.#publishClose()
    this.#init.onClosed?.(this)
  }

  // What the writer tells ---------------------------------------------------------------------------------------------

  get canRelease(): boolean {
    return this.reader.isOver
  }

  writerClosed(): void {
    if (this.reader.isOver) this.#socket.destroy()
    else if (this.#state === 'closing') this.#linger()
  }

  writeFailed(cause: Error): Error {
    const error = this.#resetError(this.socket.errored ?? cause)
    // The reader goes on to what has arrived; the socket tells when that is all.
    if (this.#state === 'closing') {
      this.#end(error)
      this.#socket.reset()
    } else {
      this.#socket.writeFailed(cause)
    }
    return error
  }

  breakOff(error: Error): void {
    if (this.#state === 'ended' || this.#state === 'closed') return
    this.#end(error)
    this.reader.broken(error)
    this.#writer.fail(error)
    this.#socket.reset()
  }

  // -------------------------------------------------------------------------------------------------------------------

  /** Starts what `close()` waits for. */
  startClosing(forceAfter: number): void {
    if (this.#state === 'open') this.#state = 'closing'
    this.reader.close(this.#useAfterClose)
    this.#writer.finish()
    if (this.#writer.isFailed) {
      this.#writer.forget(this.#useAfterClose())
      // A write has failed before: there is nothing left to wait for, and no peer may take what it got for the whole.
      this.#socket.reset()
    } else if (this.#state === 'closing' && this.#writer.isFinished && !this.#isLingering && !this.#socket.isDestroyed) {
      this.#linger()
    }
    this.#forceAfter(forceAfter)
  }

  async #close(): Promise<void> {
    if (this.#state !== 'closed') await this.closed
    if (this.#writer.lost !== undefined) throw this.#writer.lost
  }

  get #useAfterClose(): () => Error {
    return () => this.#closedError('The connection is closed')
  }

  // Aborts after `delay`, unless all is with the operating system by then. The earliest of several calls counts.
  #forceAfter(delay: number): void {
    if (this.#state !== 'closing' || this.#writer.isFinished || delay === Number.POSITIVE_INFINITY) return
    const at = performance.now() + delay
    if (at >= this.#forceAt) return
    this.#forceAt = at
    this.#after(delay, () => {
      if (this.#writer.bytesPending > 0) this.breakOff(this.#closedError(`Not all was handed over within ${delay} ms of close()`))
    })
  }

  // Everything is sent: give the peer time to read it and to answer with its FIN.
  #linger(): void {
    this.#isLingering = true
    this.#after(LINGER, () => this.#socket.destroy())
  }

  #after(delay: number, then: () => void): void {
    this.#stopTimer?.()
    this.#stopTimer = startTimer(delay, then)
  }

  #describe(): ConnectionOpenMessage {
    const { remoteAddress, localAddress, isAccepted, server = null } = this.#init
    return { socket: this.socket, remoteAddress, localAddress, isAccepted, server }
  }

  #publishClose(): void {
    const message: ConnectionCloseMessage = {
      ...this.#describe(),
      bytesRead: this.reader.bytesRead,
      bytesWritten: this.#writer.bytesWritten,
      duration: this.#openedAt === undefined ? undefined : performance.now() - this.#openedAt,
      reason: this.#closeReason
    }
    connectionClose.publish(message)
  }

  #limitIdleness(limit: number): void {
    const progress = (): number => this.reader.bytesRead + this.#writer.bytesWritten
    this.#idle = new StallLimit(limit, progress, () => {
      const message = `No byte went to or came from ${formatAddress(this.remoteAddress)} for ${limit} ms`
      this.breakOff(withOrigin(new IdleTimeoutError(message), this))
    })
    this.#idle.start()
  }

  #end(reason: unknown): void {
    if (this.#state !== 'closed') this.#state = 'ended'
    this.#reason ??= reason
  }

  get #closeReason(): unknown {
    this.#reason ??= this.#closedError('The connection is closed')
    return this.#reason
  }

  #closedError(message: string, cause?: unknown): ConnectionClosedError {
    return withOrigin(new ConnectionClosedError(message, cause === undefined ? undefined : { cause }), this)
  }

  #resetError(cause: Error): ConnectionResetError {
    // One error for all who are told: a write and a read that fail of the same reset.
    this.#reset ??= withOrigin(
      new ConnectionResetError(`The connection with ${formatAddress(this.remoteAddress)} broke: ${describeSystemError(cause)}`, { cause }),
      this
    )
    return this.#reset
  }
}

function ignore(): void {}

/** The addresses of a connected TCP socket. */
export function socketAddresses(socket: Socket): { remoteAddress: InetAddress; localAddress: InetAddress } {
  const { remoteAddress = '', remotePort = 0, localAddress = '', localPort = 0 } = socket
  return { remoteAddress: inetAddress(remoteAddress, remotePort), localAddress: inetAddress(localAddress, localPort) }
}
