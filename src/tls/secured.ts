// What is known of a connection that speaks TLS; read once, since a closed socket has forgotten it.

import type { X509Certificate } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import { ConnectionClosedError } from '../errors.ts'
import { checkCount, checkString } from '../options.ts'
import type { ConnectionTls } from '../tls.ts'

/** What the handshake found, beyond what the socket knows. */
export type Judgement = Pick<ConnectionTls, 'serverName' | 'peerCertificate' | 'isAuthorized' | 'isResumed'>

/** What is read of a TLS socket. */
export type SecuredSocket = Pick<TLSSocket, 'getCipher' | 'getProtocol' | 'alpnProtocol' | 'exportKeyingMaterial' | 'destroyed'>

/** The implementation of {@link ConnectionTls}. */
export class Secured implements ConnectionTls {
  readonly version: string
  readonly cipher: string
  readonly alpn: string | null
  readonly serverName: string | null
  readonly peerCertificate: X509Certificate | null
  readonly isAuthorized: boolean
  readonly isResumed: boolean
  readonly #socket: SecuredSocket

  constructor(socket: SecuredSocket, { serverName, peerCertificate, isAuthorized, isResumed }: Judgement) {
    const { name, standardName } = socket.getCipher()
    this.version = socket.getProtocol() ?? 'unknown'
    this.cipher = standardName ?? name
    this.alpn = socket.alpnProtocol || null
    this.serverName = serverName
    this.peerCertificate = peerCertificate
    this.isAuthorized = isAuthorized
    this.isResumed = isResumed
    this.#socket = socket
  }

  exportKeyingMaterial(length: number, label: string): Uint8Array<ArrayBuffer> {
    const action = 'Cannot export keying material'
    checkCount(action, 'length', length)
    checkString(action, 'label', label)
    if (this.#socket.destroyed) throw new ConnectionClosedError(`${action} as the connection is closed`)
    if (typeof this.#socket.exportKeyingMaterial !== 'function') throw new TypeError(`${action} as this runtime cannot`)
    // Without a context, which is not the same as an empty one (RFC 5705).
    return Uint8Array.from(this.#socket.exportKeyingMaterial(length, label, undefined as never))
  }
}
