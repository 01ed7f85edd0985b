// A server that lives through it all, in a process of its own, and every kind of client at once.

import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Target } from '../helpers/raw.ts'
import { Crowd, childEnvironment, type Errand, type Stay } from './crowd.ts'
import type { Kind } from './lab.ts'
import { inMiB } from './meter.ts'

const SURVIVOR = fileURLToPath(new URL('./survivor.js', import.meta.url))
const ROUND = 2_000
const SIZES = [1, 65_535, 65_537, 300_000, 2_000_000]

/** Those whose bytes are compared, and how many of each there are at once. */
const HONEST: readonly (readonly [Errand, number])[] = [
  ['ask', 4],
  ['half-close', 2],
  ['echo', 4],
  ['download', 4],
  ['slow-download', 2],
  ['upload', 4]
]
const RUDE: readonly (readonly [Errand, number])[] = [
  ['reset', 2],
  ['ask-and-reset', 2],
  ['leave', 2],
  ['upload-and-reset', 2]
]
const STAYING: readonly Stay[] = ['silent', 'trickle', 'deaf', 'endless-line', 'stubborn']

/** What the survivor tells of itself. */
export interface Health {
  readonly target: Target
  readonly open: number
  readonly resident: number
  readonly held: number
  readonly descriptors: number
  /** Uploads that ended early and looked whole. */
  readonly truncated: number
  /** Faults of handlers that no client can bring about. */
  readonly faults: readonly string[]
  /** Echoes that it dialled itself. */
  readonly dialled: number
}

export interface Tally {
  readonly clients: number
  readonly bytes: number
  readonly open: number
  readonly resident: number
  readonly wrong: number
}

export class Mixture {
  readonly name: string
  readonly #kind: Kind
  readonly #child: ChildProcess
  readonly #crowds: readonly [honest: Crowd, rude: Crowd, staying: Crowd]
  readonly #outcomes: Record<string, number> = {}
  readonly #wrong: string[] = []
  #target: Target = 0
  #first: Health | undefined
  #last: Health | undefined
  #clients = 0
  #bytes = 0

  private constructor(kind: Kind, gate: string, crowds: readonly [Crowd, Crowd, Crowd]) {
    this.name = `${kind}, gate in ${gate === 'kernel' ? 'the kernel' : 'userland'}`
    this.#kind = kind
    this.#crowds = crowds
    this.#child = fork(SURVIVOR, [kind], {
      env: childEnvironment({ IT_TCP_GATE: gate }),
      execArgv: ['--expose-gc', '--enable-source-maps', '--disable-warning=IT_TCP_AT_LIMIT']
    })
  }

  static async start(kind: Kind, gate: 'kernel' | 'userland'): Promise<Mixture> {
    const mixture = new Mixture(kind, gate, await Promise.all([Crowd.start(), Crowd.start(), Crowd.start()]))
    mixture.#target = (await mixture.#look()).target
    return mixture
  }

  get tally(): Tally {
    const { open = 0, resident = 0, faults = [] } = this.#last ?? {}
    return { clients: this.#clients, bytes: this.#bytes, open, resident, wrong: this.#wrong.length + faults.length }
  }

  get summary(): string {
    const { first, last } = { first: this.#first, last: this.#last }
    const outcomes = Object.entries(this.#outcomes).map(([outcome, count]) => `${count.toLocaleString('en')} ${outcome}`)
    const memory = first && last && `held ${inMiB(first.held)} after the first round, ${inMiB(last.held)} at the end`
    return [...outcomes, `${last?.dialled} echoed by its own connections`, memory, `${last?.descriptors} descriptors left`].join(', ')
  }

  /** Lets clients come for `milliseconds`. */
  async run(milliseconds: number): Promise<void> {
    const end = performance.now() + milliseconds
    for (let round = 0; performance.now() < end; round++) {
      await this.#round(round)
      this.#last = await this.#look()
      if (round === 0) this.#first = await this.#rest()
    }
  }

  /** Lets all go, and gives what was lost or is left. */
  async end(): Promise<string[]> {
    const last = await this.#rest()
    const lost = [...this.#wrong, ...last.faults]
    if (last.open > 0) lost.push(`${last.open} connections are left`)
    if (last.truncated > 0 && this.#kind === 'tcp') lost.push(`${last.truncated} uploads that broke off looked whole`)
    if (this.#first !== undefined && last.descriptors > this.#first.descriptors)
      lost.push(`${last.descriptors - this.#first.descriptors} descriptors`)
    if (this.#first !== undefined && last.held > this.#first.held + 4 * 1024 * 1024) lost.push(`${last.held - this.#first.held} bytes`)
    const exit = once(this.#child, 'exit')
    this.#child.disconnect()
    await Promise.all([exit, ...this.#crowds.map((crowd) => crowd.stop())])
    return lost.map((what) => `${this.name}: ${what}`)
  }

  async #round(round: number): Promise<void> {
    const [honest, rude, staying] = this.#crowds
    const options = { target: this.#target, duration: ROUND }
    const bytes = SIZES[round % SIZES.length] as number
    await staying.hold(STAYING[round % STAYING.length] as Stay, { target: this.#target, count: 5, bytes: 1e9 })
    await Promise.all([
      ...HONEST.map(async ([errand, concurrency]) => {
        // Slow readers of much would take longer than a round.
        const size = errand === 'slow-download' ? Math.min(bytes, 300_000) : bytes
        const { outcomes, wrong, bytes: moved } = await honest.run(errand, { ...options, concurrency, bytes: size, pause: 1 })
        this.#count(outcomes)
        this.#bytes += moved
        for (const [outcome, count] of Object.entries(outcomes)) {
          if (outcome !== 'served') this.#wrong.push(`${errand} of ${size} bytes: ${count} ${outcome} ${wrong.join('; ')}`)
        }
      }),
      ...RUDE.map(async ([errand, concurrency]) => {
        const { outcomes } = await rude.run(errand, { ...options, concurrency, bytes: bytes + 1, pause: 2 })
        this.#count(outcomes)
      })
    ])
    await staying.release({ how: round % 2 === 0 ? 'end' : 'reset' })
  }

  #count(outcomes: Readonly<Record<string, number>>): void {
    for (const [outcome, count] of Object.entries(outcomes)) {
      this.#outcomes[outcome] = (this.#outcomes[outcome] ?? 0) + count
      this.#clients += count
    }
  }

  /** How it is when nothing is going on. */
  async #rest(): Promise<Health> {
    for (let tries = 0; ; tries++) {
      this.#last = await this.#look()
      if (this.#last.open === 0 || tries === 100) return this.#last
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }

  async #look(): Promise<Health> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) throw new Error(`The server of ${this.name} has died`)
    const died = new AbortController()
    const onExit = (): void => died.abort(new Error(`The server of ${this.name} has died`))
    this.#child.once('exit', onExit)
    this.#child.send('?')
    try {
      const [health] = (await once(this.#child, 'message', { signal: died.signal })) as [Health]
      return health
    } finally {
      this.#child.off('exit', onExit)
    }
  }
}
