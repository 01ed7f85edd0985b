// What makes a server's TLS context.

import { createContext } from './tls/context.ts'
import type { TlsContext as Contract, TlsContextOptions } from './tls.ts'

export type TlsContext = Contract

/** Creates a {@link TlsContext}. */
export const TlsContext = Object.freeze({
  /**
   * A certificate for servers, checked at once.
   *
   * @throws {TlsError} If the certificate is unusable: its key belongs to another one, it is expired, not yet valid or half-written, or its
   * key is encrypted and there is no `passphrase`.
   * @throws {TypeError} If an option has the wrong type.
   * @throws {RangeError} If an option is out of range.
   * @example
   * ```ts
   * import { readFileSync } from 'node:fs'
   * import { onPort, Server, TlsContext } from 'it-tcp'
   *
   * const tls = TlsContext.create({ cert: readFileSync('cert.pem'), key: readFileSync('key.pem') })
   * const server = await Server.create(onPort(465), { tls }, async ({ reader, writer }) => writer(reader))
   * process.on('SIGHUP', () => tls.replace({ cert: readFileSync('cert.pem'), key: readFileSync('key.pem') }))
   * ```
   */
  create(options: TlsContextOptions): TlsContext {
    return createContext(options)
  }
})
