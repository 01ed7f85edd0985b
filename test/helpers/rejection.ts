// What a promise rejects with, as a value.

/** Resolves with the reason for which `promise` rejects; rejects if it resolves. */
export async function rejection(promise: Promise<unknown>): Promise<unknown> {
  let value: unknown
  try {
    value = await promise
  } catch (reason) {
    return reason
  }
  throw new Error(`Resolved with ${String(value)} instead of rejecting`)
}
