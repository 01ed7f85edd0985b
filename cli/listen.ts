// The command `listen` without a program: one client, on standard input and output.

import { constants } from 'node:os'
import { type InetWhereToListen, type ListenOptions, listen, ServerClosedError, type UnixWhereToListen } from 'it-tcp'
import { formatAddress } from './address.ts'
import { converse } from './converse.ts'
import { EXIT } from './failure.ts'
import { Report } from './report.ts'

const SIGNALS = ['SIGINT', 'SIGTERM'] as const

/** Takes one client, stops listening, and talks until both sides have ended. Gives the exit code. */
export async function listenAndConverse(where: InetWhereToListen | UnixWhereToListen, options: ListenOptions): Promise<number> {
  const server = await listen(where, options)
  new Report().say(`listening on ${formatAddress(server.address)}`)
  let code: number = EXIT.ok
  const onSignal = (signal: (typeof SIGNALS)[number]): void => {
    code = 128 + constants.signals[signal]
    void server.close({ closeExistingConnections: true })
  }
  for (const signal of SIGNALS) process.once(signal, onSignal)
  try {
    const connection = await server.accept()
    // The file of a unix socket goes now, and whoever comes later is told that nobody listens.
    await server.close()
    await converse(connection)
  } catch (error) {
    if (code === EXIT.ok) throw error
    if (!(error instanceof ServerClosedError)) process.stdin.destroy()
  } finally {
    for (const signal of SIGNALS) process.off(signal, onSignal)
  }
  return code
}
