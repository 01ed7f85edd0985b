// Draws programs and runs them; a failing one is made smaller, and told with the command that runs it again.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { inspect } from 'node:util'
import fc from 'fast-check'
import { type Program, programs } from './program.ts'
import { runProgram } from './run-program.ts'

export interface CheckOptions {
  readonly runs: number
  readonly seed: number
  /** Of a failure that was told. */
  readonly path?: string
  /** Milliseconds after which no smaller program is looked for. */
  readonly shrinkFor?: number
  /** Called after each program. */
  readonly onProgram?: (count: number) => void
}

export interface Checked {
  readonly count: number
  /** Undefined if all went well. */
  readonly failure: string | undefined
}

interface Warning extends Error {
  readonly code?: string
}

const SHRINK_FOR = 30_000
/** Long for what takes a millisecond, also on a machine with better things to do. */
const PATIENCE = 6_000
/** A smaller program that hangs should not cost as much. */
const SHRINKING_PATIENCE = 1_000

/** Runs programs until one fails, or all have been run. */
export async function check({ runs, seed, path, shrinkFor = SHRINK_FOR, onProgram }: CheckOptions): Promise<Checked> {
  const directory = mkdtempSync(join(tmpdir(), 'it-tcp-'))
  const printers = process.listeners('warning')
  const unexpected: unknown[] = []
  const onWarning = (warning: Warning): void => {
    if (warning.code?.startsWith('IT_TCP_') !== true && warning.name !== 'ExperimentalWarning') unexpected.push(warning)
  }
  const onRejection = (reason: unknown): void => void unexpected.push(reason)
  process.removeAllListeners('warning').on('warning', onWarning).on('unhandledRejection', onRejection)
  let count = 0
  let failedAt: number | undefined
  try {
    const property = fc.asyncProperty(programs, async (program) => {
      fc.pre(failedAt === undefined || performance.now() - failedAt < shrinkFor)
      try {
        unexpected.length = 0
        await runProgram(program, { directory, patience: failedAt === undefined ? PATIENCE : SHRINKING_PATIENCE })
        // Rejections that nobody handles and warnings are told after the microtasks.
        await setImmediate()
        if (unexpected.length > 0) throw new AggregateError(unexpected, `Unexpected: ${unexpected.map((one) => inspect(one)).join(', ')}`)
      } catch (error) {
        failedAt ??= performance.now()
        throw error
      }
      count++
      onProgram?.(count)
    })
    const details = await fc.check(property, { numRuns: runs, seed, ...(path !== undefined && { path }) })
    return { count, failure: details.failed ? report(details) : undefined }
  } finally {
    process.off('warning', onWarning).off('unhandledRejection', onRejection)
    for (const printer of printers) process.on('warning', printer)
    rmSync(directory, { recursive: true, force: true })
  }
}

function report({ seed, counterexample, counterexamplePath, errorInstance, numRuns, numShrinks }: fc.RunDetails<[Program]>): string {
  const push = process.env.IT_TCP_READ === 'push' ? 'IT_TCP_READ=push ' : ''
  return [
    `Program ${numRuns} does what the model does not allow. Run it again with`,
    `  ${push}npm run model -- --seed ${seed} --path ${counterexamplePath}`,
    `Made smaller ${numShrinks} times:`,
    inspect(counterexample?.[0], { depth: null, breakLength: 140, compact: 4 }),
    errorInstance instanceof Error ? inspect(errorInstance) : String(errorInstance)
  ].join('\n')
}
