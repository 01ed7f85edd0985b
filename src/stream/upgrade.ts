// What a connection can become. Who makes the connection says so: the stream knows nothing of it.

import type { SocketAddress } from '../address.ts'
import type { StartTlsOptions, TlsClientOptions, TlsContext } from '../tls.ts'
import type { ByteConnection } from './byte-connection.ts'

/** Goes on in TLS on a connection that did not until now. */
export interface Upgrade {
  startTls(
    connection: ByteConnection<SocketAddress>,
    options: TlsContext | TlsClientOptions | true,
    limits: StartTlsOptions | undefined
  ): Promise<void>
}
