// Listening, for whoever pulls the clients.

import type { SocketAddress } from './address.ts'
import type { ListenOptions } from './options.ts'
import { startServer } from './server/start.ts'
import { type Server, type ServerOn, serverOver } from './server.ts'
import type { WhereToListen } from './where-to-listen.ts'

/**
 * Listens on `where` and returns the server: an async iterator of accepted connections. Resolves when the socket is bound and listening;
 * clients can connect from then on, whether or not anyone pulls yet. If nobody pulls, nobody is accepted.
 *
 * The server is the caller's to close: by leaving a loop over it, by `close()`, by `signal`, or by holding it with `await using`.
 *
 * @throws {ListenError} If the address can't be listened on.
 * @throws {TypeError | RangeError} If an option is wrong, before anything happens.
 * @throws `signal.reason` if `signal` is already aborted.
 * @throws Whatever the `listeningOn` of `where` throws; nothing is left listening then.
 * @example
 * ```ts
 * for await (await using connection of await listen(onPort(8082))) {
 *   await connection.writer.writeAll(connection.reader)
 * }
 * ```
 */
export function listen<A extends SocketAddress, L>(where: WhereToListen<A, L>, options?: ListenOptions<A>): Promise<Server<A, L>>
// Which kind it is may be decided at run time: type parameters are not inferred from a union.
export function listen<W extends WhereToListen<SocketAddress, unknown>>(where: W, options?: ListenOptions): Promise<ServerOn<W>>
export async function listen<A extends SocketAddress, L>(
  where: WhereToListen<A, L>,
  options: ListenOptions<A> = {}
): Promise<Server<A, L>> {
  return serverOver(await startServer(where, options, undefined))
}
