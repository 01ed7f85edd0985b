// Node's own TLS, loaded when it is first needed: importing the library must not cost it.
//
// By a call that a bundle in CommonJS knows too, which has no `import.meta.url` to make a `require` of.

type NodeTls = typeof import('node:tls')
type NodeCrypto = typeof import('node:crypto')

let tls: NodeTls | undefined
let crypto: NodeCrypto | undefined

/** `node:tls`. */
export function nodeTls(): NodeTls {
  tls ??= process.getBuiltinModule('node:tls')
  return tls
}

/** `node:crypto`. */
export function nodeCrypto(): NodeCrypto {
  crypto ??= process.getBuiltinModule('node:crypto')
  return crypto
}
