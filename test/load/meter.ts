// What this process uses: memory, descriptors, whatever keeps the event loop busy.

import { setImmediate, setTimeout as sleep } from 'node:timers/promises'
import { descriptors } from '../helpers/descriptors.ts'

const SAMPLE_EVERY = 25
const MIB = 1024 * 1024

export interface Memory {
  /** Bytes resident, as the system counts them. */
  readonly resident: number
  /** Bytes that JavaScript and its buffers hold, garbage not collected yet included. */
  readonly held: number
}

export function memory(): Memory {
  const { rss, heapUsed, external } = process.memoryUsage()
  return { resident: rss, held: heapUsed + external }
}

/** {@link memory}, once the garbage is collected. Needs `--expose-gc`. */
export async function memoryWithoutGarbage(): Promise<Memory> {
  if (globalThis.gc === undefined) throw new Error('Start with --expose-gc')
  // Sockets go in several steps, and each may make garbage for the next.
  for (let i = 0; i < 4; i++) {
    await sleep(10)
    globalThis.gc()
    await setImmediate()
  }
  return memory()
}

/** Samples memory until it is stopped. */
export class PeakMeter {
  #peak: Memory = memory()
  readonly #timer = setInterval(() => this.sample(), SAMPLE_EVERY)

  sample(): void {
    const { resident, held } = memory()
    this.#peak = { resident: Math.max(resident, this.#peak.resident), held: Math.max(held, this.#peak.held) }
  }

  stop(): Memory {
    clearInterval(this.#timer)
    this.sample()
    return this.#peak
  }
}

/** What is open, by kind: descriptors as the kernel counts them, and what Node.js says is active. */
export function openThings(): ReadonlyMap<string, number> {
  const things = new Map<string, number>([['descriptor', descriptors()]])
  for (const kind of process.getActiveResourcesInfo()) things.set(kind, (things.get(kind) ?? 0) + 1)
  return things
}

/** What there is more of in `now` than in `before`, in words. */
export function surplus(before: ReadonlyMap<string, number>, now: ReadonlyMap<string, number>): string[] {
  return [...now]
    .filter(([kind, count]) => count > (before.get(kind) ?? 0))
    .map(([kind, count]) => `${count - (before.get(kind) ?? 0)} more of ${kind}`)
}

export function inMiB(bytes: number): string {
  return `${(bytes / MIB).toFixed(bytes < 10 * MIB ? 1 : 0)} MiB`
}
