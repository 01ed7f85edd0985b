// Two TLS transports with a relay between them that can hold what goes to one and deliver it as a test says: bytes, FIN, RST.

import type { Socket } from 'node:net'
import { NetTransport } from '../../src/stream/net-transport.ts'
import type { ReadBuffer } from '../../src/stream/read-buffer.ts'
import type { EndKind, TransportEvents, WriteEntry } from '../../src/stream/transport.ts'
import { canBeBare } from '../../src/system/bare-tls.ts'
import type { StreamHandle } from '../../src/system/node-internals.ts'
import { carrierHandle } from '../../src/system/tls-socket.ts'
import { clientTerms } from '../../src/tls/client-options.ts'
import { serverTerms } from '../../src/tls/context.ts'
import { ClientHandshake, type Handshake, ServerHandshake } from '../../src/tls/handshake.ts'
import { StreamTlsTransport } from '../../src/tls/stream-tls-transport.ts'
import { TlsTransport } from '../../src/tls/tls-transport.ts'
import type { ConnectionTls, TlsClientOptions } from '../../src/tls.ts'
import { TlsContext } from '../../src/tls-context.ts'
import type { Certificates } from './certificates.ts'
import { rawPair } from './raw.ts'
import type { Scope } from './scope.ts'
import { turns, until } from './until.ts'

export type Version = 'TLSv1.2' | 'TLSv1.3'
export const VERSIONS: readonly Version[] = ['TLSv1.2', 'TLSv1.3']

/** Over the handle of a socket; the server's side without any socket; or over any transport, by documented members. */
export type Kind = 'handle' | 'bare' | 'stream'

/** What a transport tells, written down. */
export class TlsEnd implements TransportEvents {
  readonly transport: TlsTransport | StreamTlsTransport
  readonly handle: StreamHandle
  readonly chunks: Uint8Array[] = []
  tls: ConnectionTls | undefined
  /** How it ended: 'orderly', 'cut', or what it broke of. */
  end: EndKind | Error | undefined
  /** How many bytes had arrived by then. */
  lengthAtEnd: number | undefined
  isClosed = false
  isFinished = false
  /** Whether it stops reading after each chunk, for a turn or for good. */
  isStopping: boolean | 'for good' = false
  numWritten = 0
  onReceived: (() => void) | undefined
  #length = 0

  constructor(carrier: Socket, handshake: Handshake, kind: Kind = 'handle') {
    this.handle = carrierHandle(carrier) as StreamHandle
    const secured = (): void => {
      this.tls = this.transport.tls
    }
    const failed = (error: Error): void => {
      this.end ??= error
    }
    const init = { handshake, peer: 'the peer', secured, failed }
    if (kind === 'stream') this.transport = new StreamTlsTransport(new NetTransport(carrier), init)
    else if (kind === 'bare' && canBeBare(handshake.options)) this.transport = new TlsTransport(takenFrom(carrier, this.handle), init)
    else this.transport = new TlsTransport(carrier, init)
    this.transport.open(this)
  }

  get length(): number {
    return this.#length
  }

  get text(): string {
    return Buffer.concat(this.chunks).toString('latin1')
  }

  received(buffer: ReadBuffer, length: number): boolean {
    this.#length += length
    this.chunks.push(buffer.keep(length))
    this.onReceived?.()
    if (this.isStopping === true) setImmediate(() => this.transport.resume())
    return this.isStopping === false
  }

  written(error?: Error): void {
    if (error === undefined) this.numWritten++
    else this.end ??= error
  }

  finished(error?: Error): void {
    this.isFinished = true
    if (error !== undefined) this.end ??= error
  }

  ended(kind: EndKind): void {
    this.end ??= kind
    this.lengthAtEnd ??= this.#length
  }

  broken(cause: Error): void {
    this.end ??= cause
    this.lengthAtEnd ??= this.#length
  }

  released(): void {
    this.isClosed = true
  }

