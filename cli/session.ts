// One client of a server: what is counted of it while it is there, and the line about it when it is over.

import type { SocketAddress } from 'it-tcp'
import { formatAddress } from './address.ts'
import { codeOf, explain } from './failure.ts'
import { formatBytes } from './quantity.ts'

export const LOG_FORMATS = ['text', 'json'] as const
export type LogFormat = (typeof LOG_FORMATS)[number]

/** A client, and what serves it. */
export class Session {
  /** What serves the client: an address, or a command. Null as long as it is not reached. */
  upstream: string | null = null
  /** How many bytes came from there. */
  sent: () => number = () => 0
  /** Of the process that served it, where one did; a signal's name if that ended it. */
  exit: number | NodeJS.Signals | undefined
  /** What broke it; undefined if both sides ended in order. */
  error: unknown
  readonly #received: () => number
  readonly #name: string
  readonly #time = new Date()
  readonly #start = performance.now()

  /** `received` tells how many bytes have come from the client. */
  constructor(client: SocketAddress, received: () => number = () => 0) {
    this.#received = received
    this.#name = formatAddress(client)
  }

  /** Who the client is. */
  get client(): string {
    return this.#name
  }

  /** Bytes that have come from both sides: what was read from one is what was, or will be, written to the other. */
  get bytes(): number {
    return this.#received() + this.sent()
  }

  /** The line of the log about it, when it is over. */
  describe(format: LogFormat): string {
    const { upstream, exit, error } = this
    const time = this.#time.toISOString()
    if (format === 'text') return `${time} ${this.summary()}`
    const failure = error === undefined ? null : { code: codeOf(error) ?? null, message: explain(error) }
    return JSON.stringify({
      time,
      client: this.#name,
      upstream,
      received: this.#received(),
      sent: this.sent(),
      duration: this.#duration,
      ...(exit !== undefined && { exit }),
      error: failure
    })
  }

  /** The same for people. */
  summary(): string {
    const { upstream, exit, error } = this
    const parts = [`${formatBytes(this.#received())} received`, `${formatBytes(this.sent())} sent`, `${this.#duration} ms`]
    if (exit !== undefined) parts.push(`exit ${exit}`)
    if (error !== undefined) parts.push(explain(error))
    return `${this.#name} -> ${upstream ?? '-'}: ${parts.join(', ')}`
  }

  get #duration(): number {
    return Math.round(performance.now() - this.#start)
  }
}
