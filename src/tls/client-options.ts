// What a client's `tls` option comes to: checked, with the name that is verified and all that Node's TLS wants of it.

import type { SecureContext } from 'node:tls'
import { checkBoolean } from '../options.ts'
import type { TlsClientOptions, TlsIdentity } from '../tls.ts'
import { inspectOptions, isTlsContext } from './context.ts'
import { fingerprint } from './fingerprint.ts'
import { checkServerName, type ServerName, serverNameOf } from './identity.ts'
import { checkAuthorities, checkIdentity, checkValidNow, makeSecureContext, type Validity } from './material.ts'
import { checkTlsOptions } from './options.ts'
import { Recent } from './recent.ts'

/** How a client's handshake goes. */
export interface ClientTerms {
  readonly serverName: ServerName
  readonly secureContext: SecureContext
  readonly alpn: readonly string[] | undefined
  readonly verify: boolean
  readonly closeNotify: 'required' | 'optional'
  /** The same for options that say the same. */
  readonly fingerprint: string
}

/**
 * Checks the option `tls` of a client. `host` is what is dialled: a name or an address; undefined where there is none, as for a path. Another
 * `subject` than `'tls'` names the argument in messages.
 */
export function clientTerms(action: string, tls: unknown, host: string | undefined, subject = 'tls'): ClientTerms {
  if (isTlsContext(tls)) {
    throw new TypeError(`${action} as '${subject}' must be a client's options, and no context of a server: received ${inspectOptions(tls)}`)
  }
  if (tls !== true && (typeof tls !== 'object' || tls === null || Array.isArray(tls))) {
    throw new TypeError(`${action} as '${subject}' must be true or an object: received ${inspectOptions(tls)}`)
  }
  const options: TlsClientOptions = tls === true ? {} : tls
  checkTlsOptions(action, options)
  const { serverName, verify = true, alpn, closeNotify = 'required', cert, key } = options
  checkBoolean(action, 'verify', verify)
  if ((cert === undefined) !== (key === undefined)) {
    const [given, missing] = cert === undefined ? ['key', 'cert'] : ['cert', 'key']
    throw new TypeError(`${action} as '${given}' must come with '${missing}': received only one of them`)
  }
  const expected = expectedName(action, serverName, host)
  const made = contextOf(action, options)
  return { serverName: expected, secureContext: made.secureContext, alpn, verify, closeNotify, fingerprint: made.fingerprint }
}

function expectedName(action: string, serverName: string | undefined, host: string | undefined): ServerName {
  if (serverName !== undefined) return checkServerName(action, serverName)
  if (host !== undefined) return serverNameOf(action, host)
  throw new TypeError(`${action} as 'serverName' must be a host name where none is dialled: received undefined`)
}

interface Made {
  readonly fingerprint: string
  readonly secureContext: SecureContext
  readonly validity: Validity | undefined
}

// Of the last few options, so that a client that connects over and over does not read its certificates each time.
const contexts = new Recent<Made>(10)

function contextOf(action: string, options: TlsClientOptions): Made {
  // The name is none of the context's business.
  const { serverName: _, ...rest } = options
  const print = fingerprint(rest)
  const known = contexts.take(print)
  if (known?.validity !== undefined) checkValidNow(action, known.validity)
  const made = known ?? make(action, options, print)
  contexts.put(print, made)
  return made
}

function make(action: string, options: TlsClientOptions, print: string): Made {
  const { cert, key, passphrase, ca } = options
  const identity = cert !== undefined && key !== undefined ? { cert, key, ...(passphrase !== undefined && { passphrase }) } : undefined
  const validity = identity === undefined ? undefined : checkIdentity(action, identity satisfies TlsIdentity)
  if (ca !== undefined) checkAuthorities(action, ca)
  return { fingerprint: print, secureContext: makeSecureContext(action, options), validity }
}
