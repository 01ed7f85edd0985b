// The test kit, `it-tcp/testing`: this library's own connections and servers over memory, and the laws of any stream of bytes.
/// <reference types="node" preserve="true" />

import type { InetAddress } from './address.ts'
import type { Connection } from './connection.ts'
import { type ConnectionPairOptions, MemoryNetwork } from './testing/memory-network.ts'

export { type CheckConnectionOptions, checkConnection, type MakePair } from './testing/check-connection.ts'
export { BrokenLawError } from './testing/law.ts'
export { type ConnectionPairOptions, MemoryNetwork, type MemoryNetworkOptions } from './testing/memory-network.ts'
export type { Direction, Link } from './testing/wire.ts'

/**
 * Two connections that are each other's peer, as if the second had been accepted from the first, in memory: no descriptor, no port, no
 * timer of its own. Everything except the path of the bytes is the library's own code. If a test needs the link of a pair, or needs to know
 * that it is closed, use `network.connectionPair()` of a {@link MemoryNetwork}.
 *
 * - Each direction takes `capacity` bytes while its receiver does not read; then `flushed()` waits, and `bufferAgeLimit` begins to count.
 * - `writer.close()` is an end for the other side, `abort()` a reset; closing with unread input is a reset, as on TCP.
 * - What is sent arrives in a later turn of the event loop, in the order of sending, however the clock is faked.
 * - `connection.socket` is undefined, and `detach()` rejects, since there is no socket.
 *
 * Ownership: both are the caller's to close.
 *
 * @throws {TypeError | RangeError} If an option is wrong.
 * @example
 * ```ts
 * const [client, served] = connectionPair()
 * client.writer.write('hello\\n')
 * console.log(await served.reader.readLine()) // hello
 * await Promise.all([client.close(), served.close()])
 * ```
 */
export function connectionPair(options: ConnectionPairOptions = {}): [client: Connection<InetAddress>, served: Connection<InetAddress>] {
  return new MemoryNetwork().connectionPair(options)
}
