// The command `listen --exec`: each client gets a process of its own, whose standard input and output it is.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { pipeline } from 'node:stream/promises'
import type { Connection, InetWhereToListen, UnixWhereToListen } from 'it-tcp'
import { type ServeOptions, serve } from './serve.ts'
import type { Session } from './session.ts'

/** The connection, and three pipes while the process starts. */
const DESCRIPTORS = 4
/** Processes cost more than connections: without a limit given, this many. */
const DEFAULT_LIMIT = 100
/** Milliseconds for a process to end by SIGTERM, when its client is gone, before SIGKILL. */
const KILL_AFTER = 5_000

/** Serves each client with a process that the shell starts. Gives the exit code, after a signal. */
export async function listenAndExec(where: InetWhereToListen | UnixWhereToListen, command: string, options: ServeOptions): Promise<number> {
  const { maxConnections = DEFAULT_LIMIT } = options
  return await serve(where, { ...options, maxConnections }, DESCRIPTORS, (client, session) => runFor(client, session, command))
}

async function runFor(client: Connection, session: Session, command: string): Promise<void> {
  // A group of its own: Ctrl+C is for this program, which lets clients finish, and what the shell starts can be ended with the shell.
  const child = spawn(command, {
    shell: true,
    detached: process.platform !== 'win32',
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, IT_TCP_CLIENT: session.client }
  })
  const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>
  exited.catch(() => {})
  await once(child, 'spawn')
  session.upstream = command
  session.sent = () => client.writer.bytesWritten + client.writer.bytesPending
  const stop = (): void => end(child)
  client.signal.addEventListener('abort', stop)
  try {
    // A process that does not read all its input is no failure; what it leaves is thrown away, so that the client can go on to its end.
    const fed = pipeline(client.reader, child.stdin).catch(() => client.reader.discard())
    fed.catch(() => {})
    await client.writer.writeAll(child.stdout)
    const [code, signal] = await exited
    session.exit = signal ?? (code as number)
    // Half an answer must not look like a whole one.
    if (signal !== null) throw new Error(`the process was ended by ${signal}`)
    await client.writer.close()
  } catch (error) {
    end(child)
    await exited
    throw error
  } finally {
    client.signal.removeEventListener('abort', stop)
  }
}

function end(child: ChildProcess): void {
  signalGroup(child, 'SIGTERM')
  const timer = setTimeout(() => signalGroup(child, 'SIGKILL'), KILL_AFTER)
  child.once('exit', () => clearTimeout(timer))
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
  try {
    if (process.platform === 'win32') child.kill(signal)
    else process.kill(-child.pid, signal)
  } catch {
    // It has just ended.
  }
}
