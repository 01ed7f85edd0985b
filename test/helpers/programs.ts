// Other programs: whether they are there, and running them.

import { type SpawnOptions, spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import type { Context, Hook, Test } from 'mocha'

/** Whether `program` is on the path. */
export function isAvailable(program: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, program), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/** Skips the test, or in a `before` hook its block, if a program is missing, and says which. */
export function needs(context: Context, ...programs: string[]): void {
  const missing = programs.filter((program) => !isAvailable(program))
  skipIf(context, missing.length > 0, `needs ${missing.join(', ')}`)
}

/** Skips the test, or in a `before` hook its block, if `condition` holds; the report says why. */
export function skipIf(context: Context, condition: boolean, reason: string): void {
  if (!condition) return
  const current = context.test as Test | Hook | undefined
  if (current?.type === 'hook') {
    current.parent?.eachTest((test) => {
      test.title += ` (skipped: ${reason})`
    })
  } else if (current !== undefined) {
    current.title += ` (skipped: ${reason})`
  }
  context.skip()
}

export interface Finished {
  /** Null if a signal ended it. */
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

export interface RunOptions extends SpawnOptions {
  /** Given to its standard input, which is then closed. */
  input?: string | Uint8Array
  /** Milliseconds after which it is killed. */
  killAfter?: number
}

/** Runs a program to its end and collects what it prints. */
export function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const { input = '', killAfter = 30_000, ...rest } = options
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { ...rest, stdio: 'pipe', timeout: killAfter, killSignal: 'SIGKILL' })
    let stdout = ''
    let stderr = ''
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    child.on('error', reject)
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }))
    // A program that ends without reading is not an error.
    child.stdin?.on('error', () => {})
    child.stdin?.end(input)
  })
}

/** Runs a JavaScript file with this very Node.js. */
export function runNode(args: readonly string[], options?: RunOptions): Promise<Finished> {
  return run(process.execPath, args, options)
}
