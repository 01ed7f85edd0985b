// The contract of a connection that is a pair of web streams.

import type { Bytes } from './reader.ts'

/** A connection as web streams. */
export interface WebStreams {
  /** What the peer sends: a byte stream, which can be read into your own buffers (`mode: 'byob'`). */
  readonly readable: ReadableStream<Bytes>
  /** What the peer is sent. Closing it is a half-close. */
  readonly writable: WritableStream<Uint8Array>
  /** Resolves once the connection is closed. Never rejects. */
  readonly closed: Promise<void>
}
