// A record of what happened in which order; comparing it is the assertion.

export interface Transcript {
  (line: string): void
  readonly lines: readonly string[]
}

/** An empty record: call it with a line to add, compare its `lines`. */
export function transcript(): Transcript {
  const lines: string[] = []
  return Object.assign((line: string) => void lines.push(line), { lines })
}