  async write(data: Uint8Array | string): Promise<void> {
    const chunk = typeof data === 'string' ? Buffer.from(data) : data
    const entry: WriteEntry = { chunk, encoding: 'buffer', byteLength: chunk.byteLength }
    const before = this.numWritten
    if (!this.transport.write([entry])) await until(() => this.numWritten > before || this.end, 'it is written')
  }
}

function takenFrom(carrier: Socket, handle: StreamHandle): StreamHandle {
  Object.assign(carrier, { _handle: null })
  return handle
}

/** The handshakes of both sides, over one version. */
export function handshakes(made: Certificates, version: Version, options: TlsClientOptions = {}): { client: Handshake; server: Handshake } {
  const context = TlsContext.create({ ...made.a, minVersion: version, secureContext: { maxVersion: version } })
  const terms = clientTerms('Cannot connect', { ca: made.ca.cert, serverName: 'a.test', ...options }, undefined)
  return { client: new ClientHandshake(terms, 1), server: new ServerHandshake(serverTerms(context)) }
}

export interface Relayed {
  readonly receiver: TlsEnd
  readonly sender: TlsEnd
  /** Holds from now on what the sender sends. */
  hold(): void
  /** Takes nothing from the sender any more, until `flow()`. */
  stall(): void
  flow(): void
  /** All that the sender has sent so far, once it is here. */
  held(): Promise<Buffer>
  /** The same, once its FIN is here too. */
  heldToFin(): Promise<Buffer>
  /** Keeps the receiver from reading until `thaw()`. */
  freeze(): void
  thaw(): Promise<void>
  deliver(bytes: Uint8Array): Promise<void>
  fin(): Promise<void>
  rst(): void
}

/** Opens both, secured, with nothing on its way. */
export async function relayed(
  scope: Scope,
  made: Certificates,
  version: Version,
  to: 'client' | 'server',
  kind: Kind = 'handle'
): Promise<Relayed> {
  const [clientCarrier, near] = await rawPair(scope)
  const [far, serverCarrier] = await rawPair(scope)
  const { client, server } = handshakes(made, version)
  const ends = { client: new TlsEnd(clientCarrier, client, kind), server: new TlsEnd(serverCarrier, server, kind) }
  const [source, sink] = to === 'client' ? [far, near] : [near, far]
  const receiver = ends[to]
  const sender = ends[to === 'client' ? 'server' : 'client']
  scope.defer(async () => {
    receiver.transport.destroy()
    sender.transport.destroy()
    await until(() => receiver.isClosed && sender.isClosed, 'both are closed')
  })

  let held: Buffer[] = []
  let isHolding = false
  let isFinHeld = false
  source.on('data', (chunk: Buffer) => void (isHolding ? held.push(chunk) : sink.write(chunk)))
  source.on('end', () => {
    isFinHeld = true
    if (!isHolding) sink.end()
  })
  sink.on('data', (chunk: Buffer) => source.write(chunk)).on('end', () => source.end())
  source.on('error', () => sink.resetAndDestroy())
  for (const socket of [source, sink]) socket.setNoDelay(true).resume()

  await until(() => ends.client.tls && ends.server.tls, 'both are secured')
  // Session tickets come before it.
  await sender.write('.')
  await until(() => receiver.length === 1, 'a byte has passed')
  receiver.chunks.length = 0

  const take = (): Buffer => {
    const all = Buffer.concat(held)
    held = []
    return all
  }
  return {
    receiver,
    sender,
    hold() {
      isHolding = true
    },
    stall() {
      source.pause()
    },
    flow() {
      source.resume()
    },
    async held() {
      await until(() => source.bytesRead === sender.transport.taken, 'all is held')
      return take()
    },
    async heldToFin() {
      await until(() => isFinHeld, 'FIN is held')
      return take()
    },
    freeze() {
      receiver.handle.readStop()
    },
    async thaw() {
      await turns(10)
      receiver.handle.readStart()
    },
    deliver: (bytes) => new Promise((resolve) => void sink.write(bytes, () => resolve())),
    fin: () => new Promise((resolve) => void sink.end(() => resolve())),
    rst: () => void sink.resetAndDestroy()
  }
}
