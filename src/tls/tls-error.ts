// The words for what goes wrong in TLS.

import { describeSystemError, TlsError } from '../errors.ts'

/** That a handshake with `peer` failed. */
export function handshakeError(peer: string, cause: Error): TlsError {
  return cause instanceof TlsError ? cause : new TlsError(`Cannot secure the connection with ${peer}: ${reasonOf(cause)}`, { cause })
}

/** That `peer`, or somebody on the way, sent what is no record of this connection, or the peer refused one of ours. */
export function recordError(peer: string, cause: Error): TlsError {
  return new TlsError(`The connection with ${peer} broke: ${reasonOf(cause)}`, { cause })
}

/** Whether an error is OpenSSL's, and not the network's. */
export function isOfOpenSsl(error: Error): boolean {
  const { code } = error as NodeJS.ErrnoException
  return code?.startsWith('ERR_SSL_') === true || 'reason' in error
}

function reasonOf(error: Error): string {
  const { reason } = error as { reason?: unknown }
  return typeof reason === 'string' ? reason : describeSystemError(error)
}
