// A PROXY header that was read can be written again, and is nobody's to change.

import {
  type Connection,
  formatProxyHeader,
  type ProxyHeader,
  type ProxyHeaderInit,
  type Reader,
  readProxyHeader,
  type SocketAddress
} from 'it-tcp'
import { same } from './same.ts'

declare const connection: Connection
declare const reader: Reader

const header = await readProxyHeader(reader, { maxLength: 1, timeout: 1, signal: AbortSignal.timeout(1) })
same<ProxyHeader, typeof header>()
same<SocketAddress | null, typeof header.source>()
// @ts-expect-error it is what was read
header.source = null
// @ts-expect-error it is what was read
header.tlvs.set(1, new Uint8Array())

const { remoteAddress: source, localAddress: destination } = connection
header satisfies ProxyHeaderInit
same<Uint8Array<ArrayBuffer>, ReturnType<typeof formatProxyHeader>>()
formatProxyHeader(header)
formatProxyHeader({ source, destination })
formatProxyHeader({ source, destination, version: 2, tlvs: new Map([[2, new Uint8Array()]]), crc32c: true })
formatProxyHeader({ source: null, destination: null, version: 1, tlvs: [[2, new Uint8Array()]] })
formatProxyHeader({ command: 'local' })
// @ts-expect-error both ends are wanted
formatProxyHeader({ source })
// @ts-expect-error there is no such version
formatProxyHeader({ source, destination, version: 3 })
// @ts-expect-error it has nobody to speak for
formatProxyHeader({ command: 'local', source, destination })
