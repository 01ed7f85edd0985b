// What the specs of the pool share: items that are disposed, and sources that are watched.

import { Deferred } from '../../src/async/deferred.ts'
import type { Connection } from '../../src/connection.ts'

export interface Named extends AsyncDisposable {
  readonly name: string
}

export function disposable(name: string, record: (line: string) => void): Named {
  return {
    name,
    async [Symbol.asyncDispose]() {
      record(`dispose ${name}`)
    }
  }
}

export const brokenItem = { [Symbol.asyncDispose]: () => Promise.reject(new Error('not disposed')) }

/** A source whose pulls go to `next`. */
export function iterable<T>(next: () => Promise<IteratorResult<T>>, onReturn: () => unknown = () => {}): AsyncIterable<T> {
  const iterator = {
    next,
    async return(): Promise<IteratorResult<T>> {
      onReturn()
      return { done: true, value: undefined }
    }
  }
  return { [Symbol.asyncIterator]: () => iterator }
}

/** The items one after the other; tells `record` when it is left. */
export function from<T>(items: readonly T[], record: (line: string) => void = () => {}): AsyncIterableIterator<T> {
  const rest = items.values()
  return {
    next: async () => rest.next(),
    async return() {
      record('return')
      return { done: true, value: undefined }
    },
    [Symbol.asyncIterator]() {
      return this
    }
  }
}

export async function* count(end: number): AsyncGenerator<number> {
  for (let item = 1; item <= end; item++) yield item
}

/** A source of 1 to `length` and a handler whose ends the test decides; everything is written down in `lines`. */
export function rig(length: number): {
  source: AsyncIterable<number>
  handler: (item: number) => Promise<void>
  end: (item: number) => void
  fail: (item: number, error: unknown) => void
  lines: string[]
} {
  const lines: string[] = []
  const ends = new Map<number, Deferred>()
  const endOf = (item: number): Deferred => {
    const end = ends.get(item) ?? new Deferred()
    ends.set(item, end)
    return end
  }
  let pulled = 0
  return {
    lines,
    source: iterable(
      async () => {
        lines.push(`pull ${++pulled}`)
        return { done: pulled > length, value: pulled }
      },
      () => lines.push('return')
    ),
    async handler(item) {
      lines.push(`start ${item}`)
      try {
        await endOf(item).promise
        lines.push(`end ${item}`)
      } catch (error) {
        lines.push(`fail ${item}`)
        throw error
      }
    },
    end: (item) => endOf(item).resolve(),
    fail: (item, error) => endOf(item).reject(error)
  }
}

export async function* through(connections: AsyncIterable<Connection>): AsyncGenerator<Connection> {
  for await (const connection of connections) yield connection
}

export async function* once(): AsyncGenerator<number> {
  yield 1
}
