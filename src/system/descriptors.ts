// Descriptors of the operating system: duplicating them, keeping a number taken, their limit, whether one is free.

import { closeSync, constants, fstatSync, openSync, readFileSync, statSync } from 'node:fs'
import { devNull, endianness } from 'node:os'
import { lastError, libc, requireLibc } from './libc.ts'
import { adopt, hasNodeHandles, type NodeHandle } from './node-internals.ts'

// The same everywhere.
const F_GETFD = 1
const F_SETFD = 2
const F_GETFL = 3
const FD_CLOEXEC = 1

/** Set by tests and by users who want the gate that needs no libc. */
const GATE_VARIABLE = 'IT_TCP_GATE'

/** Whether the user asks for the gate in userland. */
export function isUserlandAskedFor(): boolean {
  return process.env[GATE_VARIABLE] === 'userland'
}

/**
 * Whether a listening descriptor can be duplicated and adopted here. Not in cluster workers, whose listeners live in the
 * primary, nor on Deno and Bun, whose handles are not those of Node.js.
 */
export function kernelGateAvailable(): boolean {
  return hasNodeHandles() && !isUserlandAskedFor() && libc() !== undefined
}

/** Duplicates a descriptor such that child processes do not inherit it, which dup(2) would let them. */
export function duplicate(fd: number): number {
  const c = requireLibc()
  const result = c.fcntl(fd, c.F_DUPFD_CLOEXEC, 0)
  if (result < 0) throw lastError(c, 'fcntl')
  return result
}

/** Duplicates a descriptor and gives the duplicate to libuv. */
export function adoptDuplicate(fd: number): NodeHandle {
  const copy = duplicate(fd)
  try {
    return adopt(copy)
  } catch (error) {
    closeSync(copy)
    throw error
  }
}

/** Keeps child processes from inheriting a descriptor. Without libc only those that Node.js has kept back itself, at its start, are. */
export function closeOnExec(fd: number): void {
  const c = libc()
  if (c !== undefined && c.fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) throw lastError(c, 'fcntl')
}

/**
 * Closes what is open under a number, and keeps the number taken until {@link vacate}: whoever still uses it, in whichever
 * thread, then meets this and not some other socket that the system gave the number to.
 */
export function occupy(fd: number): void {
  const c = requireLibc()
  // Appending to the null device is as good as writing to it, and a mark that isOccupied() knows.
  const nothing = openSync(devNull, constants.O_RDWR | constants.O_APPEND)
  try {
    if (c.dup2(nothing, fd) < 0) throw lastError(c, 'dup2')
  } finally {
    closeSync(nothing)
  }
  closeOnExec(fd)
}

/** Whether {@link occupy} holds a number. */
export function isOccupied(fd: number): boolean {
  const c = libc()
  if (c === undefined) return false
  try {
    const stats = fstatSync(fd)
    return stats.isCharacterDevice() && stats.rdev === statSync(devNull).rdev && (c.fcntl(fd, F_GETFL, 0) & c.O_APPEND) !== 0
  } catch {
    return false
  }
}

/** Gives a number back that was occupied; standard input, output and error stay what they are by then, the null device. */
export function vacate(fd: number): void {
  if (fd > 2) closeSync(fd)
}

/** Closes standard input, output or error, which libuv never does, and leaves the null device in its place. */
export function replaceStandard(fd: number): void {
  closeSync(fd)
  // The system gives the lowest number that is free.
  openSync(devNull, 'r+')
}

/** The soft limit of open descriptors; undefined if there is none or it is not to be known. */
export function descriptorLimit(): number | undefined {
  return limitFromLibc() ?? limitFromProc() ?? limitFromReport()
}

// Reused: the limit is looked up for each opening of a gate, since the process's limit may change.
let limits: Buffer | undefined

function limitFromLibc(): number | undefined {
  const c = libc()
  if (c === undefined) return undefined
  limits ??= Buffer.alloc(16)
  if (c.getrlimit(c.RLIMIT_NOFILE, limits) < 0) return undefined
  // The halves are put together by hand: a BigInt for each look-up would be the dearest part of it.
  const isLittle = endianness() === 'LE'
  const low = limits.readUInt32LE(0)
  if (c.limitSize === 4) return finite(isLittle ? low : limits.readUInt32BE(0))
  return finite(isLittle ? low + limits.readUInt32LE(4) * 2 ** 32 : limits.readUInt32BE(4) + limits.readUInt32BE(0) * 2 ** 32)
}

function limitFromProc(): number | undefined {
  if (process.platform !== 'linux' && process.platform !== 'android') return undefined
  try {
    return finite(Number(/^Max open files\s+(\S+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1]))
  } catch {
    return undefined
  }
}

function limitFromReport(): number | undefined {
  if (process.platform === 'win32') return undefined
  try {
    const { userLimits } = process.report.getReport() as { userLimits?: { open_files?: { soft?: unknown } } }
    return finite(Number(userLimits?.open_files?.soft))
  } catch {
    return undefined
  }
}

/** RLIM_INFINITY is some huge number, other than infinity and NaN; no system numbers descriptors beyond an `int`. */
function finite(limit: number): number | undefined {
  return limit > 0 && limit < 2 ** 31 ? limit : undefined
}

/**
 * Whether `count` more descriptors can be opened. The limit is one of descriptor *numbers*: where the highest are unused, as
 * almost always, that is told without opening anything; otherwise by trying.
 */
export function isDescriptorFree(count: 1 | 2): boolean {
  const c = libc()
  const limit = c && limitFromLibc()
  if (c !== undefined && limit !== undefined) {
    let unused = 0
    for (let fd = limit - 1; fd >= limit - 2; fd--) {
      if (c.fcntl(fd, F_GETFD, 0) < 0 && ++unused === count) return true
    }
  }
  return canOpen(count)
}

function canOpen(count: number): boolean {
  if (process.platform === 'win32') return true
  const opened: number[] = []
  try {
    while (opened.length < count) opened.push(openSync(devNull, 'r'))
    return true
  } catch (error) {
    // Anything else, such as a forbidden path, says nothing about descriptors.
    const { code } = error as NodeJS.ErrnoException
    return code !== 'EMFILE' && code !== 'ENFILE'
  } finally {
    for (const fd of opened) closeSync(fd)
  }
}
