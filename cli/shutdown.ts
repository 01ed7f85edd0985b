// Shutting down: a first signal stops accepting and lets connections finish, a second one cuts them off.

import { constants } from 'node:os'
import type { Server } from 'it-tcp'
import { EXIT } from './failure.ts'
import { formatDuration } from './quantity.ts'
import type { Report } from './report.ts'

const SIGNALS = ['SIGINT', 'SIGTERM'] as const
type Signal = (typeof SIGNALS)[number]

/** Calls `handler` for each signal that asks the process to end. The function that it returns stops that. */
export function onSignals(handler: (signal: Signal) => void): () => void {
  for (const signal of SIGNALS) process.on(signal, handler)
  return () => {
    for (const signal of SIGNALS) process.off(signal, handler)
  }
}

/** What a process that `signal` has ended gives as its exit code, as shells count. */
export function exitCodeOf(signal: Signal): number {
  return 128 + constants.signals[signal]
}

/** The two stages of a server's shutdown. */
export class Shutdown {
  /** The exit code. */
  code: number = EXIT.ok
  /** Stops listening to signals. */
  readonly dispose: () => void

  constructor(server: Server, grace: number, report: Report) {
    this.dispose = onSignals((signal) => {
      if (server.isClosed) {
        this.code = exitCodeOf(signal)
        void server.close({ closeExistingConnections: true })
        return
      }
      const open = server.numConnections
      const stay = `${open} open, ${formatDuration(grace)} to finish; a second signal cuts them off`
      report.say(open === 0 ? 'stopping' : `stopping: ${stay}`)
      void server.close({ forceAfter: grace })
    })
  }
}
