// Warnings that a test brings about on purpose.

import type { Scope } from './scope.ts'

/** Until the test ends, warnings are not printed. */
export function quietWarnings(scope: Scope): void {
  const printers = process.listeners('warning')
  process.removeAllListeners('warning')
  scope.defer(() => {
    for (const printer of printers) process.on('warning', printer)
  })
}
