// What all parts of a running program share: the first violation, what has to settle, and a record of what happened.

import { setImmediate } from 'node:timers/promises'
import { Violation, violated } from './violation.ts'

const RECORD = 60

export class World {
  /** Milliseconds after which what does not happen never will. */
  readonly patience: number
  readonly #record: string[] = []
  readonly #unsettled = new Set<string>()
  #count = 0
  #failure: unknown

  constructor(patience: number) {
    this.patience = patience
  }

  /** Adds a line to the record. */
  note(line: string): void {
    this.#record.push(line)
  }

  get record(): string {
    return this.#record.slice(-RECORD).join('\n')
  }

  /** Calls `check`; the first violation of all is what the program fails with. */
  hold(what: string, check: () => void): void {
    try {
      check()
    } catch (error) {
      const isPlain = !(error instanceof Violation) || error.message.startsWith(what) || error === this.#failure
      this.#failure ??= isPlain ? error : new Violation(`${what}: ${error.message}`, { cause: error.cause ?? error })
    }
  }

  /** Waits for a promise that must settle before the program ends, and holds how it does against the model. */
  track<T>(what: string, promise: Promise<T>, onResult: (value: T) => void, onError: (error: unknown) => void): Promise<void> {
    const name = `${what} (${++this.#count})`
    this.#unsettled.add(name)
    const settled = (outcome: string, check: () => void): void => {
      this.#unsettled.delete(name)
      this.note(`  ${name}: ${outcome}`)
      this.hold(name, check)
    }
    return promise.then(
      (value) => settled(describe(value), () => onResult(value)),
      (error) => settled(String(error), () => onError(error))
    )
  }

  get unsettled(): readonly string[] {
    return [...this.#unsettled]
  }

  throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure
  }

  /** Waits until `condition` holds; that it never does is a violation. */
  async until(what: string, condition: () => boolean): Promise<void> {
    const start = performance.now()
    for (let turn = 0; !condition(); turn++) {
      this.throwIfFailed()
      if (turn > 100 && performance.now() - start > this.patience) {
        violated(`Waited in vain until ${what}; not settled: ${this.unsettled.join(', ') || 'nothing'}`)
      }
      await setImmediate()
    }
  }
}

function describe(value: unknown): string {
  if (value instanceof Uint8Array) return `${value.byteLength} bytes`
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 40))
  if (value !== null && typeof value === 'object') return 'done' in value ? `done: ${value.done}` : value.constructor.name
  return String(value)
}
