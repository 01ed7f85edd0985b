// Async contexts (AsyncLocalStorage): whose a callback is.

import { AsyncLocalStorage } from 'node:async_hooks'

/** Runs a function in the context in which this runner was made, and gives what it gives. */
export type ContextRunner = <R, Args extends unknown[]>(run: (...args: Args) => R, ...args: Args) => R

/** A runner for this context. What a function that it runs does to the context (`enterWith`) ends with that function. */
export function captureContext(): ContextRunner {
  const enter = AsyncLocalStorage.snapshot()
  return (run, ...args) => enter(runApart, run as never, args as never) as never
}

// Before Node.js 24 a context is an object, which enterWith() changes for all who come after.
function runApart(run: (...args: unknown[]) => unknown, args: unknown[]): unknown {
  return AsyncLocalStorage.snapshot()(run, ...args)
}
