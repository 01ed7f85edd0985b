// A PROXY header of either version, in whatever has arrived so far.

import { type Parsed, SIGNATURE } from './header.ts'
import { noHeader } from './refusals.ts'
import { parseVersion1 } from './version-1.ts'
import { parseVersion2 } from './version-2.ts'

/** Bytes that a header of version 2 may announce behind its first 16: enough for certificates' names and what clouds add. */
export const DEFAULT_MAX_LENGTH = 4096

const FIRST_OF_VERSION_1 = 0x50

/**
 * Looks for a PROXY header at the start of `bytes`, of which more may be to come. It never asks for more than the header has, nor for more than
 * 107 bytes of version 1 and 16 and `maxLength` of version 2; a length that is only announced takes no memory. What it gives does not share `bytes`.
 *
 * @throws {ProxyHeaderError} As soon as no byte that may follow could make it a valid one.
 */
export function parseProxyHeader(bytes: Uint8Array, maxLength = DEFAULT_MAX_LENGTH): Parsed {
  const first = bytes[0]
  if (first === undefined) return { header: undefined, need: 1 }
  if (first === FIRST_OF_VERSION_1) return parseVersion1(bytes)
  if (first === SIGNATURE[0]) return parseVersion2(bytes, maxLength)
  throw noHeader(bytes)
}
