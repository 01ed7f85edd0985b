// The command `listen` without a program: one client, on standard input and output.

import { type InetWhereToListen, type ListenOptions, listen, type UnixWhereToListen } from 'it-tcp'
import { formatAddress } from './address.ts'
import { converse } from './converse.ts'
import { EXIT } from './failure.ts'
import { Report } from './report.ts'
import { exitCodeOf, onSignals } from './shutdown.ts'

/** Takes one client, stops listening, and talks until both sides have ended. Gives the exit code. */
export async function listenAndConverse(where: InetWhereToListen | UnixWhereToListen, options: ListenOptions): Promise<number> {
  const server = await listen(where, options)
  let code: number = EXIT.ok
  const dispose = onSignals((signal) => {
    code = exitCodeOf(signal)
    // The process would wait for whoever does not read its output.
    void server.close({ closeExistingConnections: true }).then(() => process.exit(code))
  })
  new Report().say(`listening on ${formatAddress(server.address)}`)
  try {
    const connection = await server.accept()
    // The file of a unix socket goes now, and whoever comes later is told that nobody listens.
    await server.close()
    await converse(connection)
  } catch (error) {
    // What fails after a signal fails because of it.
    if (code === EXIT.ok) throw error
  } finally {
    dispose()
  }
  return code
}
