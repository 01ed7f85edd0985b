// Errors like those that Node.js makes of the operating system's.

import { getSystemErrorMap } from 'node:util'

/** An error like those that Node.js makes of the operating system's; `errno` is negative, as there. */
export function systemError(errno: number, syscall: string, path?: string): NodeJS.ErrnoException {
  const [code, words] = getSystemErrorMap().get(errno) ?? [`Unknown system error ${errno}`, 'unknown error']
  const error: NodeJS.ErrnoException = new Error(`${syscall} ${code}: ${words}${path === undefined ? '' : ` ${path}`}`)
  error.errno = errno
  error.code = code
  error.syscall = syscall
  if (path !== undefined) error.path = path
  return error
}

/** {@link systemError} by the name of its code. */
export function systemErrorNamed(code: string, syscall: string, path?: string): NodeJS.ErrnoException {
  for (const [errno, [name]] of getSystemErrorMap()) {
    if (name === code) return systemError(errno, syscall, path)
  }
  throw new Error(`No system error is named ${code}`)
}

/** An error with a code of the system's and words of our own, for what the system's words would not tell. */
export function explainedError(code: string, message: string): NodeJS.ErrnoException {
  return Object.assign(new Error(message), { code })
}
