// Runs a scenario in a process of its own.

import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { childEnvironment } from './crowd.ts'
import type { Kind, Load, Report } from './lab.ts'

const SUBJECT = fileURLToPath(new URL('./subject.js', import.meta.url))

export interface RunOptions {
  readonly gate?: 'kernel' | 'userland'
  readonly signal?: AbortSignal
  /** Milliseconds after which it is given up. */
  readonly killAfter?: number
}

/** Runs the scenario `name`. A process that dies, or prints anything, is a fault. */
export function runScenario(name: string, kind: Kind, load: Load, options: RunOptions = {}): Promise<Report> {
  const { gate, signal, killAfter } = options
  return new Promise((resolve, reject) => {
    const child = fork(SUBJECT, {
      // At the limit a server says so, which is what these scenarios are about.
      execArgv: ['--expose-gc', '--enable-source-maps', '--disable-warning=IT_TCP_AT_LIMIT'],
      env: childEnvironment(gate === undefined ? {} : { IT_TCP_GATE: gate }),
      stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
      ...(signal !== undefined && { signal }),
      ...(killAfter !== undefined && { timeout: killAfter }),
      killSignal: 'SIGKILL'
    })
    let report: Report | undefined
    let printed = ''
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      printed += text
    })
    child.on('message', (message) => {
      report = message as Report
    })
    child.on('error', reject)
    child.on('close', (code, killedBy) => {
      if (report === undefined) reject(new Error(`${name} over ${kind} ended with ${code ?? killedBy}: ${printed}`))
      else resolve(printed === '' ? report : { ...report, faults: [...report.faults, printed] })
    })
    child.send({ name, kind, load })
  })
}
