// Two connections of this library over TLS, and what a test may put between them.

import { connect } from '../../src/connect.ts'
import type { Connection } from '../../src/connection.ts'
import { listen } from '../../src/listen.ts'
import type { ConnectOptions, ListenOptions } from '../../src/options.ts'
import type { TlsClientOptions, TlsContextOptions } from '../../src/tls.ts'
import { TlsContext } from '../../src/tls-context.ts'
import { toHostAndPort } from '../../src/where-to-connect.ts'
import { onPortChosenByOs } from '../../src/where-to-listen.ts'
import type { Certificates } from './certificates.ts'
import type { Scope } from './scope.ts'
import type { Version } from './tls-ends.ts'

export interface TlsPair {
  readonly client: Connection
  readonly server: Connection
}

export interface PairOptions {
  readonly version?: Version
  readonly server?: Partial<TlsContextOptions>
  readonly client?: TlsClientOptions
  readonly clientSettings?: ConnectOptions
  readonly serverSettings?: ListenOptions
  /** A relay between both, made for a port and giving another. */
  readonly over?: (port: number) => Promise<number>
}

/** Opens a connection that has this library at both ends, in clear. Both are aborted when the test ends. */
export async function plainPair(scope: Scope, { clientSettings, serverSettings, over }: PairOptions = {}): Promise<TlsPair> {
  const listening = scope.open(await listen(onPortChosenByOs({ host: '127.0.0.1' }), serverSettings))
  const accepted = listening.accept()
  const port = over === undefined ? listening.listeningOn : await over(listening.listeningOn)
  const client = await connect(toHostAndPort('127.0.0.1', port), clientSettings)
  const server = await accepted
  scope.defer(async () => {
    client.abort()
    server.abort()
    await Promise.all([client.closed, server.closed])
  })
  return { client, server }
}

/** The same, and both go on in TLS at once. */
export async function tlsPair(scope: Scope, made: Certificates, options: PairOptions = {}): Promise<TlsPair> {
  const pair = await plainPair(scope, options)
  await secure(pair, made, options)
  return pair
}

/** Both go on in TLS. */
export async function secure({ client, server }: TlsPair, made: Certificates, options: PairOptions = {}): Promise<void> {
  await Promise.all([server.startTls(serverContext(made, options)), client.startTls(clientOptions(made, options))])
}

/** What begins as a ClientHello as long as a record can be, for who sends it byte by byte: at one a millisecond it takes 16 seconds. */
export function longHello(): Uint8Array {
  return Buffer.concat([Buffer.from('160301400001003ffc0303', 'hex'), Buffer.alloc(16_378)])
}

export function serverContext(made: Certificates, { version, server }: PairOptions = {}): TlsContext {
  const { secureContext, ...rest } = server ?? {}
  return TlsContext.create({
    ...made.a,
    ...(version !== undefined && { minVersion: version, secureContext: { ...secureContext, maxVersion: version } }),
    ...rest
  })
}

export function clientOptions(made: Certificates, { client }: PairOptions = {}): TlsClientOptions {
  return { ca: made.ca.cert, serverName: 'a.test', ...client }
}
