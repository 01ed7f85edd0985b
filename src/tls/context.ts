// A server's certificate: a holder that every handshake reads when it starts.

import type { SecureContext, TLSSocketOptions } from 'node:tls'
import { inspect } from 'node:util'
import { checkFunction, checkOptions } from '../options.ts'
import { nodeCrypto } from '../system/node-tls.ts'
import { canWrapHandles } from '../system/tls-socket.ts'
import type { Pem, TlsContext, TlsContextOptions, TlsIdentity, TlsOptions } from '../tls.ts'
import { checkAuthorities, checkIdentity, isSameCa, makeSecureContext, type Validity } from './material.ts'
import { checkOneOf, checkPem, checkTlsOptions } from './options.ts'

const CREATE = 'Cannot create a TLS context'
const REPLACE = 'Cannot replace the certificate'
const CLIENT_CERT = ['none', 'requested', 'required']

/** How a server's handshake goes that starts now. */
export interface ServerTerms {
  readonly secureContext: SecureContext
  readonly clientCert: 'none' | 'requested' | 'required'
  readonly closeNotify: 'required' | 'optional'
  /** What the socket is told of it. */
  readonly options: TLSSocketOptions
}

// What ticket keys are for: whoever has them resumes sessions without being verified again.
interface Tickets {
  readonly ticketKeys: Buffer
  readonly sessionIdContext: string
}

class Context implements TlsContext {
  readonly #options: TlsContextOptions
  #ca: Pem | readonly Pem[] | undefined
  #tickets: Tickets = newTickets()
  #terms: ServerTerms
  #validity: Validity

  constructor(options: TlsContextOptions) {
    // A copy: what is changed in the options later changes nothing.
    this.#options = { ...options, ...(options.alpn !== undefined && { alpn: [...options.alpn] }) }
    this.#ca = options.ca
    this.#validity = checkIdentity(CREATE, options)
    if (options.ca !== undefined) checkAuthorities(CREATE, options.ca)
    this.#terms = this.#make(CREATE, options, options.ca, this.#tickets)
  }

  get validTo(): Date {
    return new Date(this.#validity.to)
  }

  replace(identity: TlsIdentity & Pick<TlsOptions, 'ca'>): void {
    checkOptions(REPLACE, identity)
    checkTlsIdentity(REPLACE, identity)
    const validity = checkIdentity(REPLACE, identity)
    const ca = identity.ca ?? this.#ca
    if (identity.ca !== undefined) checkAuthorities(REPLACE, identity.ca)
    // A client that resumes its session is not verified again.
    const tickets = isSameCa(ca, this.#ca) ? this.#tickets : newTickets()
    const terms = this.#make(REPLACE, identity, ca, tickets)
    // Nothing can fail any more.
    this.#ca = ca
    this.#tickets = tickets
    this.#validity = validity
    this.#terms = terms
  }

  #make(action: string, { cert, key, passphrase }: TlsIdentity, ca: Pem | readonly Pem[] | undefined, tickets: Tickets): ServerTerms {
    const { minVersion, secureContext } = this.#options
    const options: TlsOptions = {
      cert,
      key,
      ...(passphrase !== undefined && { passphrase }),
      ...(ca !== undefined && { ca }),
      ...(minVersion !== undefined && { minVersion }),
      ...(secureContext !== undefined && { secureContext })
    }
    return termsOf(makeSecureContext(action, options, tickets), this.#options)
  }

  [inspect.custom](): string {
    return `TlsContext { validTo: ${this.validTo.toISOString()} }`
  }

  // For this file only, which tells others: users hold a context and nothing but its public members.

  static terms(context: Context): ServerTerms {
    return context.#terms
  }

  static contextFor(context: Context): TlsContextOptions['contextFor'] {
    return context.#options.contextFor
  }

  static is(value: unknown): value is Context {
    return typeof value === 'object' && value !== null && #options in value
  }
}

/** See `TlsContext.create`. */
export function createContext(options: TlsContextOptions): TlsContext {
  checkOptions(CREATE, options)
  checkTlsIdentity(CREATE, options)
  const { clientCert, contextFor, secureContext } = options
  if (clientCert !== undefined) checkOneOf(CREATE, 'clientCert', clientCert, CLIENT_CERT)
  if (clientCert !== undefined && clientCert !== 'none' && !canWrapHandles()) {
    throw new TypeError(
      `${CREATE} as 'clientCert' must be 'none' on this runtime, which does not say whether a certificate holds: received '${clientCert}'`
    )
  }
  if (contextFor !== undefined) checkFunction(CREATE, 'contextFor', contextFor)
  if (secureContext?.pfx !== undefined) {
    throw new TypeError(`${CREATE} as 'secureContext' must not have 'pfx': a server's certificate is 'cert' and 'key'`)
  }
  return new Context(options)
}

/** Whether `value` was made by `TlsContext.create`. */
export function isTlsContext(value: unknown): value is TlsContext {
  return Context.is(value)
}

/** Checks what a server is given as `tls`. */
export function checkTlsContext(action: string, name: string, value: unknown): asserts value is TlsContext {
  if (!Context.is(value)) throw new TypeError(`${action} as '${name}' must be made by TlsContext.create: received ${inspectOptions(value)}`)
}

/** How a handshake goes that starts now. */
export function serverTerms(context: TlsContext): ServerTerms {
  return Context.terms(context as Context)
}

/** The function that chooses by name, if there is one. */
export function contextForOf(context: TlsContext): TlsContextOptions['contextFor'] {
  return Context.contextFor(context as Context)
}

/** Options as a message may quote them: a key is nothing for a log. */
export function inspectOptions(value: unknown): string {
  if (typeof value !== 'object' || value === null || Context.is(value) || Array.isArray(value)) return inspect(value)
  const entries = Object.entries(value)
  if (entries.length === 0) return inspect(value)
  return `{ ${entries.map(([key, item]) => `${key}: ${SECRETS.includes(key) ? '…' : inspect(item, { depth: 0 })}`).join(', ')} }`
}

const SECRETS = ['cert', 'key', 'passphrase', 'ca', 'secureContext']

function checkTlsIdentity(action: string, options: TlsIdentity & TlsOptions): void {
  checkPem(action, 'cert', options.cert)
  checkPem(action, 'key', options.key)
  checkTlsOptions(action, options)
}

function termsOf(secureContext: SecureContext, { alpn, clientCert = 'none', closeNotify = 'required' }: TlsContextOptions): ServerTerms {
  const options: TLSSocketOptions = {
    isServer: true,
    secureContext,
    requestCert: clientCert !== 'none',
    // OpenSSL refuses a client without a certificate, and lets every certificate through.
    rejectUnauthorized: clientCert === 'required',
    ...(alpn !== undefined && { ALPNProtocols: [...alpn] })
  }
  return { secureContext, clientCert, closeNotify, options }
}

function newTickets(): Tickets {
  const { randomBytes } = nodeCrypto()
  return { ticketKeys: randomBytes(48), sessionIdContext: randomBytes(16).toString('hex') }
}
