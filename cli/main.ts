#!/usr/bin/env node
// The command `it-tcp`.

import { codeOf, EXIT, explain, UsageError } from './failure.ts'
import { runProgram } from './program.ts'

/** What breaks a connection that was there. */
const BROKEN = ['ERR_CONNECTION_RESET', 'ERR_CONNECTION_CLOSED', 'ERR_IDLE_TIMEOUT', 'ERR_BUFFER_AGE_LIMIT', 'ERR_TRUNCATED']

try {
  const code = await runProgram(process.argv.slice(2))
  process.exitCode = code
  // A signal has ended it: nobody waits for whoever does not read the output.
  if (code > 128) process.exit()
} catch (error) {
  process.exitCode = exitCodeOf(error)
  // A reader that has seen enough, such as head, wants to hear nothing.
  if (codeOf(error) !== 'EPIPE') console.error(`it-tcp: ${explain(error)}`)
}

function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return EXIT.usage
  return BROKEN.includes(codeOf(error) ?? '') ? EXIT.broken : EXIT.failed
}
