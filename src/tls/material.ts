// Certificates and keys: whether they are whole, belong together and are valid now.

import type { KeyObject, X509Certificate } from 'node:crypto'
import type { SecureContext, SecureContextOptions } from 'node:tls'
import { asOwnFault, TlsError } from '../errors.ts'
import { nodeCrypto, nodeTls } from '../system/node-tls.ts'
import type { Pem, TlsIdentity, TlsOptions } from '../tls.ts'
import { DEFAULT_MIN_VERSION } from './options.ts'

/** From when to when a chain of certificates is valid, in milliseconds since 1970: the latest beginning and the earliest end of all in it. */
export interface Validity {
  readonly from: number
  readonly to: number
  /** Whom the first certificate is for. */
  readonly subject: string
}

/** Checks that the certificate is whole, valid now, and that the key is its own. */
export function checkIdentity(action: string, { cert, key, passphrase }: TlsIdentity): Validity {
  const chain = readCertificates(action, 'cert', cert)
  const validity = validityOf(chain)
  checkValidNow(action, validity)
  const leaf = chain[0] as X509Certificate
  if (!leaf.checkPrivateKey(readKey(action, key, passphrase))) {
    throw unusable(`${action} as 'key' must be the key of 'cert': received that of another certificate than ${quoted(leaf)}`)
  }
  return validity
}

/** Checks that now is within `validity`. */
export function checkValidNow(action: string, { from, to, subject }: Validity): void {
  const now = Date.now()
  if (now > to) throw unusable(`${action} as 'cert' must be valid now: received one for ${subject} that expired at ${iso(to)}`)
  if (now < from) throw unusable(`${action} as 'cert' must be valid now: received one for ${subject} that is not valid before ${iso(from)}`)
}

/** Checks that `ca` has certificates, and that all of them can be read. */
export function checkAuthorities(action: string, ca: Pem | readonly Pem[]): void {
  for (const one of listOf(ca)) readCertificates(action, 'ca', one)
}

/** What Node's TLS makes of `options`, which were checked. `more` are those that only one side has. */
export function makeSecureContext(action: string, options: TlsOptions, more: SecureContextOptions = {}): SecureContext {
  const { minVersion = DEFAULT_MIN_VERSION, cert, key, passphrase, ca, secureContext } = options
  const { SSL_OP_NO_RENEGOTIATION = 0 } = nodeCrypto().constants as { SSL_OP_NO_RENEGOTIATION?: number }
  try {
    return nodeTls().createSecureContext({
      ...secureContext,
      minVersion,
      secureOptions: (secureContext?.secureOptions ?? 0) | SSL_OP_NO_RENEGOTIATION,
      ...(cert !== undefined && { cert: bufferOf(cert) }),
      ...(key !== undefined && { key: bufferOf(key) }),
      ...(passphrase !== undefined && { passphrase }),
      ...(ca !== undefined && { ca: listOf(ca).map(bufferOf) }),
      ...more
    })
  } catch (cause) {
    throw unusable(`${action}: ${(cause as Error).message}`, { cause })
  }
}

/** One or several, as several. */
export function listOf(ca: Pem | readonly Pem[]): readonly Pem[] {
  return typeof ca === 'string' || ca instanceof Uint8Array ? [ca] : ca
}

/** Whether two say the same, in text or bytes. */
export function isSameCa(a: TlsOptions['ca'], b: TlsOptions['ca']): boolean {
  const [left, right] = [a, b].map((ca) => ca && listOf(ca).map(textOf).join('\n'))
  return left === right
}

const LINE = /-----(BEGIN|END) ([A-Z0-9 ]+)-----/g
const CERTIFICATES = ['CERTIFICATE', 'X509 CERTIFICATE', 'TRUSTED CERTIFICATE']

/** The certificates of a PEM file, of which nothing may be cut off: it may be read while somebody writes it. */
function readCertificates(action: string, name: string, pem: Pem): X509Certificate[] {
  const text = textOf(pem)
  const must = `${action} as '${name}' must be whole certificates in PEM`
  const received = text.trim() === '' ? "''" : `${text.length} characters`
  const blocks: string[] = []
  let begun: { label: string; at: number } | undefined
  for (const { 0: line, 1: what, 2: label, index } of text.matchAll(LINE)) {
    if (what === 'BEGIN' && begun === undefined) {
      begun = { label: label as string, at: index }
    } else if (what === 'END' && begun?.label === label) {
      if (CERTIFICATES.includes(label as string)) blocks.push(text.slice(begun?.at, index + line.length))
      begun = undefined
    } else {
      throw unusable(`${must}: received ${received} with '${line}' where none is due`)
    }
  }
  if (begun !== undefined) throw unusable(`${must}: received ${received} without the END line of a ${begun.label}`)
  const [last = ''] = text.trimEnd().split('\n').slice(-1)
  if (last.startsWith('-') && !last.startsWith('-----END')) throw unusable(`${must}: received ${received} that end inside '${last}'`)
  if (blocks.length === 0) throw unusable(`${must}: received ${received}`)
  return blocks.map((block, index) => {
    try {
      return new (nodeCrypto().X509Certificate)(block)
    } catch (cause) {
      throw unusable(`${must}: received ${received} of which certificate ${index + 1} cannot be read`, { cause })
    }
  })
}

function readKey(action: string, pem: Pem, passphrase: string | undefined): KeyObject {
  try {
    return nodeCrypto().createPrivateKey({ key: bufferOf(pem), format: 'pem', ...(passphrase !== undefined && { passphrase }) })
  } catch (cause) {
    const text = textOf(pem)
    const received = text === '' ? "''" : `${text.length} characters`
    // Which code Node.js has for it depends on the format of the key.
    if (passphrase === undefined && text.includes('ENCRYPTED')) {
      throw unusable(`${action} as 'key' must come with its 'passphrase': received an encrypted key without`, { cause })
    }
    const also = passphrase === undefined ? '' : " that 'passphrase' opens"
    throw unusable(`${action} as 'key' must be a private key in PEM${also}: received ${received}`, { cause })
  }
}

function validityOf(chain: readonly X509Certificate[]): Validity {
  return {
    from: Math.max(...chain.map(({ validFrom }) => Date.parse(validFrom))),
    to: Math.min(...chain.map(({ validTo }) => Date.parse(validTo))),
    subject: quoted(chain[0] as X509Certificate)
  }
}

function quoted({ subject, subjectAltName, serialNumber }: X509Certificate): string {
  return `'${(subject ?? subjectAltName ?? `serial number ${serialNumber}`).replaceAll('\n', ', ')}'`
}

function textOf(pem: Pem): string {
  return typeof pem === 'string' ? pem : bufferOf(pem).toString('latin1')
}

function bufferOf(pem: Pem): Buffer {
  return typeof pem === 'string' ? Buffer.from(pem) : Buffer.from(pem.buffer, pem.byteOffset, pem.byteLength)
}

function iso(time: number): string {
  return new Date(time).toISOString()
}

// Whoever is to be secured has no part in it.
function unusable(message: string, options?: ErrorOptions): TlsError {
  return asOwnFault(new TlsError(message, options))
}
