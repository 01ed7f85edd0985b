// Running the example programs, as processes.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { type Finished, type RunOptions, runNode } from './programs.ts'
import { rawClient } from './raw.ts'
import type { Scope } from './scope.ts'

const COMPILED = fileURLToPath(new URL('../../examples/', import.meta.url))

/** The file of a program. */
export function exampleFile(name: string): string {
  return join(COMPILED, `${name}.js`)
}

/** The next line at each call; undefined at the end. */
export type Lines = () => Promise<string | undefined>

export interface RunningServer {
  readonly pid: number
  readonly port: number
  connect(): Promise<Socket>
  /** The next line that it prints. */
  line: Lines
  signal(name: NodeJS.Signals): void
  /** How it ended. */
  readonly exit: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
  /** What it said is wrong, so far. */
  complaints(): string
}

export interface Examples {
  /** Starts a program, which is killed at the end of the test if it has not ended before. */
  start(name: string, ...args: string[]): ChildProcess
  /** Starts a server whose first line tells its port. */
  startServer(name: string, ...args: string[]): Promise<RunningServer>
}

export function useExamples(scope: Scope): Examples {
  function start(name: string, ...args: string[]): ChildProcess {
    const child = spawn(process.execPath, ['--enable-source-maps', exampleFile(name), ...args])
    const exited = once(child, 'close')
    scope.defer(() => {
      child.kill('SIGKILL')
      return exited
    })
    return child
  }

  async function startServer(name: string, ...args: string[]): Promise<RunningServer> {
    const child = start(name, ...args)
    const exit = once(child, 'close').then(([code, signal]) => ({ code, signal }))
    let complaints = ''
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      complaints += text
    })
    const line = linesOf(child.stdout as NodeJS.ReadableStream)
    const first = await line()
    const port = Number(/^Listening on (?:port )?(\d+)/.exec(first ?? '')?.[1])
    if (Number.isNaN(port)) throw new Error(`${name} does not listen: ${first ?? complaints}`)
    return {
      pid: child.pid as number,
      port,
      line,
      exit,
      connect: () => rawClient(scope, port),
      signal: (name) => child.kill(name),
      complaints: () => complaints
    }
  }

  return { start, startServer }
}

/** Runs a program to its end. */
export async function runExample(name: string, args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  return await runNode(['--enable-source-maps', exampleFile(name), ...args], { killAfter: 25_000, ...options })
}

/** The lines of a stream, one a call. */
export function linesOf(stream: NodeJS.ReadableStream): Lines {
  const lines = createInterface({ input: stream })[Symbol.asyncIterator]()
  return async () => (await lines.next()).value
}
