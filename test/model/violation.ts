// What the model does not allow.

export class Violation extends Error {
  override readonly name = 'Violation'
}

/** @throws {Violation} Always. */
export function violated(message: string, cause?: unknown): never {
  throw new Violation(message, { cause })
}

/** @throws {Violation} Unless `holds`. */
export function law(holds: boolean, message: string | (() => string), cause?: unknown): asserts holds {
  if (!holds) violated(typeof message === 'string' ? message : message(), cause)
}

/** For a promise that never rejects. */
export function rejected(error: unknown): never {
  violated(`rejected with ${String(error)}`, error)
}
