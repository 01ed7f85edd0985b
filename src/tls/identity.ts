// Who the peer must be: host names in one normal form, and whether a certificate is for one.

import type { X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { domainToASCII } from 'node:url'
import { inspect } from 'node:util'
import { nodeTls } from '../system/node-tls.ts'

/** A host in the one form that is asked for, verified, and that sessions are kept under. */
export interface ServerName {
  /** In lower case, without a trailing dot, internationalised names in ASCII; or a numeric address. */
  readonly name: string
  /** Whether it is an address, which is not asked for (RFC 6066). */
  readonly isAddress: boolean
}

/** The normal form of the host dialled. */
export function serverNameOf(action: string, host: string): ServerName {
  const found = normalised(host)
  if (found === undefined) throw new RangeError(`${action} as 'host' must be a name that TLS can verify: received ${inspect(host)}`)
  return found
}

/** The normal form of a `serverName` option. */
export function checkServerName(action: string, serverName: unknown): ServerName {
  if (typeof serverName !== 'string') throw new TypeError(`${action} as 'serverName' must be a host name: received ${inspect(serverName)}`)
  const found = normalised(serverName)
  if (found === undefined) throw new RangeError(`${action} as 'serverName' must be a host name: received ${inspect(serverName)}`)
  if (found.isAddress) {
    throw new RangeError(`${action} as 'serverName' must be a host name, and no IP address: received ${inspect(serverName)}`)
  }
  return found
}

/** What is wrong with a certificate for `serverName`, on the day it is used; undefined if nothing is. */
export function identityError({ name }: ServerName, certificate: X509Certificate): Error | undefined {
  return nodeTls().checkServerIdentity(name, certificate.toLegacyObject()) ?? dateError(certificate)
}

/** What is wrong with the dates of a certificate that was verified when its session began; undefined if nothing is. */
export function dateError({ validFrom, validTo }: X509Certificate): Error | undefined {
  const now = Date.now()
  if (now > Date.parse(validTo)) return Object.assign(new Error(`certificate has expired at ${validTo}`), { code: 'CERT_HAS_EXPIRED' })
  if (now < Date.parse(validFrom)) {
    return Object.assign(new Error(`certificate is not valid before ${validFrom}`), { code: 'CERT_NOT_YET_VALID' })
  }
  return undefined
}

// Nothing that a URL would read as something else than part of a name: domainToASCII() makes 'a.test' of 'a.test/b.test'.
const PLAIN = /^[\w\u0080-\u{10ffff}.-]+$/u
const NORMAL = /^[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*$/
const LONGEST_NAME = 253

function normalised(host: string): ServerName | undefined {
  if (isIP(host) !== 0) return { name: host.replace(/%.*$/, ''), isAddress: true }
  if (!PLAIN.test(host)) return undefined
  const name = domainToASCII(host).replace(/\.$/, '')
  if (name.length > LONGEST_NAME || !NORMAL.test(name)) return undefined
  // Also what the resolver takes for one: 0x7f.1.
  return { name, isAddress: isIP(name) !== 0 }
}
