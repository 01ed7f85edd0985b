// How the command fails: a plain line on standard error, and an exit code that a script can tell apart.

import { ListenError } from 'it-tcp'

/** What the command ends with; `docs/cli.md` lists them. A second signal ends it with 128 and the signal's number, as shells count. */
export const EXIT = { ok: 0, failed: 1, usage: 2, broken: 3 } as const

/** A mistake in the arguments. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** Standard input cannot be read. */
export class InputError extends Error {
  override readonly name = 'InputError'

  constructor(cause: Error) {
    super(`cannot read the input: ${cause.message}`, { cause })
  }
}

/** What went wrong, in a line for people. */
export function explain(error: unknown): string {
  if (error instanceof ListenError && 'family' in error.address && codeOf(error.cause) === 'EADDRINUSE') {
    const { address } = error
    return address.family === 'unix' ? `path in use: ${address.path}` : `port in use: ${address.port}`
  }
  const message = error instanceof Error ? error.message : String(error)
  // What stands behind a colon begins with a small letter.
  return /^[A-Z][a-z]/.test(message) ? `${message.charAt(0).toLowerCase()}${message.slice(1)}` : message
}

/** The stable code of an error, if it has one. */
export function codeOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | undefined)?.code
  return typeof code === 'string' ? code : undefined
}
