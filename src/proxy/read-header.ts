// A PROXY header off the front of a stream, and not a byte more.

import { onceAborted } from '../async/abort.ts'
import { startTimer } from '../async/timer.ts'
import { ProxyHeaderError, ReadTimeoutError, withOrigin } from '../errors.ts'
import { checkDuration, checkMaxLength, checkOptions, checkSignal } from '../options.ts'
import type { Reader } from '../reader.ts'
import { LONGEST_LINE, type ProxyHeader } from './header.ts'
import { DEFAULT_MAX_LENGTH, parseProxyHeader } from './parse-header.ts'
import { cutOffHeader } from './refusals.ts'

const ACTION = 'Cannot read a PROXY header'
/** Milliseconds that a header may take: a stranger who says nothing is not waited for. */
const DEFAULT_TIMEOUT = 10_000

/** What a header is read from: any reader of ours. */
export type HeaderReader = Pick<Reader, 'bytesAvailable' | 'peek' | 'readExactly'>

/** The options of `readProxyHeader`. */
export interface ReadProxyHeaderOptions {
  /**
   * Bytes that a header of version 2 may announce behind its first 16; `Infinity` for the 65,535 that it can. A header of version 1 has 107 at most.
   *
   * @default 4096
   */
  maxLength?: number
  /**
   * Milliseconds until the header must be complete; bytes do not prolong it. `Infinity` for no limit.
   *
   * @default 10_000
   */
  timeout?: number
  /** Makes it reject with `signal.reason`. */
  signal?: AbortSignal
}

export async function readHeader(reader: HeaderReader, options: ReadProxyHeaderOptions): Promise<ProxyHeader> {
  checkOptions(ACTION, options)
  const { maxLength = DEFAULT_MAX_LENGTH, timeout = DEFAULT_TIMEOUT, signal } = options
  checkMaxLength(ACTION, maxLength)
  checkDuration(ACTION, 'timeout', timeout)
  checkSignal(ACTION, signal)
  signal?.throwIfAborted()
  const controller = new AbortController()
  const unhook = onceAborted(signal, (reason) => controller.abort(reason))
  const stopTimer = startTimer(timeout, () => controller.abort(new ReadTimeoutError(`${ACTION}: none within ${timeout} ms`)))
  try {
    return await take(reader, maxLength, controller.signal)
  } catch (error) {
    // Whoever serves this stream can tell that its peer is at fault.
    throw error instanceof ProxyHeaderError || error instanceof ReadTimeoutError ? withOrigin(error, reader) : error
  } finally {
    stopTimer()
    unhook()
  }
}

async function take(reader: HeaderReader, maxLength: number, signal: AbortSignal): Promise<ProxyHeader> {
  let need = 1
  for (;;) {
    // What is waited for is only what the header itself must have; what is there then is looked at together.
    let bytes = (await reader.peek(need, { signal })) ?? new Uint8Array()
    const available = Math.min(reader.bytesAvailable, LONGEST_LINE)
    if (available > bytes.byteLength) bytes = (await reader.peek(available, { signal })) ?? bytes
    const parsed = parseProxyHeader(bytes, maxLength)
    if (parsed.header !== undefined) {
      await reader.readExactly(parsed.length)
      return parsed.header
    }
    if (bytes.byteLength < need) throw cutOffHeader(bytes)
    need = parsed.need
  }
}
