// Shutting down: a first signal stops accepting and lets connections finish, a second one cuts them off.

import { constants } from 'node:os'
import type { Server } from 'it-tcp'
import { EXIT } from './failure.ts'
import { formatDuration } from './quantity.ts'
import type { Report } from './report.ts'

const SIGNALS = ['SIGINT', 'SIGTERM'] as const

/** Serves until a signal comes and everything has ended after it. Gives the exit code. */
export async function serveUntilSignal(server: Server, grace: number, report: Report): Promise<number> {
  let code: number = EXIT.ok
  let signals = 0
  const onSignal = (signal: (typeof SIGNALS)[number]): void => {
    signals++
    if (signals > 1) {
      code = 128 + constants.signals[signal]
      void server.close({ closeExistingConnections: true })
      return
    }
    const open = server.numConnections
    report.say(open === 0 ? 'stopping' : `stopping: ${open} open, ${formatDuration(grace)} to finish; a second signal cuts them off`)
    void server.close({ forceAfter: grace })
  }
  for (const signal of SIGNALS) process.on(signal, onSignal)
  try {
    await server.finished
  } finally {
    for (const signal of SIGNALS) process.off(signal, onSignal)
  }
  return code
}
