// The seam under a connection: commands go down, news comes up.

import type { Socket } from 'node:net'
import type { ConnectionTls } from '../tls.ts'
import type { ReadBuffer } from './read-buffer.ts'

/** How what is written becomes bytes: as Node.js streams name it for their implementers. */
export type WriteEncoding = 'buffer' | 'utf8' | 'latin1'

/** One buffer or string to be written; the form in which Node.js streams pass them on. */
export interface WriteEntry {
  readonly chunk: Uint8Array | string
  readonly encoding: WriteEncoding
  readonly byteLength: number
}

/** How the peer's bytes ended: as it meant to, or cut off, which only a protocol that says goodbye can tell. */
export type EndKind = 'orderly' | 'cut'

/**
 * What carries the bytes of a connection: a socket, TLS over one, memory, any stream. Reader, writer and connection know nothing else of what is
 * under them. Commands return at once, and no news comes from inside one.
 */
export interface Transport {
  /** Whether the carrier is given up: closed, or in the act. */
  readonly isDestroyed: boolean
  /** Bytes of the write in flight that the carrier has not taken yet, as far as it is known. */
  readonly unsent: number | undefined
  /** Bytes that the carrier has taken so far, where the writer's own count moves in larger steps; otherwise undefined. */
  readonly taken: number | undefined
  /** Bytes to be gathered into one write at most; a longer buffer goes alone. */
  readonly gatherSize: number
  /** Whether `end()` is due even if the peer has ended too, so that closing the carrier would not say all. */
  readonly mustEnd: boolean
  /** What is known of TLS, once it is spoken and the peer verified. */
  readonly tls?: ConnectionTls | undefined
  /** The socket under it, where there is one. */
  readonly socket: Socket | undefined
  /** The number of the descriptor, where it is known without a socket. */
  readonly descriptor?: number
  /** Names who is told from now on, and reads on. Another carrier may take the place of the first owner. */
  open(events: TransportEvents): void
  /** Goes on reading after `received` returned false. */
  resume(): void
  /** Takes over a write, of which there is one at a time. True: all is handed over. False: `written` follows. */
  write(entries: WriteEntry[]): boolean
  /**
   * The same for bytes that are gone after the call; undefined, and nothing done, if there are too many. Missing where what is written is kept for
   * longer than it takes.
   */
  pass?(bytes: Uint8Array): boolean | undefined
  /** Sends the end of what is written, behind it; `finished` follows. */
  end(): void
  /** Gives up the carrier; `released` follows. */
  destroy(): void
  /** The same, and the peer sees an error where there is one to be seen. */
  reset(): void
  /**
   * Gives the socket up as an ordinary one, to whoever reads and writes it from now on: `unread` comes first from it, nothing has set it flowing, and
   * nothing is told any more. Nothing may be in flight. Missing where there is no socket.
   */
  release?(unread: readonly Uint8Array[]): Socket
}

/** What the owner of a {@link Transport} is told. */
export interface TransportEvents {
  /** `length` bytes arrived at the start of `buffer`, which says whose they are. Returns whether to go on reading; if not, `resume()` does. */
  received(buffer: ReadBuffer, length: number): boolean
  /** The write in flight is handed over, or failed. */
  written(error?: Error): void
  /** The end is sent, or could not be. */
  finished(error?: Error): void
  /** The peer's end arrived: all bytes have been received. */
  ended(kind: EndKind): void
  /** The connection broke: no byte will be received any more, and the carrier is closed or about to be. */
  broken(cause: Error): void
  /** The carrier is released. The last call. */
  released(): void
}
