// Errors as the operating system has them, for what happens in memory.

import { getSystemErrorMap } from 'node:util'

const NUMBERS = new Map([...getSystemErrorMap()].map(([errno, [code]]) => [code, errno]))

/** The system's error of name `code` for the call `syscall`. */
export function systemErrorNamed(code: string, syscall: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${syscall} ${code}`), { errno: NUMBERS.get(code), code, syscall })
}

/** What a system call says once the peer has reset the connection. */
export function resetError(syscall: 'read' | 'write'): NodeJS.ErrnoException {
  return systemErrorNamed('ECONNRESET', syscall)
}
