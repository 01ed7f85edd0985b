// TLS of the commands: certificates come from files, and those of a server are read again when it is told to.

import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { connect, type ListenOptions, type TlsClientOptions, TlsContext } from 'it-tcp'
import type { Target } from './address.ts'
import { explain, UsageError } from './failure.ts'
import type { Report } from './report.ts'

/** The files of a server; without a certificate there is no TLS. */
export interface ServerTlsFiles {
  readonly tlsCert?: string
  /** The certificate's own, if it is left out. */
  readonly tlsKey?: string
  /** With it, only clients with a certificate of that authority are served. */
  readonly tlsClientCa?: string
}

/** What a client asks for and trusts; no name is the host that is dialled. */
export interface ClientTls {
  readonly name: string
  /** The file of the authority, if it is not one of the system's. */
  readonly ca: string | undefined
  /** The files of the client's own certificate, if it shows one. */
  readonly cert: string | undefined
  /** The certificate's own, if it is left out. */
  readonly key: string | undefined
}

/** A server's certificate, as it is in its files. */
export class ServerTls {
  /** For the server; empty without TLS. */
  readonly options: Pick<ListenOptions, 'tls'>
  readonly #files: ServerTlsFiles
  readonly #context: TlsContext | undefined

  /** @throws If a file cannot be read, or what is in it is no good. */
  constructor(files: ServerTlsFiles) {
    this.#files = files
    if (files.tlsCert === undefined) {
      this.options = {}
      return
    }
    this.#context = TlsContext.create({ ...identityIn(files), clientCert: files.tlsClientCa === undefined ? 'none' : 'required' })
    this.options = { tls: this.#context }
  }

  /** Whether there is something to read again. */
  get isThere(): boolean {
    return this.#context !== undefined
  }

  /** Takes over what is in the files now, for clients that come later; or says why not, and goes on with what it has. */
  reload(report: Report): void {
    const context = this.#context
    if (context === undefined) return
    try {
      context.replace(identityIn(this.#files))
      report.say(`certificate read again: valid until ${context.validTo.toISOString()}`)
    } catch (error) {
      report.say(`keeping the old certificate: ${explain(error)}`)
    }
  }
}

/**
 * What the library is to be told, checked before anybody is dialled.
 *
 * @throws {UsageError} If the name is none.
 * @throws If the file cannot be read, or what is in it is no good.
 */
export async function clientTls({ name, ca, cert, key = cert }: ClientTls, where: Target, flag: string): Promise<TlsClientOptions> {
  if (name === '' && 'family' in where.target) throw new UsageError(`${flag} needs a name for a Unix socket: ${flag}=NAME`)
  const tls: TlsClientOptions = {
    ...(name !== '' && { serverName: name }),
    ...(ca !== undefined && { ca: contentOf(ca) }),
    ...(cert !== undefined && key !== undefined && { cert: contentOf(cert), key: contentOf(key) })
  }
  const nobody = AbortSignal.abort()
  try {
    // Options are looked at first, and then the signal.
    await connect(where, { tls, signal: nobody })
  } catch (error) {
    if (error instanceof TypeError || error instanceof RangeError) throw new UsageError(`${flag}: ${explain(error)}`)
    if (error !== nobody.reason) throw error
  }
  return tls
}

/** A host name; '' if it is left out. */
export function parseServerName(text: string): string {
  if (isIP(text) !== 0) throw new UsageError(`must be a host name; an address that is dialled is verified without it: received '${text}'`)
  return text
}

function identityIn({ tlsCert = '', tlsKey = tlsCert, tlsClientCa }: ServerTlsFiles) {
  return { cert: contentOf(tlsCert), key: contentOf(tlsKey), ...(tlsClientCa !== undefined && { ca: contentOf(tlsClientCa) }) }
}

function contentOf(file: string): Uint8Array {
  try {
    return readFileSync(file)
  } catch (error) {
    throw new Error(`cannot read ${file}: ${(error as NodeJS.ErrnoException).code}`, { cause: error })
  }
}
