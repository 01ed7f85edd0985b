#!/usr/bin/env node
// The command `it-tcp`.

import { CommanderError } from 'commander'
import { codeOf, EXIT, explain, UsageError } from './failure.ts'
import { createProgram } from './program.ts'

/** What breaks a connection that was there. */
const BROKEN = ['ERR_CONNECTION_RESET', 'ERR_CONNECTION_CLOSED', 'ERR_IDLE_TIMEOUT', 'ERR_BUFFER_AGE_LIMIT']

try {
  await createProgram().parseAsync()
} catch (error) {
  process.exitCode = exitCodeOf(error)
  // The parser has said what it has to say; and a reader that has seen enough, such as head, wants to hear nothing.
  if (!(error instanceof CommanderError) && codeOf(error) !== 'EPIPE') console.error(`it-tcp: ${explain(error)}`)
}

function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
  if (error instanceof UsageError) return EXIT.usage
  return BROKEN.includes(codeOf(error) ?? '') ? EXIT.broken : EXIT.failed
}
