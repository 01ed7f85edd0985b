// How it is said that a PROXY header, or the one who sends it, is refused.

import { inspect } from 'node:util'
import { formatAddress, type SocketAddress } from '../address.ts'
import { ProxyHeaderError } from '../errors.ts'

const ACTION = 'Cannot read a PROXY header'
// Enough to know a protocol by, and not so much that a stranger can fill a log.
const QUOTED = 32

/** The error for bytes that are no header at all. */
export function noHeader(bytes: Uint8Array): ProxyHeaderError {
  return new ProxyHeaderError(`${ACTION}: the connection must start with one: received ${quote(bytes)}`)
}

/** The error for bytes that begin as a header and are not a valid one. `why` says what must be, or what is not. */
export function badHeader(why: string, bytes: Uint8Array): ProxyHeaderError {
  return new ProxyHeaderError(`${ACTION}: ${why}: received ${quote(bytes)}`)
}

/** The error for a stream that ended before its header did. */
export function cutOffHeader(bytes: Uint8Array): ProxyHeaderError {
  const where = bytes.byteLength === 0 ? 'before it' : 'within it'
  return new ProxyHeaderError(`${ACTION}: the stream ended ${where}: received ${quote(bytes)}`)
}

/** The error for a sender that may send none. */
export function untrustedSender(sender: SocketAddress): ProxyHeaderError {
  return new ProxyHeaderError(`${ACTION}: the sender must be one of 'from': received a connection from ${formatAddress(sender)}`)
}

/** The first bytes, as text where they are text; never a character that a terminal could take for an instruction. */
function quote(bytes: Uint8Array): string {
  if (bytes.byteLength === 0) return 'nothing'
  const head = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.byteLength, QUOTED))
  const rest = bytes.byteLength > QUOTED ? '…' : ''
  const isText = head.every((byte) => (byte >= 0x20 && byte < 0x7f) || byte === 0x0d || byte === 0x0a || byte === 0x09)
  return isText ? `${inspect(head.toString('latin1'))}${rest}` : `bytes ${head.toString('hex').replaceAll(/..(?=.)/g, '$& ')}${rest}`
}
