// Clients that come without a break while a server restarts, and what becomes of each.

import { createConnection } from 'node:net'
import type { Target } from './raw.ts'

/** What became of the clients of a load. */
export interface Outcome {
  clients: number
  answered: number
  /** Nobody listened. */
  refused: number
  /** It broke before the answer was complete. */
  reset: number
  /** It ended in order, without an answer. */
  unanswered: number
  /** Milliseconds of the slowest, from connecting to the end of the answer. */
  slowest: number
}

/** Keeps `concurrency` clients busy, each with one line after another, until it is stopped. `isAnswer` judges what comes back for 'hello'. */
export class Load {
  readonly outcome: Outcome = { clients: 0, answered: 0, refused: 0, reset: 0, unanswered: 0, slowest: 0 }
  readonly #target: Target
  readonly #onAnswer: (answer: string) => boolean
  readonly #running: Promise<unknown>
  #isStopped = false

  constructor(target: Target, concurrency: number, onAnswer: (answer: string) => boolean) {
    this.#target = target
    this.#onAnswer = onAnswer
    this.#running = Promise.all(Array.from({ length: concurrency }, () => this.#loop()))
  }

  async stop(): Promise<Outcome> {
    this.#isStopped = true
    await this.#running
    return this.outcome
  }

  async #loop(): Promise<void> {
    while (!this.#isStopped) await this.#client()
  }

  #client(): Promise<void> {
    const { outcome } = this
    const start = performance.now()
    outcome.clients++
    return new Promise((resolve) => {
      const target = this.#target
      const socket = typeof target === 'number' ? createConnection({ port: target, host: '127.0.0.1' }) : createConnection(target)
      let isConnected = false
      let failure: Error | undefined
      let answer = ''
      socket.setEncoding('utf8').on('data', (text: string) => {
        answer += text
        if (answer.endsWith('\n')) socket.end()
      })
      socket.on('connect', () => {
        isConnected = true
      })
      socket.on('error', (error) => {
        failure = error
      })
      socket.on('close', () => {
        if (this.#onAnswer(answer)) outcome.answered++
        else if (failure === undefined) outcome.unanswered++
        else if (isConnected) outcome.reset++
        else outcome.refused++
        outcome.slowest = Math.max(outcome.slowest, performance.now() - start)
        resolve()
      })
      socket.write('hello\n')
    })
  }
}
