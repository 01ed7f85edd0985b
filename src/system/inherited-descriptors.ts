// Descriptors handed over by systemd, or whoever speaks its protocol: LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES.

import { inspect } from 'node:util'
import { isMainThread } from 'node:worker_threads'
import { closeOnExec } from './descriptors.ts'

const FIRST = 3
/** Names are parted by colons and have none in them. One that has none of its own is called so by systemd. */
const UNNAMED = 'unknown'
const VARIABLES = ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES', 'LISTEN_PIDFDID']

/** A descriptor and its name. */
interface Inherited {
  readonly fd: number
  readonly name: string
}

/** Those not given out yet; undefined before the first look. */
let left: Inherited[] | undefined
const givenOut = new Set<string>()

/**
 * Gives out an inherited descriptor, each one once: the first one left that is called `name`, or the only one left. Undefined where
 * none was inherited, and where that one has been given out.
 *
 * The first call takes the variables out of the environment and keeps child processes from inheriting the descriptors. Variables that are for
 * another process are left alone. Worker threads have none: their environment is a copy.
 *
 * @throws {RangeError} If there are others but none of that name, if several are left and no name is given, or if a variable is malformed.
 */
export function takeInherited(action: string, name: string | undefined): number | undefined {
  if (!isMainThread) return undefined
  left ??= readVariables(action)
  if (left === undefined) return undefined
  if (name === undefined && left.length > 1) {
    throw new RangeError(`${action} as 'name' must tell which of the inherited sockets: there are ${list(left)}`)
  }
  const index = name === undefined ? 0 : left.findIndex((inherited) => inherited.name === name)
  if (index < 0 && left.length > 0 && !givenOut.has(name as string)) {
    throw new RangeError(`${action} as 'name' must be that of an inherited socket: received ${inspect(name)}, there are ${list(left)}`)
  }
  const [taken] = index < 0 ? [] : left.splice(index, 1)
  if (taken !== undefined) givenOut.add(taken.name)
  return taken?.fd
}

function readVariables(action: string): Inherited[] | undefined {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES } = process.env
  if (LISTEN_FDS === undefined || LISTEN_PID !== String(process.pid)) return undefined
  const count = /^\d{1,9}$/.test(LISTEN_FDS) ? Number(LISTEN_FDS) : Number.NaN
  if (!(count > 0)) throw new RangeError(`${action} as LISTEN_FDS must be a whole number, 1 or more: received ${inspect(LISTEN_FDS)}`)
  const names = LISTEN_FDNAMES === undefined ? [] : LISTEN_FDNAMES.split(':')
  if (names.length > 0 && names.length !== count) {
    throw new RangeError(`${action} as LISTEN_FDNAMES must have ${count} names: received ${inspect(LISTEN_FDNAMES)}`)
  }
  const inherited = Array.from({ length: count }, (_, index) => ({ fd: FIRST + index, name: names[index] || UNNAMED }))
  for (const { fd } of inherited) closeOnExec(fd)
  for (const variable of VARIABLES) delete process.env[variable]
  return inherited
}

function list(inherited: readonly Inherited[]): string {
  return inherited.map(({ name, fd }) => `${inspect(name)} (descriptor ${fd})`).join(', ')
}
