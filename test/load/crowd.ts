// A process full of foreign clients, seen from outside.

import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Target } from '../helpers/raw.ts'

/** What clients do that come, do it, and go. */
export type Errand =
  | 'ask'
  | 'half-close'
  | 'reset'
  | 'ask-and-reset'
  | 'leave'
  | 'echo'
  | 'download'
  | 'slow-download'
  | 'upload'
  | 'upload-and-reset'
/** What clients do that stay. */
export type Stay = 'silent' | 'trickle' | 'deaf' | 'sipping' | 'endless-line' | 'greedy' | 'stubborn'

export interface ErrandOptions {
  readonly target: Target
  /** How many clients. */
  readonly count?: number
  /** Or for how long, in milliseconds, clients go on coming. */
  readonly duration?: number
  /** How many at once. */
  readonly concurrency?: number
  /** How much each of them sends or wants, where it does. */
  readonly bytes?: number
  /** Milliseconds between one errand and the next of the same client. */
  readonly pause?: number
}

/** How the errands ended: 'served', 'unanswered', 'broken', 'refused', 'gone' (on purpose) or 'wrong', and how often. */
export interface Outcomes {
  readonly outcomes: Readonly<Record<string, number>>
  /** Milliseconds of the one that took longest. */
  readonly worst: number
  /** Bytes that were sent and received. */
  readonly bytes: number
  /** What was wrong, of the first few. */
  readonly wrong: readonly string[]
}

export interface Held {
  readonly open: number
  readonly received: number
}

type Answer = { readonly id: number } & ({ readonly result: unknown } | { readonly error: string })

const CLIENTS = fileURLToPath(new URL('./clients.js', import.meta.url))

/** The environment of children: what measures this process is not for them. */
export function childEnvironment(more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const { NODE_V8_COVERAGE: _, NODE_OPTIONS: __, ...rest } = process.env
  return { ...rest, ...more }
}

export class Crowd {
  readonly #child: ChildProcess
  readonly #pending = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>()
  #lastId = 0

  private constructor() {
    this.#child = fork(CLIENTS, { env: childEnvironment(), execArgv: [] })
    this.#child.on('message', (message) => this.#settle(message as Answer))
    this.#child.on('exit', () => {
      for (const { reject } of this.#pending.values()) reject(new Error('The process of the clients has ended'))
      this.#pending.clear()
    })
  }

  /** Starts the process; resolves when it is ready. */
  static async start(): Promise<Crowd> {
    const crowd = new Crowd()
    await crowd.#ask('ready', {})
    return crowd
  }

  /** Lets clients come, run the errand and go. Resolves when all have gone. */
  run(errand: Errand, options: ErrandOptions): Promise<Outcomes> {
    return this.#ask('run', { errand, ...options })
  }

  /** Lets clients come and stay. Resolves when all are connected. */
  hold(stay: Stay, options: { target: Target; count: number; bytes?: number }): Promise<void> {
    return this.#ask('hold', { stay, ...options })
  }

  /** Those that stay. */
  held(): Promise<Held> {
    return this.#ask('held', {})
  }

  /** Lets one that sips read `bytes` bytes, or what is there. */
  sip(bytes: number): Promise<void> {
    return this.#ask('sip', { bytes })
  }

  /** Lets those go that stayed. Resolves when they have gone. */
  release(options: { how?: 'end' | 'reset' } = {}): Promise<void> {
    return this.#ask('release', options)
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const exit = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await exit
  }

  #ask<T>(act: string, options: object): Promise<T> {
    const id = ++this.#lastId
    return new Promise<T>((resolve, reject) => {
      this.#pending.set(id, { resolve, reject })
      this.#child.send({ id, act, ...options })
    })
  }

  #settle(answer: Answer): void {
    const pending = this.#pending.get(answer.id)
    this.#pending.delete(answer.id)
    if ('error' in answer) pending?.reject(new Error(answer.error))
    else pending?.resolve(answer.result as never)
  }
}
