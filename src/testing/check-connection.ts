// Finds out whether two ends keep the laws of every connection of this library, whatever carries their bytes.

import { Deferred } from '../async/deferred.ts'
import { startTimer } from '../async/timer.ts'
import type { ByteStream } from '../connection.ts'
import { checkBoolean, checkDuration, checkFunction, checkOptions } from '../options.ts'
import { CONNECTION_LAWS } from './connection-laws.ts'
import { BrokenLawError, type Law } from './law.ts'
import { READER_LAWS } from './reader-laws.ts'
import { WRITER_LAWS } from './writer-laws.ts'

const ACTION = 'Cannot check a connection'
const DEFAULT_TIMEOUT = 2_000

/** All of them, in the order in which they are checked. */
export const LAWS: readonly Law[] = [...READER_LAWS, ...WRITER_LAWS, ...CONNECTION_LAWS]

/** The options of {@link checkConnection}. */
export interface CheckConnectionOptions {
  /**
   * Milliseconds that the check of one law may take, after which it counts as broken; `Infinity` for no limit.
   *
   * @default 2_000
   */
  timeout?: number
  /**
   * Whether there are resets. Without them, as between unix sockets, `abort()` is an end for the peer, and the laws of resets are left out.
   *
   * @default true
   */
  hasResets?: boolean
}

/** Makes two ends that are each other's peer. */
export type MakePair = () => readonly [ByteStream, ByteStream] | Promise<readonly [ByteStream, ByteStream]>

/**
 * Checks that what `makePair` makes keeps the laws of readers, writers and connections: for a wrapper of connections, or for connections over something
 * else. Each law is checked with two new pairs, once each way round. Resolves when all hold.
 *
 * Ownership: the pairs are closed before this settles, with `abort()`.
 *
 * @throws {BrokenLawError} For the first law that does not hold; `law` is its name.
 * @throws {TypeError | RangeError} If an argument is wrong.
 * @throws Whatever `makePair` throws.
 * @example
 * ```ts
 * await checkConnection(() => connectionPair())
 * ```
 */
export async function checkConnection(makePair: MakePair, options: CheckConnectionOptions = {}): Promise<void> {
  checkFunction(ACTION, 'makePair', makePair)
  checkOptions(ACTION, options)
  const { timeout = DEFAULT_TIMEOUT, hasResets = true } = options
  checkDuration(ACTION, 'timeout', timeout)
  checkBoolean(ACTION, 'hasResets', hasResets)
  for (const law of LAWS) {
    if (hasResets || law.isOfResets !== true) await checkLaw(law, makePair, timeout)
  }
}

/** Checks one law, both ways round. */
export async function checkLaw(law: Law, makePair: MakePair, timeout = DEFAULT_TIMEOUT): Promise<void> {
  for (const isSwapped of [false, true]) {
    const [one, other] = await makePair()
    try {
      await within(timeout, isSwapped ? law.check(other, one) : law.check(one, other))
    } catch (error) {
      throw new BrokenLawError(law.name, error)
    } finally {
      one.abort()
      other.abort()
    }
    try {
      await within(timeout, Promise.all([one.closed, other.closed]))
    } catch (error) {
      throw new BrokenLawError(ABORT_CLOSES, error)
    }
  }
}

/** What every check ends with. */
const ABORT_CLOSES = 'abort() closes both sides, and leaves nothing open'

async function within(timeout: number, promise: Promise<unknown>): Promise<void> {
  const late = new Deferred<never>()
  const stop = startTimer(timeout, () => late.reject(new Error(`it did not come to an end within ${timeout} ms`)))
  try {
    await Promise.race([promise, late.promise])
  } finally {
    stop()
  }
}
