// TLS as users see it: the options of both sides, a server's certificate, and what is known about a secured connection.

import type { X509Certificate } from 'node:crypto'
import type { SecureContextOptions } from 'node:tls'

/** Text in PEM, or its bytes as `readFileSync` returns them. */
export type Pem = string | Uint8Array

/** The TLS options of both sides. */
export interface TlsOptions {
  /**
   * The oldest version that is accepted.
   *
   * @default 'TLSv1.2'
   */
  minVersion?: 'TLSv1.2' | 'TLSv1.3'
  /**
   * The protocols to choose from (ALPN), the preferred one first; each of 1 to 255 bytes. A server with a list refuses a client that offers
   * none of them.
   *
   * @default none
   */
  alpn?: readonly string[]
  /**
   * The certificate in PEM, followed by those between it and the root.
   *
   * @default none
   */
  cert?: Pem
  /**
   * The private key of `cert` in PEM.
   *
   * @default none
   */
  key?: Pem
  /**
   * What `key` is encrypted with.
   *
   * @default none: the key is not encrypted
   */
  passphrase?: string
  /**
   * The certificates that the peer's chain must lead to, in PEM.
   *
   * @default those that Node.js trusts
   */
  ca?: Pem | readonly Pem[]
  /**
   * What a FIN without a close_notify before it means: with `'required'` the stream was cut off, and reads reject with `TruncatedError`;
   * with `'optional'` it is an end, unless it comes inside a record. Anyone on the way can send a FIN, so `'optional'` is only for
   * protocols in which messages carry their own length.
   *
   * @default 'required'
   */
  closeNotify?: 'required' | 'optional'
  /**
   * Whatever else `tls.createSecureContext` takes: `ciphers`, `crl`, `maxVersion`, … except what has an option of its own here.
   *
   * @default none
   */
  secureContext?: SecureContextOptions
}

/** The TLS options of a client. */
export interface TlsClientOptions extends TlsOptions {
  /**
   * The host name to ask for and to verify; not an IP address. Required where no host is dialled: with `toFile`, or on an accepted
   * connection.
   *
   * @default the host dialled; an IP address is verified as one
   */
  serverName?: string
  /**
   * Whether the server must prove who it is. With `false` anyone may answer in its place; `connection.tls.isAuthorized` then says whether
   * the proof would have succeeded.
   *
   * @default true
   */
  verify?: boolean
}

/** A certificate and its key. */
export interface TlsIdentity {
  /** The certificate in PEM, with those between it and the root behind it. */
  cert: Pem
  /** The private key of `cert` in PEM. */
  key: Pem
  /** What `key` is encrypted with. */
  passphrase?: string
}

/** The TLS options of a server. */
export interface TlsContextOptions extends TlsOptions, TlsIdentity {
  /**
   * The certificate in PEM, followed by those between it and the root.
   *
   * @default none: it must be given
   */
  cert: Pem
  /**
   * The private key of `cert` in PEM.
   *
   * @default none: it must be given
   */
  key: Pem
  /**
   * Whether clients are asked for a certificate, which must lead to `ca`: `'required'` turns away clients without such a certificate;
   * `'requested'` leaves the decision to the handler, which has `connection.tls.isAuthorized`.
   *
   * @default 'none'
   */
  clientCert?: 'none' | 'requested' | 'required'
  /**
   * Chooses the context by the name that the client asks for, in lower case and without a trailing dot. All options of the returned context
   * apply; `undefined` means this context. It must settle within `handshakeTimeout`; if it throws or rejects, that client is turned away.
   * Not called for a client that asks for no name. A `contextFor` of the returned context is not called.
   *
   * @default none: this context for every name
   */
  contextFor?: (serverName: string) => TlsContext | undefined | Promise<TlsContext | undefined>
}

/**
 * A server's certificate, and how it is used. Any number of servers and connections may share one.
 *
 * It holds no descriptor and does not have to be closed.
 */
export interface TlsContext {
  /**
   * Uses another certificate for all handshakes that start later, whether or not the client asks for a name. Open connections continue. If
   * `ca` is omitted, the present one is kept. Clients can still resume their sessions, unless `ca` changes.
   *
   * @throws {TlsError} If the new certificate is unusable: its key belongs to another one, or it is expired, not yet valid or half-written.
   * Nothing changes then.
   * @throws {TypeError} If an argument has the wrong type.
   */
  replace(identity: TlsIdentity & Pick<TlsOptions, 'ca'>): void
  /** When the first certificate of the chain expires. */
  readonly validTo: Date
}

/** The options of `connection.startTls()`. */
export interface StartTlsOptions {
  /**
   * Milliseconds from the call until the peer is verified; `Infinity` for no limit.
   *
   * @default 30_000 for a client; the server's `handshakeTimeout` for a server's side
   */
  timeout?: number
  /** Ends the handshake, and the connection, when aborted. */
  signal?: AbortSignal
}

/** What is known about a connection that uses TLS. */
export interface ConnectionTls {
  /** The version: `'TLSv1.3'`. */
  readonly version: string
  /** The cipher suite, by its IANA name: `'TLS_AES_128_GCM_SHA256'`. */
  readonly cipher: string
  /** The protocol agreed on (ALPN); null if none was. */
  readonly alpn: string | null
  /**
   * The host name that the client asked for, in lower case; null if it named none, as for an IP address. A client that resumes a session of TLS 1.2 is to ask for
   * the same again (RFC 6066); of one that does not, it may be the name that the session was made with, unless the server has a `contextFor`.
   */
  readonly serverName: string | null
  /** The peer's certificate; null if it presented none. On a resumed session, the one it presented when the session began. */
  readonly peerCertificate: X509Certificate | null
  /**
   * Whether the peer proved who it is: its certificate leads to a trusted one, is valid now and, on a client, is for the name dialled,
   * regardless of `verify` and `clientCert`. False for a client without a certificate.
   */
  readonly isAuthorized: boolean
  /** Whether the handshake resumed an earlier session. */
  readonly isResumed: boolean
  /**
   * A key that both sides of this connection share and nobody else knows (RFC 5705).
   *
   * @throws {RangeError} If `length` is not a whole number, 1 or more.
   * @throws {ConnectionClosedError} If the connection is closed.
   */
  exportKeyingMaterial(length: number, label: string): Uint8Array<ArrayBuffer>
}
