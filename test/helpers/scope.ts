// What a test opens is closed in reverse order when it ends, and then nothing may be left open.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { descriptors, openDescriptors } from './descriptors.ts'
import { until } from './until.ts'

export interface Scope {
  /** Closes `resource` when the test ends, and returns it. */
  open<R extends AsyncDisposable>(resource: R): R
  /** Calls `close` when the test ends. */
  defer(close: () => unknown): void
  /** Makes an empty directory with a short path, removed when the test ends. */
  tempDir(): string
}

/** Gives each test of the enclosing block a scope of its own. Call it in a `describe` block, or at the top of a file. */
export function useScope(): Scope {
  let closers: (() => unknown)[] = []
  let before = openDescriptors()

  beforeEach(() => {
    closers = []
    before = openDescriptors()
  })

  afterEach(async () => {
    const errors: unknown[] = []
    // One at a time from the end: a server may get a client meanwhile, without whose closing its own would never be done.
    for (let close = closers.pop(); close !== undefined; close = closers.pop()) {
      try {
        await close()
      } catch (error) {
        errors.push(error)
      }
    }
    if (errors.length === 1) throw errors[0]
    if (errors.length > 1) throw new AggregateError(errors, 'Several things could not be closed')
    await until(() => descriptors() <= before.size).catch(() => {
      const left = [...openDescriptors()].filter(([fd, target]) => before.get(fd) !== target)
      throw new Error(`Left open: ${left.map(([fd, target]) => `${fd} -> ${target}`).join(', ')}`)
    })
  })

  const defer = (close: () => unknown): void => {
    closers.push(close)
  }
  return {
    defer,
    open(resource) {
      defer(() => resource[Symbol.asyncDispose]())
      return resource
    },
    tempDir() {
      const path = mkdtempSync(join(tmpdir(), 'it-tcp-'))
      defer(() => rmSync(path, { recursive: true, force: true }))
      return path
    }
  }
}
