// The sessions that clients may take up again, and whom each of them is with.

import type { X509Certificate } from 'node:crypto'
import { Recent } from './recent.ts'

/** A session, with the certificate that was verified when it began: a client that resumes it is shown none. */
export interface KeptSession {
  readonly session: Buffer
  readonly certificate: X509Certificate
}

const CAPACITY = 100

/**
 * The sessions of this process, by {@link sessionKey}, which is their only guard: no Node.js refuses at the handle one that is another host's. Each is given out
 * once, as TLS 1.3 wants it.
 */
export const sessions = new Recent<KeptSession>(CAPACITY)

/** The same for the same name, port (or path) and options, and for nothing else. */
export function sessionKey(name: string, port: number | string, options: string): string {
  return JSON.stringify([name, port, options])
}
