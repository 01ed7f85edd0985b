// The clock, looked up on the global object each time: a fake one moves all limits.

/** Milliseconds since some point in the past. Only differences mean something. */
export function now(): number {
  return globalThis.performance.now()
}
