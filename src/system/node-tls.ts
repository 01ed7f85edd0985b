// Node's own TLS, loaded when it is first needed: importing the library must not cost it.

import { createRequire } from 'node:module'

type NodeTls = typeof import('node:tls')
type NodeCrypto = typeof import('node:crypto')

const require = createRequire(import.meta.url)
let tls: NodeTls | undefined
let crypto: NodeCrypto | undefined

/** `node:tls`. */
export function nodeTls(): NodeTls {
  tls ??= require('node:tls') as NodeTls
  return tls
}

/** `node:crypto`. */
export function nodeCrypto(): NodeCrypto {
  crypto ??= require('node:crypto') as NodeCrypto
  return crypto
}
