// The command `forward`: each client gets a connection of its own to the target.

import { connect, type InetWhereToConnect, type InetWhereToListen, type UnixWhereToConnect, type UnixWhereToListen } from 'it-tcp'
import { formatAddress } from './address.ts'
import { relay } from './relay.ts'
import { type ServeOptions, serve } from './serve.ts'

export interface ForwardOptions extends ServeOptions {
  /** Milliseconds for reaching the target. */
  readonly connectTimeout?: number
}

/** The client's connection, and the one to the target. */
const DESCRIPTORS = 2

/** Forwards until a signal comes. Gives the exit code. */
export async function forward(
  from: InetWhereToListen | UnixWhereToListen,
  to: InetWhereToConnect | UnixWhereToConnect,
  options: ForwardOptions
): Promise<number> {
  const { connectTimeout } = options
  return await serve(from, options, DESCRIPTORS, async (client, session) => {
    // A client that goes while the target is being reached takes its attempt along.
    const { signal } = client
    const upstream = await connect(to, { signal, ...(connectTimeout !== undefined && { timeout: connectTimeout }) })
    session.upstream = formatAddress(upstream.remoteAddress)
    session.sent = () => upstream.reader.bytesRead
    await relay(client, upstream)
  })
}
