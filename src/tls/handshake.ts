// What a handshake is made of on either side, and the judgement of the peer when it is done.

import type { X509Certificate } from 'node:crypto'
import type { TLSSocket, TLSSocketOptions } from 'node:tls'
import type { ConnectionTls } from '../tls.ts'
import { hostName } from './client-hello.ts'
import type { ClientTerms } from './client-options.ts'
import type { ServerTerms } from './context.ts'
import { dateError, identityError } from './identity.ts'
import { Secured, type SecuredSocket } from './secured.ts'
import { type KeptSession, sessionKey, sessions } from './sessions.ts'

/** What the judgement needs of a TLS socket and cannot ask for by documented means everywhere. */
export interface Judged {
  readonly socket: SecuredSocket & Pick<TLSSocket, 'isSessionReused' | 'getPeerX509Certificate'>
  /** What is wrong with the chain of the peer's certificate; undefined if nothing is. Asked for only where there is one: an error costs its stack. */
  chainError(): Error | undefined
  /** The host that a client has asked for, as it wrote it; missing where a handshake must not leave that to OpenSSL. */
  askedFor?(): string | undefined
}

/** What a client has said before the handshake began. */
export interface Peeked {
  readonly serverName: string | undefined
}

/** One handshake, of a client or a server. */
export interface Handshake {
  readonly isServer: boolean
  readonly closeNotify: 'required' | 'optional'
  readonly options: TLSSocketOptions
  /** Whether OpenSSL has to tell a server which host its client asks for, since nobody else has looked. */
  readonly readsName: boolean
  /** The name to ask for; undefined for servers, and for addresses. */
  readonly askFor: string | undefined
  /** Takes the session to offer, if there is one: it is for one use. */
  takeSession(): Buffer | undefined
  /** Notes a session that the server gives, which may be before the peer is verified. */
  keep(session: Buffer): void
  /** Judges the peer. Throws what speaks against it, if that must not be. */
  conclude(judged: Judged): ConnectionTls
}

/** The handshake of a client with the server at `port`, or at a path. */
export class ClientHandshake implements Handshake {
  readonly isServer = false
  readonly readsName = false
  readonly closeNotify: 'required' | 'optional'
  readonly options: TLSSocketOptions
  readonly askFor: string | undefined
  readonly #terms: ClientTerms
  readonly #key: string
  #offered: KeptSession | undefined
  // Before the server is verified nothing is kept of it.
  #given: Buffer | undefined
  #verified: X509Certificate | undefined

  constructor(terms: ClientTerms, port: number | string) {
    const { serverName, secureContext, alpn, closeNotify } = terms
    this.#terms = terms
    this.closeNotify = closeNotify
    this.options = { isServer: false, secureContext, ...(alpn !== undefined && { ALPNProtocols: [...alpn] }) }
    this.askFor = serverName.isAddress ? undefined : serverName.name
    this.#key = sessionKey(serverName.name, port, terms.fingerprint)
  }

  takeSession(): Buffer | undefined {
    this.#offered = sessions.take(this.#key)
    return this.#offered?.session
  }

  keep(session: Buffer): void {
    if (this.#verified === undefined) this.#given = session
    else sessions.put(this.#key, { session, certificate: this.#verified })
  }

  conclude(judged: Judged): ConnectionTls {
    const { socket } = judged
    const { serverName, verify } = this.#terms
    const isResumed = socket.isSessionReused()
    // A client that resumes a session is shown no certificate.
    const certificate = isResumed ? this.#offered?.certificate : socket.getPeerX509Certificate()
    const error =
      certificate === undefined
        ? new Error('the server has shown no certificate')
        : (judged.chainError() ?? identityError(serverName, certificate))
    if (verify && error !== undefined) throw error
    if (certificate !== undefined) {
      this.#verified = certificate
      // Before TLS 1.3 a session may be resumed again and again, and no other is given.
      const session = this.#given ?? (isResumed && socket.getProtocol() !== 'TLSv1.3' ? this.#offered?.session : undefined)
      if (session !== undefined) this.keep(session)
    }
    return new Secured(socket, {
      serverName: this.askFor ?? null,
      peerCertificate: certificate ?? null,
      isAuthorized: error === undefined,
      isResumed
    })
  }
}

/** The handshake of a server, with a client of which `peeked` is known, if anybody has looked. */
export class ServerHandshake implements Handshake {
  readonly isServer = true
  readonly askFor = undefined
  readonly closeNotify: 'required' | 'optional'
  readonly options: TLSSocketOptions
  readonly #clientCert: ServerTerms['clientCert']
  readonly #peeked: Peeked | undefined

  constructor({ clientCert, closeNotify, options }: ServerTerms, peeked?: Peeked) {
    this.closeNotify = closeNotify
    this.options = options
    this.#clientCert = clientCert
    this.#peeked = peeked
  }

  get readsName(): boolean {
    return this.#peeked === undefined
  }

  takeSession(): undefined {
    return undefined
  }

  keep(): void {}

  conclude(judged: Judged): ConnectionTls {
    const { socket } = judged
    const isResumed = socket.isSessionReused()
    const certificate = this.#clientCert === 'none' ? undefined : socket.getPeerX509Certificate()
    const error = certificate && (judged.chainError() ?? dateError(certificate))
    const isAuthorized = certificate !== undefined && error === undefined
    if (this.#clientCert === 'required' && !isAuthorized) throw error ?? new Error('the client has shown no certificate')
    return new Secured(socket, {
      serverName: (this.#peeked === undefined ? hostName(judged.askedFor?.()) : this.#peeked.serverName) ?? null,
      peerCertificate: certificate ?? null,
      isAuthorized,
      isResumed
    })
  }
}
