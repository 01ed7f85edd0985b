// Standard input and output as the other end of a connection.

import { pipeline } from 'node:stream/promises'
import type { Connection } from 'it-tcp'

/**
 * Sends what comes in, with a half-close at its end, and puts out what is received, until both have ended. Someone at a terminal is
 * done when the peer has ended.
 *
 * @throws What broke the connection, or what keeps the output from being written.
 */
export async function converse(connection: Connection): Promise<void> {
  const { stdin, stdout } = process
  const sent = connection.writer(stdin)
  sent.catch(() => {})
  try {
    // First to the end of what is received: an answer may have a reset behind it, on which sending fails first.
    await pipeline(connection.reader, stdout, { end: false })
    if (!stdin.isTTY) await sent
    await connection.close()
  } catch (error) {
    connection.abort(error)
    throw error
  } finally {
    // A read that is under way would keep the process alive.
    stdin.destroy()
  }
}
