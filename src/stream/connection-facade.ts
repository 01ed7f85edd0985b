// The connection that users get: public members only, over the machine.

import type { Socket } from 'node:net'
import { inspect } from 'node:util'
import { formatAddress, type SocketAddress } from '../address.ts'
import type { CloseOptions, Connection, ReceivedProxyHeader } from '../connection.ts'
import { type ConnectionSettings, checkDelay, checkOptions } from '../options.ts'
import type { Reader } from '../reader.ts'
import type { ConnectionTls, StartTlsOptions, TlsClientOptions, TlsContext } from '../tls.ts'
import type { Writer } from '../writer.ts'
import { ByteConnection } from './byte-connection.ts'
import type { ConnectionInit } from './connection-init.ts'
import { detach } from './detach.ts'
import type { Transport } from './transport.ts'

/** The implementation of {@link Connection}. */
export class ConnectionFacade<A extends SocketAddress> implements Connection<A> {
  readonly #machine: ByteConnection<A>

  constructor(machine: ByteConnection<A>) {
    this.#machine = machine
  }

  get socket(): Socket {
    return this.#machine.socket
  }

  get remoteAddress(): A {
    return this.#machine.init.remoteAddress
  }

  get localAddress(): A {
    return this.#machine.init.localAddress
  }

  get proxy(): ReceivedProxyHeader | null {
    return this.#machine.init.proxy ?? null
  }

  get reader(): Reader {
    return this.#machine.reader
  }

  get writer(): Writer {
    return this.#machine.writer
  }

  get source(): Reader {
    return this.#machine.reader
  }

  get sink(): Writer {
    return this.#machine.writer
  }

  get signal(): AbortSignal {
    return this.#machine.signal
  }

  get closed(): Promise<void> {
    return this.#machine.closed
  }

  close(options: CloseOptions = {}): Promise<void> {
    try {
      checkOptions('Cannot close', options)
      if (options.forceAfter !== undefined) checkDelay('Cannot close', 'forceAfter', options.forceAfter)
      if (options.linger !== undefined) checkDelay('Cannot close', 'linger', options.linger)
    } catch (error) {
      return Promise.reject(error)
    }
    return this.#machine.close(options)
  }

  abort(reason?: unknown): void {
    this.#machine.abort(reason)
  }

  get tls(): ConnectionTls | null {
    return this.#machine.transport.tls ?? null
  }

  async startTls(options: TlsContext | TlsClientOptions | true, limits?: StartTlsOptions): Promise<void> {
    const { upgrade } = this.#machine.init
    if (upgrade === undefined) throw new TypeError('Cannot start TLS as this kind of connection has none')
    await upgrade.startTls(this.#machine, options, limits)
  }

  detach(): Promise<Socket> {
    return detach(this.#machine)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { isQuiet } = this.#machine
    try {
      await this.#machine.close()
    } catch (error) {
      if (!isQuiet) throw error
    }
  }

  [inspect.custom](): string {
    const { init, incoming, outgoing, state } = this.#machine
    const ends = `${formatAddress(init.localAddress)} ${init.isAccepted ? '<-' : '->'} ${formatAddress(init.remoteAddress)}`
    return `Connection { ${ends}, ${state}, read: ${incoming.bytesRead}, written: ${outgoing.bytesWritten}, pending: ${outgoing.bytesPending} }`
  }
}

/** Makes a connection, and what users hold of it. It starts to read at once. */
export function openConnection<A extends SocketAddress>(
  transport: Transport,
  settings: ConnectionSettings,
  init: ConnectionInit<A, ByteConnection<A>>
): ByteConnection<A> {
  const machine = new ByteConnection(transport, settings, init)
  machine.facade = new ConnectionFacade(machine)
  return machine
}
