// The PROXY protocol without a server of ours: a header from any reader, and the bytes of one.

import { formatHeader } from './proxy/format-header.ts'
import type { ProxyHeader, ProxyHeaderInit } from './proxy/header.ts'
import { type HeaderReader, type ReadProxyHeaderOptions, readHeader } from './proxy/read-header.ts'

export type { LocalHeaderInit, ProxiedHeaderInit, ProxyHeader, ProxyHeaderInit } from './proxy/header.ts'
export type { HeaderReader, ReadProxyHeaderOptions } from './proxy/read-header.ts'

/**
 * Reads the PROXY header, of either version, that a stream must begin with. Whatever follows is left for the next read, even a second
 * header. The sender decides who the client is said to be: read it only from senders you trust.
 *
 * It waits for no byte beyond the header, and holds no more of it than `maxLength` allows, however much is announced. It rejects as early
 * as possible; the reader's position is then undefined: abort the connection.
 *
 * @throws {TypeError | RangeError} If an option is wrong.
 * @throws {ProxyHeaderError} If the stream starts with anything but a valid header, or ends before it is complete.
 * @throws {ReadTimeoutError} If the header is not complete within `timeout`.
 * @throws {ConnectionResetError} If the connection broke.
 * @throws {BusyError} If another read is pending.
 * @example
 * ```ts
 * const server = await Server.create(onPort(8080, { host: '127.0.0.1' }), async ({ reader, writer, remoteAddress }) => {
 *   const { source } = await readProxyHeader(reader, { timeout: 3_000 })
 *   writer.write(`You are ${JSON.stringify(source ?? remoteAddress)}\n`)
 * })
 * ```
 */
export function readProxyHeader(reader: HeaderReader, options: ReadProxyHeaderOptions = {}): Promise<ProxyHeader> {
  return readHeader(reader, options)
}

/**
 * The bytes of a PROXY header, to be sent before anything else. A header that was read can be passed on as it is.
 *
 * @throws {TypeError | RangeError} If an option is wrong, quoting it.
 * @example
 * ```ts
 * const server = await Server.create(onPort(8080), async ({ reader, writer, remoteAddress, localAddress }) => {
 *   await withConnection(toHostAndPort('127.0.0.1', 8081), async (upstream) => {
 *     upstream.writer.write(formatProxyHeader({ source: remoteAddress, destination: localAddress }))
 *     await Promise.all([upstream.writer(reader), writer(upstream.reader)])
 *   })
 * })
 * ```
 */
export function formatProxyHeader(header: ProxyHeaderInit): Uint8Array<ArrayBuffer> {
  return formatHeader('Cannot format a PROXY header', header)
}
