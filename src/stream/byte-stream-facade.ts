// The byte stream that users get: public members only, over the machine.

import { inspect } from 'node:util'
import type { SocketAddress } from '../address.ts'
import type { ByteStream, CloseOptions } from '../connection.ts'
import { checkDelay, checkOptions } from '../options.ts'
import type { Reader } from '../reader.ts'
import type { Writer } from '../writer.ts'
import type { ByteConnection } from './byte-connection.ts'

/** The machine under what users hold; undefined for what is not ours. */
export let machineOf: (stream: object) => ByteConnection<SocketAddress> | undefined

/** The implementation of {@link ByteStream}. */
export class ByteStreamFacade implements ByteStream {
  static {
    machineOf = (stream) => (#machine in stream ? stream.#machine : undefined)
  }

  readonly #machine: ByteConnection<SocketAddress>

  constructor(machine: ByteConnection<SocketAddress>) {
    this.#machine = machine
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

  async [Symbol.asyncDispose](): Promise<void> {
    const { isQuiet } = this.#machine
    try {
      await this.#machine.close()
    } catch (error) {
      if (!isQuiet) throw error
    }
  }

  [inspect.custom](): string {
    const { peer, state, incoming, outgoing } = this.#machine
    const counters = `read: ${incoming.bytesRead}, written: ${outgoing.bytesWritten}, pending: ${outgoing.bytesPending}`
    return `ByteStream { ${peer}, ${state}, ${counters} }`
  }
}
