// The checks of what both sides of TLS may say, before anything happens.

import type { SecureContextOptions } from 'node:tls'
import { inspect } from 'node:util'
import type { TlsOptions } from '../tls.ts'

export const DEFAULT_MIN_VERSION = 'TLSv1.2'

const VERSIONS = ['TLSv1.2', 'TLSv1.3']
const CLOSE_NOTIFY = ['required', 'optional']
// What has an option of its own: two places that may say different things are one too many.
const OWN_OPTIONS = ['cert', 'key', 'passphrase', 'ca', 'minVersion', 'ALPNProtocols', 'ticketKeys', 'sessionIdContext']

/** Checks the types of what both sides may say. That certificates and keys are good is another matter. */
export function checkTlsOptions(action: string, options: TlsOptions): void {
  const { minVersion, alpn, cert, key, passphrase, ca, closeNotify, secureContext } = options
  if (minVersion !== undefined) checkOneOf(action, 'minVersion', minVersion, VERSIONS)
  if (alpn !== undefined) checkAlpn(action, alpn)
  if (cert !== undefined) checkPem(action, 'cert', cert)
  if (key !== undefined) checkPem(action, 'key', key)
  if (passphrase !== undefined) checkPassphrase(action, passphrase)
  if (ca !== undefined) checkAuthorities(action, ca)
  if (closeNotify !== undefined) checkOneOf(action, 'closeNotify', closeNotify, CLOSE_NOTIFY)
  if (secureContext !== undefined) checkSecureContext(action, secureContext)
}

/** Checks that `value` is text or bytes. It is never quoted, as it may be a secret. */
export function checkPem(action: string, name: string, value: unknown): void {
  if (typeof value !== 'string' && !(value instanceof Uint8Array)) {
    throw new TypeError(`${action} as '${name}' must be PEM, a string or a Uint8Array: received ${described(value)}`)
  }
}

/** Checks that `value` is one of a few words. */
export function checkOneOf(action: string, name: string, value: unknown, words: readonly string[]): void {
  const must = `${action} as '${name}' must be ${words.map((word) => `'${word}'`).join(' or ')}`
  if (typeof value !== 'string') throw new TypeError(`${must}: received ${inspect(value)}`)
  if (!words.includes(value)) throw new RangeError(`${must}: received ${inspect(value)}`)
}

function checkAlpn(action: string, alpn: unknown): void {
  if (!Array.isArray(alpn)) throw new TypeError(`${action} as 'alpn' must be an array of names: received ${inspect(alpn)}`)
  if (alpn.length === 0) throw new RangeError(`${action} as 'alpn' must not be empty: received []`)
  for (const name of alpn) {
    if (typeof name !== 'string') throw new TypeError(`${action} as 'alpn' must be an array of names: received ${inspect(name)} among them`)
    const length = Buffer.byteLength(name)
    if (length === 0 || length > 255) {
      throw new RangeError(`${action} as 'alpn' must have names of 1 to 255 bytes: received ${length} bytes, ${inspect(name)}`)
    }
  }
}

function checkPassphrase(action: string, passphrase: unknown): void {
  if (typeof passphrase !== 'string') {
    throw new TypeError(`${action} as 'passphrase' must be a string: received ${described(passphrase)}`)
  }
}

function checkAuthorities(action: string, ca: unknown): void {
  if (!Array.isArray(ca)) {
    checkPem(action, 'ca', ca)
    return
  }
  if (ca.length === 0) throw new RangeError(`${action} as 'ca' must not be empty: received []`)
  for (const one of ca) checkPem(action, 'ca', one)
}

function checkSecureContext(action: string, secureContext: SecureContextOptions): void {
  if (secureContext === null || typeof secureContext !== 'object') {
    throw new TypeError(`${action} as 'secureContext' must be an object: received ${inspect(secureContext)}`)
  }
  for (const name of OWN_OPTIONS) {
    if ((secureContext as Record<string, unknown>)[name] !== undefined) {
      throw new TypeError(`${action} as 'secureContext' must not have '${name}', which is an option of its own or not for users`)
    }
  }
}

/** What something is that may be a secret. */
function described(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  if (Array.isArray(value)) return `an array of ${value.length}`
  return typeof value === 'object' ? `an object (${value.constructor?.name ?? 'without a class'})` : `a ${typeof value}`
}
