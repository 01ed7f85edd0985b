// The command `listen --exec`: each client gets a process of its own, whose standard input and output it is.

import { pipeline } from 'node:stream/promises'
import type { Connection } from 'it-tcp'
import type { ListenPlace } from './address.ts'
import { ProcessGroup } from './process-group.ts'
import { type ServeOptions, serve } from './serve.ts'
import type { Session } from './session.ts'

/** The connection, and three pipes while the process starts. */
const DESCRIPTORS = 4

/** Serves each client with a process that the shell starts. Gives the exit code, after a signal. */
export async function listenAndExec(where: ListenPlace, command: string, options: ServeOptions): Promise<number> {
  return await serve(where, options, DESCRIPTORS, (client, session) => runFor(client, session, command))
}

async function runFor(client: Connection, session: Session, command: string): Promise<void> {
  const group = await ProcessGroup.start(command, { IT_TCP_CLIENT: session.client })
  session.upstream = command
  session.sent = () => client.writer.bytesWritten + client.writer.bytesPending
  const stop = (): void => void group.end()
  client.signal.addEventListener('abort', stop)
  if (client.signal.aborted) stop()
  try {
    // A process that does not read all its input is no failure; what it leaves is thrown away, so that the client can go on to its end.
    const fed = pipeline(client.reader, group.stdin).catch(() => client.reader.discard())
    fed.catch(() => {})
    await client.writer.writeAll(group.stdout)
    const exit = await group.exited
    session.exit = exit
    // Half an answer must not look like a whole one.
    if (typeof exit === 'string') throw new Error(`the process was ended by ${exit}`)
    await client.writer.close()
  } finally {
    client.signal.removeEventListener('abort', stop)
    // The place of this client is free when all that it has started is gone.
    await group.end()
  }
}
