// The other end of a connection in memory, in the shape of a socket, so that one test runs over both.

import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import type { ReadBuffer } from '../../src/stream/read-buffer.ts'
import type { Transport, TransportEvents, WriteEntry } from '../../src/stream/transport.ts'
import type { MemoryNetwork } from '../../src/testing.ts'
import type { Carried, CustomDial } from '../../src/where-to-connect.ts'
import { closeAtEnd } from './raw.ts'
import type { Scope } from './scope.ts'

type Callback = (error?: Error | null) => void

/** Does with `transport` what a paused, half-open `net.Socket` does. */
export function memoryPeer(transport: Transport, ports: { localPort: number; remotePort: number }): Socket {
  return Object.assign(new MemoryPeer(transport), ports) as unknown as Socket
}

/** A foreign client of a server in memory: paused, and may be half-open. */
export async function memoryClient(scope: Scope, network: MemoryNetwork, port: number): Promise<Socket> {
  const { dial } = network.toHostAndPort('127.0.0.1', port)
  const { transport, localAddress } = await new Promise<Carried>((resolve, reject) => (dial as CustomDial)(resolve, reject))
  const peer = memoryPeer(transport, { localPort: localAddress.port, remotePort: port })
  closeAtEnd(scope, peer)
  return Object.assign(peer, { localAddress: localAddress.address, remoteAddress: '127.0.0.1' })
}

class MemoryPeer extends Duplex implements TransportEvents {
  bytesRead = 0
  readonly #transport: Transport
  #written: Callback | undefined
  #finished: Callback | undefined
  #closed: (() => void) | undefined
  #isReleased = false
  // A socket that nobody reads takes nothing from the system.
  #early: Buffer[] = []
  #mayRead = false

  constructor(transport: Transport) {
    super({ allowHalfOpen: true, decodeStrings: true })
    this.#transport = transport
    transport.open(this)
  }

  resetAndDestroy(): this {
    this.#transport.reset()
    return this.destroy()
  }

  override _read(): void {
    this.#mayRead = true
    for (const chunk of this.#early.splice(0)) this.#mayRead = this.push(chunk)
    if (this.#mayRead) this.#transport.resume()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Callback): void {
    this.#send([{ chunk, encoding: 'buffer', byteLength: chunk.byteLength }], callback)
  }

  override _writev(entries: { chunk: Buffer }[], callback: Callback): void {
    this.#send(
      entries.map(({ chunk }) => ({ chunk, encoding: 'buffer', byteLength: chunk.byteLength })),
      callback
    )
  }

  override _final(callback: Callback): void {
    this.#finished = callback
    this.#transport.end()
  }

  override _destroy(error: Error | null, callback: Callback): void {
    this.#closed = () => callback(error)
    this.#transport.destroy()
    if (this.#isReleased) this.#closed()
  }

  received(buffer: ReadBuffer, length: number): boolean {
    this.bytesRead += length
    const chunk = Buffer.from(buffer.keep(length))
    if (this.#mayRead) return this.push(chunk)
    this.#early.push(chunk)
    return false
  }

  written(error?: Error): void {
    const callback = this.#written
    this.#written = undefined
    callback?.(error)
  }

  finished(error?: Error): void {
    this.#finished?.(error)
  }

  ended(): void {
    this.push(null)
  }

  broken(cause: Error): void {
    this.destroy(cause)
  }

  released(): void {
    this.#isReleased = true
    this.#closed?.()
    this.destroy()
  }

  #send(entries: WriteEntry[], callback: Callback): void {
    if (this.#transport.write(entries)) callback()
    else this.#written = callback
  }
}
