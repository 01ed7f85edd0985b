// A connection as a Duplex of Node.js, with the members by which clients know a socket.

import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import type { SocketAddress } from '../address.ts'
import { doNothing } from '../async/do-nothing.ts'
import { startTimer } from '../async/timer.ts'
import type { ByteStream, Connection } from '../connection.ts'
import type { ConnectionDuplex } from '../duplex.ts'
import { ConnectionClosedError } from '../errors.ts'
import { checkDelay, checkFunction } from '../options.ts'
import type { Bytes } from '../reader.ts'

type Callback = (error?: Error | null) => void

/** The implementation of {@link ConnectionDuplex}. */
export class SocketLikeDuplex extends Duplex implements ConnectionDuplex {
  /** As of a socket: it is connected. */
  readonly connecting = false
  readonly remoteAddress: string | undefined
  readonly remotePort: number | undefined
  readonly remoteFamily: 'IPv4' | 'IPv6' | undefined
  readonly localAddress: string | undefined
  readonly localPort: number | undefined
  timeout = 0
  readonly #stream: ByteStream & Partial<Connection>
  #isReading = false
  #stopTimer: (() => void) | undefined

  constructor(stream: ByteStream & Partial<Connection>) {
    // The connection reads ahead itself, and what it has keeps when it breaks. What a Duplex has read ahead would be thrown away.
    super({ allowHalfOpen: true, readableHighWaterMark: 0 })
    this.#stream = stream
    const { address, port, family } = inet(stream.remoteAddress)
    this.remoteAddress = address
    this.remotePort = port
    this.remoteFamily = family
    ;({ address: this.localAddress, port: this.localPort } = inet(stream.localAddress))
    if (stream.signal.aborted) this.#onReleased()
    else stream.signal.addEventListener('abort', this.#onReleased, { once: true })
  }

  get bytesRead(): number {
    return this.#stream.reader.bytesRead
  }

  get bytesWritten(): number {
    return this.#stream.writer.bytesWritten
  }

  override _read(): void {
    this.#isReading = true
    this.#stream.reader.read().then(this.#onRead, this.#onFailure)
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Callback): void {
    this.#send([chunk], callback)
  }

  override _writev(entries: { chunk: Buffer }[], callback: Callback): void {
    this.#send(
      entries.map(({ chunk }) => chunk),
      callback
    )
  }

  override _final(callback: Callback): void {
    this.#stream.writer.close().then(() => callback(), callback)
  }

  override _destroy(error: Error | null, callback: Callback): void {
    this.#stopTimer?.()
    const stream = this.#stream
    if (error === null) stream.close({ forceAfter: 0, linger: 0 }).catch(doNothing)
    else stream.abort(error)
    void stream.closed.then(() => callback(error))
  }

  // As of a socket ----------------------------------------------------------------------------------------------------

  setTimeout(delay: number, callback?: () => void): this {
    checkDelay('Cannot set the timeout', 'timeout', delay)
    if (callback !== undefined) {
      checkFunction('Cannot set the timeout', 'callback', callback)
      if (delay === 0) this.off('timeout', callback)
      else this.once('timeout', callback)
    }
    this.timeout = delay
    this.#moved()
    return this
  }

  setNoDelay(isOn?: boolean): this {
    return this.#withSocket((socket) => socket.setNoDelay(isOn))
  }

  setKeepAlive(isOn?: boolean, initialDelay?: number): this {
    return this.#withSocket((socket) => socket.setKeepAlive(isOn, initialDelay))
  }

  ref(): this {
    return this.#withSocket((socket) => socket.ref())
  }

  unref(): this {
    return this.#withSocket((socket) => socket.unref())
  }

  // -------------------------------------------------------------------------------------------------------------------

  readonly #onRead = (chunk: Bytes | null): void => {
    this.#isReading = false
    this.#moved()
    this.push(chunk === null ? null : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength))
  }

  readonly #onFailure = (error: Error): void => {
    // Of an end by one's own hand whoever listens is told, and nobody dies: on a server that would be of its own shutdown.
    const isOwn = error instanceof ConnectionClosedError && this.listenerCount('error') === 0
    this.destroy(isOwn ? undefined : error)
  }

  // Whoever reads is told by the read, behind what had arrived; others have to be told here.
  readonly #onReleased = (): void => {
    if (this.#isReading || this.readableEnded || this.#stream.reader.bytesAvailable > 0) return
    this.#isReading = true
    this.#stream.reader.read().then(this.#onRead, this.#onFailure)
  }

  #send(chunks: readonly Buffer[], callback: Callback): void {
    const { writer } = this.#stream
    this.#moved()
    try {
      for (const chunk of chunks) writer.write(chunk)
    } catch (error) {
      callback(error as Error)
      return
    }
    writer.flushed().then(() => {
      this.#moved()
      callback()
    }, callback)
  }

  // A socket's timeout is for silence in both directions.
  #moved(): void {
    this.#stopTimer?.()
    this.#stopTimer = undefined
    if (this.timeout === 0 || this.destroyed) return
    // What is watched keeps the process alive, or was told not to.
    this.#stopTimer = startTimer(this.timeout, () => this.emit('timeout'), false)
  }

  #withSocket(set: (socket: Socket) => void): this {
    const { socket } = this.#stream
    if (socket !== undefined) set(socket)
    return this
  }
}

function inet(address: SocketAddress | undefined): { address?: string; port?: number; family?: 'IPv4' | 'IPv6' } {
  return address === undefined || address.family === 'unix' ? {} : address
}
