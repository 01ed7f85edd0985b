// With it @types/node has to be installed, but not named in a program's settings: newer compilers take none that are not named somewhere.
/// <reference types="node" preserve="true" />

/**
 * TCP and unix-domain sockets on async iterables.
 *
 * - a **reader** is an `AsyncIterable<Uint8Array>`, a **writer** is a sink, a **connection** is both;
 * - a **server** is an async iterator of accepted connections;
 * - a **bounded consumer pool** that pulls from it is the `maxConnections` gate: nobody pulls, nobody is accepted.
 *
 * @example
 * ```ts
 * import { connect, onPortChosenByOs, Server, toHostAndPort } from 'it-tcp'
 *
 * await using server = await Server.create(onPortChosenByOs({ host: '127.0.0.1' }), async ({ reader, writer }) => {
 *   await writer(reader)
 * })
 *
 * await using connection = await connect(toHostAndPort('127.0.0.1', server.listeningOn))
 * connection.writer.write('hello\n')
 * console.log(await connection.reader.readLine()) // hello
 * ```
 *
 * @packageDocumentation
 */

export type { HostAndPort, InetAddress, SocketAddress, UnixAddress } from './address.ts'
export { connect, connectSocket, withConnection } from './connect.ts'
export type { ByteStream, CloseOptions, Connection, PeerCredentials, ReceivedProxyHeader } from './connection.ts'
export { consumerPool } from './consumer-pool.ts'
export type {
  ConnectionCloseMessage,
  ConnectionOpenMessage,
  ObservedServer,
  ServerDescriptorsExhaustedMessage,
  ServerGateMessage,
  ServerHandlerEndMessage,
  ServerHandlerErrorMessage,
  ServerLimitMessage,
  ServerMessage,
  ServerTurnedAwayMessage,
  TurningStep
} from './diagnostics.ts'
export type { ConnectionDuplex } from './duplex.ts'
export {
  BufferAgeLimitError,
  BusyError,
  ConnectError,
  ConnectionClosedError,
  ConnectionResetError,
  ConnectTimeoutError,
  DelimiterNotFoundError,
  HandshakeTimeoutError,
  IdleTimeoutError,
  ItTcpError,
  LimitExceededError,
  ListenError,
  ProxyHeaderError,
  ReadTimeoutError,
  ServerClosedError,
  TlsError,
  TruncatedError,
  UnexpectedEndError
} from './errors.ts'
export { listen } from './listen.ts'
export type {
  ConnectionOptions,
  ConnectOptions,
  ConnectSocketOptions,
  ListenOptions,
  ProxyProtocolOptions,
  ServerOptions,
  WithConnectionOptions
} from './options.ts'
export { isPeerError } from './peer-error.ts'
export type {
  HeaderReader,
  LocalHeaderInit,
  ProxiedHeaderInit,
  ProxyHeader,
  ProxyHeaderInit,
  ReadProxyHeaderOptions
} from './proxy-header.ts'
export { formatProxyHeader, readProxyHeader } from './proxy-header.ts'
export type { Bytes, LimitedReadOptions, LineOptions, Reader, ReadOptions } from './reader.ts'
export { type Relayed, relay } from './relay.ts'
export type { InetServer, ListeningSocketInfo as ListeningSocket, ServerCloseOptions, UnixServer } from './server.ts'
export { Server } from './server.ts'
export type { ServerStatistics } from './server-statistics.ts'
export { fromDuplex, toDuplex, toWebStreams } from './streams.ts'
export type { ConnectionTls, Pem, StartTlsOptions, TlsClientOptions, TlsContextOptions, TlsIdentity, TlsOptions } from './tls.ts'
export { TlsContext } from './tls-context.ts'
export type { WebStreams } from './web-streams.ts'
export type { BindOptions, InetWhereToConnect, UnixWhereToConnect, WhereToConnect } from './where-to-connect.ts'
export { toFile, toHostAndPort, toInetAddress, toUnixAddress } from './where-to-connect.ts'
export type { InetWhereToListen, OnFileDescriptorOptions, OnFileOptions, OnPortOptions, UnixWhereToListen } from './where-to-listen.ts'
export { onFile, onFileDescriptor, onInherited, onPort, onPortChosenByOs, WhereToListen } from './where-to-listen.ts'
export type { Chunk, Source, Writer } from './writer.ts'
