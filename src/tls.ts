// TLS as users see it: the options of both sides, a server's certificate, and what is known of a secured connection.

import type { X509Certificate } from 'node:crypto'
import type { SecureContextOptions } from 'node:tls'

/** Text in PEM, or its bytes as `readFileSync` gives them. */
export type Pem = string | Uint8Array

/** What both sides of TLS may say. */
export interface TlsOptions {
  /**
   * The oldest version that is spoken.
   *
   * @default 'TLSv1.2'
   */
  minVersion?: 'TLSv1.2' | 'TLSv1.3'
  /**
   * The protocols to choose from (ALPN), the preferred one first; each of 1 to 255 bytes. A server that has some refuses a client that names
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
   * The certificates that the peer's must lead to, in PEM.
   *
   * @default those that Node.js trusts
   */
  ca?: Pem | readonly Pem[]
  /**
   * What it is if the peer sends FIN and no close_notify before it: with `'required'` the stream was cut off, which the reader tells by
   * `TruncatedError`; with `'optional'` it is an end, unless it comes inside a record. Anyone on the way can send a FIN: only for
   * protocols that say themselves how long a message is.
   *
   * @default 'required'
   */
  closeNotify?: 'required' | 'optional'
  /**
   * Whatever else `tls.createSecureContext` takes: `ciphers`, `crl`, `maxVersion`, … but nothing that has an option of its own here.
   *
   * @default none
   */
  secureContext?: SecureContextOptions
}

/** How a client speaks TLS. */
export interface TlsClientOptions extends TlsOptions {
  /**
   * The host name to ask for and to verify; no IP address. Needed where no host is dialled: with `toFile`, or on a connection that was accepted.
   *
   * @default the host dialled; an IP address is verified as one
   */
  serverName?: string
  /**
   * Whether the server must prove who it is. With `false` anyone may answer in its place: `connection.tls.isAuthorized` then says whether it
   * could have.
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

/** How a server speaks TLS. */
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
   * Whether clients are asked for a certificate, which must lead to `ca`: `'required'` turns away those that have none that does;
   * `'requested'` leaves the judgement to the handler: `connection.tls.isAuthorized`.
   *
   * @default 'none'
   */
  clientCert?: 'none' | 'requested' | 'required'
  /**
   * Chooses the context by the name that the client asks for: in lower case, without a trailing dot. All that is in the one it gives holds;
   * `undefined` is for this very context. It has until `handshakeTimeout`; if it throws or rejects, that client is turned away. Not called for
   * a client that names nobody. Another `contextFor` in what it gives is not asked.
   *
   * @default none: this context for every name
   */
  contextFor?: (serverName: string) => TlsContext | undefined | Promise<TlsContext | undefined>
}

/**
 * A server's certificate, and how it is used. Any number of servers and connections may share one.
 *
 * It holds no descriptor and need not be closed.
 */
export interface TlsContext {
  /**
   * Takes another certificate for all handshakes that start later, of clients that name a host and of those that don't. Open connections go on. An
   * omitted `ca` is kept. Clients can still resume their sessions, unless `ca` changes.
   *
   * @throws {TlsError} If the new one is no good: the key of another certificate, expired, not yet valid, half-written. Nothing
   * has changed then.
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

/** What is known of a connection that speaks TLS. */
export interface ConnectionTls {
  /** The version: `'TLSv1.3'`. */
  readonly version: string
  /** The cipher suite, by its IANA name: `'TLS_AES_128_GCM_SHA256'`. */
  readonly cipher: string
  /** The protocol agreed on (ALPN); null if none was. */
  readonly alpn: string | null
  /** The host name that the client asked for, in lower case; null if it named none, as for an IP address. */
  readonly serverName: string | null
  /** The peer's certificate; null if it has shown none. On a resumed session, the one that it showed when that began. */
  readonly peerCertificate: X509Certificate | null
  /**
   * Whether the peer proved who it is: its certificate leads to a trusted one, is valid now and, on a client, is for the name dialled; whatever
   * `verify` and `clientCert` are. False for a client without a certificate.
   */
  readonly isAuthorized: boolean
  /** Whether the handshake took up an earlier session. */
  readonly isResumed: boolean
  /**
   * A key that both sides of this connection share and nobody else knows (RFC 5705).
   *
   * @throws {RangeError} If `length` is not a whole number from 1 on.
   * @throws {ConnectionClosedError} If the connection is closed.
   */
  exportKeyingMaterial(length: number, label: string): Uint8Array<ArrayBuffer>
}
