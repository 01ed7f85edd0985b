// Where a scenario runs: a server, foreign clients in processes of their own, and what is measured.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type Connection,
  type ListenOptions,
  listen,
  onFile,
  onPort,
  Server,
  type ServerOptions,
  type SocketAddress
} from '../../src/index.ts'
import type { Target } from '../helpers/raw.ts'
import { Crowd, type Outcomes } from './crowd.ts'
import { type Memory, memoryWithoutGarbage, openThings, PeakMeter, surplus } from './meter.ts'

const MIB = 1024 * 1024
const LOOK_EVERY = 10
const POLITE_PAUSE = 10
/** Freed memory that malloc and the collector keep for the next time. */
const SLACK = 4 * MIB

/** How much of it. Each scenario says which of them it takes. */
export interface Load {
  readonly clients: number
  readonly bytes?: number
  readonly milliseconds?: number
}

export type Kind = 'tcp' | 'unix'

export interface Scenario {
  /** What is promised, in a sentence. */
  readonly promise: string
  /** For a run by hand. */
  readonly full: Load
  /** For every change. */
  readonly reduced: Load
  run(lab: Lab): Promise<void>
}

export interface Report {
  readonly figures: readonly (readonly [name: string, value: string])[]
  /** Promises that were broken; empty if all is well. */
  readonly faults: readonly string[]
  /** Absent where the process under test is another. */
  readonly memory?: { readonly before: Memory; readonly peak: Memory; readonly after: Memory }
  readonly seconds: number
}

type Handler = (connection: Connection) => unknown

export class Lab {
  readonly kind: Kind
  readonly load: Load
  readonly #figures: [string, string][] = []
  readonly #faults: string[] = []
  readonly #errors: Record<string, number> = {}
  readonly #closers: (() => unknown)[] = []
  readonly #directory = mkdtempSync(join(tmpdir(), 'it-tcp-'))
  readonly #start = performance.now()
  #sockets = 0
  #before: { memory: Memory; things: ReadonlyMap<string, number> } | undefined
  #peak: PeakMeter | undefined
  #memory: Report['memory']
  #delay = monitorEventLoopDelay({ resolution: 5 })

  constructor(kind: Kind, load: Load) {
    this.kind = kind
    this.load = load
  }

  /** A path for a unix socket. */
  path(): string {
    return join(this.#directory, `s${++this.#sockets}`)
  }

  defer(close: () => unknown): void {
    this.#closers.push(close)
  }

  async serve(options: ServerOptions<SocketAddress>, handler: Handler): Promise<Server> {
    const server = (
      this.kind === 'tcp'
        ? await Server.create(onPort(0, { host: '127.0.0.1' }), options, handler as never)
        : await Server.create(onFile(this.path()), options, handler as never)
    ) as Server
    return this.#track(server)
  }

  async listen(options: ListenOptions = {}): Promise<Server> {
    const where = this.kind === 'tcp' ? onPort(0, { host: '127.0.0.1' }) : onFile(this.path())
    return this.#track((await listen(where, options)) as Server)
  }

  #track(server: Server): Server {
    this.defer(async () => {
      server.invariant()
      await server.close({ closeExistingConnections: true })
    })
    return server
  }

  target(server: Server): Target {
    return server.listeningOn as Target
  }

  async crowd(): Promise<Crowd> {
    const crowd = await Crowd.start()
    this.defer(() => crowd.stop())
    return crowd
  }

  /** From now on it is measured: everything that is there from the start should be there. */
  async begin(): Promise<void> {
    this.#before = { memory: await memoryWithoutGarbage(), things: openThings() }
    this.#peak = new PeakMeter()
    this.#delay.enable()
  }

  /** Runs `work` while a polite client asks again and again, and must be answered. */
  async besides(polite: Crowd, server: Server, work: () => Promise<void>): Promise<void> {
    let isOver = false
    let asked = 0
    let worst = 0
    const ask = async (): Promise<void> => {
      while (!isOver) {
        const answer = await polite.run('ask', { target: this.target(server), count: 1 })
        asked++
        worst = Math.max(worst, answer.worst)
        this.checkServed(answer, 1, 'polite clients')
        await sleep(POLITE_PAUSE)
      }
    }
    const asking = ask()
    try {
      await work()
    } finally {
      isOver = true
      await asking
    }
    this.figure('polite clients meanwhile, all answered', asked)
    this.figure('the slowest of them', `${worst.toFixed(0)} ms`)
  }

  /** Measures again, when all is over; what was opened meanwhile must be closed. */
  async end({ mayHold = SLACK }: { mayHold?: number } = {}): Promise<void> {
    if (this.#before === undefined || this.#peak === undefined) throw new Error('It has not begun')
    const { memory: before, things } = this.#before
    this.#delay.disable()
    const peak = this.#peak.stop()
    // A closed socket is told a turn later.
    await this.until(() => surplus(things, openThings()).length === 0, 'all is closed').catch(() => {})
    for (const thing of surplus(things, openThings())) this.check(false, `left open: ${thing}`)
    const after = await memoryWithoutGarbage()
    this.#memory = { before, peak, after }
    this.figure('the event loop was held up for', `${(this.#delay.max / 1e6).toFixed(0)} ms at most`)
    const held = after.held - before.held
    this.check(held <= mayHold, `${held} bytes are still held`)
  }

  figure(name: string, value: string | number): void {
    this.#figures.push([name, typeof value === 'number' ? value.toLocaleString('en') : value])
  }

  check(holds: boolean, promise: string): void {
    if (!holds) this.#faults.push(promise)
  }

  checkServed({ outcomes, wrong }: Outcomes, count: number, who: string): void {
    const { served = 0 } = outcomes
    this.check(served === count, `${served} of ${count} ${who} were served: ${JSON.stringify(outcomes)} ${wrong.join('; ')}`)
  }

  /** Counts an error, for `onHandlerError`. To keep it would keep its connection in memory. */
  readonly note = (_: unknown, error: unknown): void => {
    const { name } = error as Error
    this.#errors[name] = (this.#errors[name] ?? 0) + 1
  }

  /** How many errors were noted. */
  get noted(): number {
    return Object.values(this.#errors).reduce((sum, count) => sum + count, 0)
  }

  /** Checks that only errors of this name were noted, and how many. */
  checkErrors(name: string, count: number): void {
    this.check(this.#errors[name] === count && this.noted === count, `errors: ${JSON.stringify(this.#errors)}`)
  }

  /** How much more memory than at the start was resident, or is now. */
  get grown(): number {
    if (this.#before === undefined) throw new Error('It has not begun')
    this.#peak?.sample()
    return process.memoryUsage.rss() - this.#before.memory.resident
  }

  /** Resolves once `condition` holds; rejects where it never does. */
  async until(condition: () => boolean | Promise<boolean>, what = String(condition), patience = 20_000): Promise<void> {
    const start = performance.now()
    while (!(await condition())) {
      if (performance.now() - start > patience) throw new Error(`Waited in vain until: ${what}`)
      await sleep(LOOK_EVERY)
    }
  }

  async close(): Promise<Report> {
    for (const close of this.#closers.reverse()) await close()
    rmSync(this.#directory, { recursive: true, force: true })
    return {
      figures: this.#figures,
      faults: this.#faults,
      ...(this.#memory !== undefined && { memory: this.#memory }),
      seconds: (performance.now() - this.#start) / 1000
    }
  }
}
