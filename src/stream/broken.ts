// What broke a connection, as an error that says whose fault it is.

import { ConnectionClosedError, ConnectionResetError, describeSystemError, TlsError, TruncatedError } from '../errors.ts'

// Of this system, or this process: the peer has nothing to do with them.
const LOCAL_FAULTS = new Set(['ENOBUFS', 'ENOMEM', 'EMFILE', 'ENFILE', 'EBADF', 'EINVAL', 'EPERM', 'EACCES'])

/** The error for a connection with `peer` that broke because of `cause`, the system's error. */
export function brokenBy(peer: string, cause: Error): Error {
  // It says so already.
  if (cause instanceof TlsError) return cause
  const words = `${peer} broke: ${describeSystemError(cause)}`
  if (!LOCAL_FAULTS.has((cause as NodeJS.ErrnoException).code ?? ''))
    return new ConnectionResetError(`The connection with ${words}`, { cause })
  return new ConnectionClosedError(`The system failed, and the connection with ${words}`, { cause })
}

/** The error for an encrypted stream that ended without saying so. */
export function truncated(peer: string): Error {
  return new TruncatedError(`The stream from ${peer} was cut off: it ended without a close_notify`)
}
