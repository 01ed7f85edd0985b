// One connection on standard input and output: the command `connect`, and `listen` without a program.

import { fstatSync } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import { type Connection, type ConnectOptions, connect, listen, type Server } from 'it-tcp'
import { formatAddress, type ListenPlace, type Target } from './address.ts'
import { type AdmissionOptions, checkHasAddresses, entryRules, onTurnedAway } from './admission.ts'
import { explain, InputError } from './failure.ts'
import { formatBytes } from './quantity.ts'
import { Report } from './report.ts'
import { untilSignal } from './shutdown.ts'
import { clientTls, ServerTls, type ServerTlsFiles } from './tls.ts'

export interface ConverseOptions {
  readonly idleTimeout?: number
  readonly verbose?: true
}

export interface ConnectAndConverseOptions extends ConverseOptions, Pick<ConnectOptions, 'timeout'> {
  /** The name to verify that the server has; '' for the host that is dialled. */
  readonly tls?: string
  /** The file of the authority of its certificate. */
  readonly ca?: string
  /** The files of the certificate that the server is shown. */
  readonly tlsCert?: string
  readonly tlsKey?: string
}

/** Connects, and talks until both sides have ended. Gives the exit code. */
export async function connectAndConverse(where: Target, options: ConnectAndConverseOptions): Promise<number> {
  const { verbose, tls: name, ca, tlsCert: cert, tlsKey: key, ...plainOptions } = options
  checkInput()
  const tls = name === undefined ? undefined : await clientTls({ name, ca, cert, key }, where, '--tls')
  const connectOptions = tls === undefined ? plainOptions : { ...plainOptions, tls }
  const report = new Report(verbose)
  return await untilSignal(async (signal) => {
    await converse(await connect(where, { ...connectOptions, signal }), signal, report)
  })
}

/** Takes one client, stops listening, and talks until both sides have ended. Gives the exit code. */
export async function listenAndConverse(where: ListenPlace, options: ConverseOptions & AdmissionOptions & ServerTlsFiles): Promise<number> {
  const { verbose, idleTimeout, ...admission } = options
  checkInput()
  const tls = new ServerTls(options)
  const report = new Report(verbose)
  return await untilSignal(async (signal) => {
    const server: Server = (await listen(where, {
      ...(idleTimeout !== undefined && { idleTimeout }),
      ...entryRules(admission),
      ...tls.options
    })) as Server
    try {
      checkHasAddresses(server.address.family === 'unix', admission)
      report.say(`listening on ${formatAddress(server.address)}`)
      onTurnedAway(admission, (address, reason) => report.detail(`${formatAddress(address)}: turned away: ${explain(reason)}`))
      const client = await server.accept({ signal })
      // The file of a unix socket goes now, and whoever comes later is told that nobody listens.
      await server.close()
      await converse(client, signal, report)
    } finally {
      await server.close({ closeExistingConnections: true })
    }
  })
}

/**
 * Sends what comes in, with a half-close at its end, and puts out what is received, until both have ended. Someone at a terminal is
 * done when the peer has ended.
 *
 * @throws What broke the connection, or what keeps the input from being read or the output from being written.
 */
async function converse(connection: Connection, signal: AbortSignal, report: Report): Promise<void> {
  const { stdin, stdout } = process
  const { reader, writer, remoteAddress, localAddress } = connection
  const { tls } = connection
  const over = tls === null ? '' : `, over ${tls.version} with ${tls.cipher}`
  report.detail(`connected to ${formatAddress(remoteAddress)} from ${formatAddress(localAddress)}${over}`)
  let inputError: Error | undefined
  stdin.on('error', (error) => {
    inputError = new InputError(error)
  })
  const sent = writer(stdin)
  sent.catch(() => {})
  const talk = async (): Promise<void> => {
    // First to the end of what is received: an answer may have a reset behind it, on which sending fails first.
    await pipeline(reader, stdout, { end: false })
    if (!stdin.isTTY) await sent
    await connection.close()
  }
  try {
    // After a signal nobody waits for whoever does not read the output.
    await Promise.race([talk(), rejectionOf(signal)])
  } catch (error) {
    connection.abort(error)
    await connection.closed
    throw inputError ?? error
  } finally {
    // A read that is under way would keep the process alive.
    stdin.destroy()
    report.detail(`${formatBytes(writer.bytesWritten)} sent, ${formatBytes(reader.bytesRead)} received`)
  }
}

// Node.js takes a directory for an input that is empty.
function checkInput(): void {
  if (process.platform !== 'win32' && fstatSync(0).isDirectory()) throw new InputError(new Error('it is a directory'))
}

/** Rejects when the signal is aborted. */
function rejectionOf(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason)
    else signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
}
