// The command `connect`: a client on standard input and output.

import { type ConnectOptions, connect, type InetWhereToConnect, type UnixWhereToConnect } from 'it-tcp'
import { converse } from './converse.ts'

/** Connects, and talks until both sides have ended. */
export async function connectAndConverse(where: InetWhereToConnect | UnixWhereToConnect, options: ConnectOptions): Promise<void> {
  await converse(await connect(where, options))
}
