// The command it-tcp and other programs as processes of a test.

import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { type Finished, type RunOptions, runNode } from './programs.ts'
import type { Target } from './raw.ts'
import type { Scope } from './scope.ts'
import { until } from './until.ts'

/** The command's file, as npm links it. */
export const MAIN = fileURLToPath(new URL('../../cli/main.js', import.meta.url))

/** A process that is killed at the end of the test if it has not ended before. */
export interface Running {
  readonly child: ChildProcess
  /** What it has printed so far. */
  readonly stdout: string
  readonly stderr: string
  /** How it ended. */
  readonly exit: Promise<number | NodeJS.Signals>
}

/** Starts a program. */
export function start(scope: Scope, program: string, args: readonly string[], options: SpawnOptions = {}): Running {
  const child = spawn(program, args, { stdio: 'pipe', ...options })
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]?.setEncoding('utf8').on('data', (text: string) => {
      output[name] += text
    })
  }
  child.stdin?.on('error', () => {})
  const exit = new Promise<number | NodeJS.Signals>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => resolve(signal ?? (code as number)))
  })
  exit.catch(() => {})
  scope.defer(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
    await exit
  })
  return {
    child,
    exit,
    get stdout() {
      return output.stdout
    },
    get stderr() {
      return output.stderr
    }
  }
}

export interface Listening extends Running {
  /** Where it listens. */
  readonly target: Target
}

/** Starts the command, and resolves when it listens. */
export async function startListening(scope: Scope, args: readonly string[], options?: SpawnOptions): Promise<Listening> {
  return await untilListening(start(scope, process.execPath, [MAIN, ...args], options))
}

/** Resolves when the command, or a program that runs it, listens. */
export async function untilListening(running: Running): Promise<Listening> {
  let ended: number | NodeJS.Signals | undefined
  void running.exit.then((exit) => {
    ended = exit
  })
  const listening = /^it-tcp: listening on (.*)\n/m
  await until(() => ended !== undefined || listening.test(running.stderr), 'the command listens')
  const address = listening.exec(running.stderr)?.[1]
  if (address === undefined) throw new Error(`The command ended with ${ended}: ${running.stderr}`)
  const port = /:(\d+)$/.exec(address)?.[1]
  return Object.defineProperty(running, 'target', { value: port === undefined ? address : Number(port) }) as Listening
}

/** Runs the command to its end. */
export async function runCommand(args: readonly string[], options?: RunOptions): Promise<Finished> {
  return await runNode([MAIN, ...args], { killAfter: 8_000, ...options })
}

/** How a target is written on the command line. */
export function written(target: Target): string {
  return typeof target === 'string' ? target : `127.0.0.1:${target}`
}
