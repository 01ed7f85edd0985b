// Shutting down: a first signal stops accepting and lets connections finish, a second one cuts them off.

import { constants } from 'node:os'
import type { Server } from 'it-tcp'
import { EXIT } from './failure.ts'
import { formatCount, formatDuration } from './quantity.ts'
import type { Report } from './report.ts'

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
type Signal = (typeof SIGNALS)[number]

/**
 * Calls `handler` for each signal that asks the process to end. The function that it returns stops that. As the first process of a
 * container a process gets only the signals that it handles.
 */
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

/** Does `work` until it is over, or until a signal aborts it. Gives the exit code. */
export async function untilSignal(work: (signal: AbortSignal) => Promise<void>): Promise<number> {
  const interruption = new AbortController()
  let code: number = EXIT.ok
  const dispose = onSignals((signal) => {
    code = exitCodeOf(signal)
    interruption.abort(new Error(`ended by ${signal}`))
  })
  try {
    await work(interruption.signal)
  } catch (error) {
    // What fails after a signal fails because of it.
    if (!interruption.signal.aborted) throw error
  } finally {
    dispose()
  }
  return code
}

/** The two stages of a server's shutdown. */
export class Shutdown {
  /** The exit code. */
  code: number = EXIT.ok
  /** How many connections were open at the first signal. */
  open = 0
  /** How many of them were cut off. */
  cutOff = 0
  /** Stops listening to signals. */
  readonly dispose: () => void

  /** With `reload`, SIGHUP calls that and stops nothing. */
  constructor(server: Server, grace: number, report: Report, reload?: () => void) {
    this.dispose = onSignals((signal) => {
      if (signal === 'SIGHUP' && reload !== undefined) {
        reload()
        return
      }
      if (server.isClosed) {
        this.code = exitCodeOf(signal)
        void server.close({ closeExistingConnections: true })
        return
      }
      this.open = server.numConnections
      const stay = `${this.open} open, ${formatDuration(grace)} to finish; a second signal cuts them off`
      report.say(this.open === 0 ? 'stopping' : `stopping: ${stay}`)
      void server.close({ forceAfter: grace })
    })
  }

  /** What has become of those that were open; undefined if none were. */
  get outcome(): string | undefined {
    if (this.cutOff > 0) return `${formatCount(this.cutOff, 'connection')} cut off, ${Math.max(0, this.open - this.cutOff)} finished`
    return this.open > 0 ? `${formatCount(this.open, 'connection')} finished` : undefined
  }
}
