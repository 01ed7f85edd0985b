// Descriptors of the operating system: duplicating them, their limit, whether one is free.
//
// Node.js has no call to duplicate one, so that comes from libc through koffi; without it all but that works another way.

import cluster from 'node:cluster'
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import net from 'node:net'
import { devNull, endianness } from 'node:os'
import { getSystemErrorMap } from 'node:util'

/** What this library uses of Node.js's undocumented handle under a `net.Server` or `net.Socket`. */
export interface TcpOrPipeHandle {
  readonly fd: number
  onconnection?: ((status: number, client?: TcpOrPipeHandle) => void) | null
  listen(backlog: number): number
  close(callback?: () => void): void
  ref(): void
  unref(): void
  readStart(): number
  readStop(): number
  reading?: boolean
  // TCP only
  getsockname?(out: HandleAddress): number
  getpeername?(out: HandleAddress): number
  setNoDelay?(enable: boolean): number
  setKeepAlive?(enable: boolean, seconds: number): number
}

/** What `getsockname` and `getpeername` of a handle fill in. */
export interface HandleAddress {
  address?: string
  port?: number
}

/** The numbers behind libc's names, which differ from system to system. */
interface SystemNumbers {
  readonly F_DUPFD_CLOEXEC: number
  readonly SOL_SOCKET: number
  readonly SO_ACCEPTCONN: number
  readonly RLIMIT_NOFILE: number
}

const LINUX: SystemNumbers = { F_DUPFD_CLOEXEC: 1030, SOL_SOCKET: 1, SO_ACCEPTCONN: 30, RLIMIT_NOFILE: 7 }
const BSD = { SOL_SOCKET: 0xffff, SO_ACCEPTCONN: 2, RLIMIT_NOFILE: 8 }
const NUMBERS: Partial<Record<NodeJS.Platform, SystemNumbers>> = {
  linux: LINUX,
  android: LINUX,
  darwin: { ...BSD, F_DUPFD_CLOEXEC: 67 },
  freebsd: { ...BSD, F_DUPFD_CLOEXEC: 17 },
  openbsd: { ...BSD, F_DUPFD_CLOEXEC: 10 }
}
// The same everywhere.
const F_GETFD = 1
const F_SETFD = 2
const FD_CLOEXEC = 1

interface Libc extends SystemNumbers {
  fcntl(fd: number, command: number, ...argument: ['int', number] | []): number
  getsockopt(fd: number, level: number, name: number, value: Uint8Array, length: Uint8Array): number
  getsockname(fd: number, address: Uint8Array, length: Uint8Array): number
  getrlimit(resource: number, limits: Uint8Array): number
  errno(): number
  /** Bytes of a `rlim_t`. */
  readonly limitSize: number
}

let loaded: { readonly libc: Libc | undefined } | undefined

/** libc, or undefined where koffi is not installed, may not be loaded (`--permission`) or does not know the system. */
function libc(): Libc | undefined {
  loaded ??= { libc: loadLibc() }
  return loaded.libc
}

function loadLibc(): Libc | undefined {
  const numbers = NUMBERS[process.platform]
  if (numbers === undefined) return undefined
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi')
    const library = koffi.load(null)
    return {
      ...numbers,
      // Declared variadic as it is: Apple's arm64 passes such arguments in other places than named ones.
      fcntl: library.func('int fcntl(int fd, int command, ...)'),
      getsockopt: library.func('int getsockopt(int fd, int level, int name, void *value, void *length)'),
      getsockname: library.func('int getsockname(int fd, void *address, void *length)'),
      getrlimit: library.func('int getrlimit(int resource, void *limits)'),
      errno: () => koffi.errno(),
      limitSize: numbers === LINUX ? koffi.sizeof('long') : 8
    }
  } catch {
    return undefined
  }
}

/** Set by tests and by users who want the gate that needs no koffi. */
const GATE_VARIABLE = 'IT_TCP_GATE'

/**
 * Whether a listening descriptor can be duplicated and adopted here. Not in cluster workers, whose listeners live in the
 * primary, nor on Deno and Bun, whose handles are not those of Node.js.
 */
export function kernelGateAvailable(): boolean {
  return hasNodeHandles() && process.env[GATE_VARIABLE] !== 'userland' && libc() !== undefined
}

/** Whether `_handle` of a listening `net.Server` is Node.js's own, with an `onconnection` to be taken. */
export function hasNodeHandles(): boolean {
  return process.versions.bun === undefined && process.versions.deno === undefined && !cluster.isWorker
}

/** Duplicates a descriptor such that child processes do not inherit it, which dup(2) would let them. */
export function duplicate(fd: number): number {
  const c = requireLibc()
  const result = c.fcntl(fd, c.F_DUPFD_CLOEXEC, 'int', 0)
  if (result < 0) throw systemError(-c.errno(), 'fcntl')
  return result
}

/** Keeps child processes from inheriting a descriptor. */
export function closeOnExec(fd: number): void {
  const c = requireLibc()
  if (c.fcntl(fd, F_SETFD, 'int', FD_CLOEXEC) < 0) throw systemError(-c.errno(), 'fcntl')
}

/**
 * Gives a descriptor to libuv, which from then on closes it exactly once: by the handle's `close()`, or when the worker
 * thread ends. On failure the descriptor is still the caller's.
 */
export function adopt(fd: number): TcpOrPipeHandle {
  const socket = new net.Socket({ fd, readable: false, writable: false })
  return handleOf(socket) as TcpOrPipeHandle
}

/** The handle under a `net.Server` or `net.Socket`; undefined if it is closed, or not there on this runtime. */
export function handleOf(owner: net.Server | net.Socket): TcpOrPipeHandle | undefined {
  return (owner as { _handle?: TcpOrPipeHandle | null })._handle ?? undefined
}

/** Closes a descriptor that no handle owns. */
export function closeDescriptor(fd: number): void {
  closeSync(fd)
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
      if (c.fcntl(fd, F_GETFD) < 0 && ++unused === count) return true
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

/**
 * Checks that a descriptor is open, a socket, and listening.
 *
 * @throws The operating system's error, or one like it: EBADF, ENOTSOCK, EINVAL if it does not listen.
 */
export function checkListening(fd: number): void {
  const c = libc()
  if (c === undefined) {
    checkListeningByProc(fd)
    return
  }
  const value = Buffer.alloc(4)
  if (c.getsockopt(fd, c.SOL_SOCKET, c.SO_ACCEPTCONN, value, lengthOf(value)) < 0) throw systemError(-c.errno(), 'getsockopt')
  if (value.every((byte) => byte === 0)) throw systemErrorNamed('EINVAL', 'accept')
}

function checkListeningByProc(fd: number): void {
  const { ino } = statSocket(fd)
  if (process.platform !== 'linux') return
  const isTcp = ['tcp', 'tcp6'].some((table) => {
    const row = procRows(table).find((columns) => columns[9] === String(ino))
    return row?.[3] === '0A'
  })
  const isUnix = procRows('unix').some((columns) => columns[6] === String(ino) && columns[3] === '00010000')
  if (!isTcp && !isUnix) throw systemErrorNamed('EINVAL', 'accept')
}

function statSocket(fd: number): { readonly ino: bigint } {
  const stats = fstatSync(fd, { bigint: true })
  if (!stats.isSocket()) throw systemErrorNamed('ENOTSOCK', 'accept')
  return stats
}

/** The path to which a unix socket is bound; `''` if it has none or it is not to be known. */
export function unixPathOf(fd: number): string {
  const c = libc()
  if (c === undefined) return unixPathByProc(fd)
  // Two bytes of family (BSD: length and family), then sun_path.
  const address = Buffer.alloc(128)
  const length = lengthOf(address)
  if (c.getsockname(fd, address, length) < 0) return ''
  return pathFrom(address.toString('utf8', 2, Math.max(2, readInt(length))))
}

function unixPathByProc(fd: number): string {
  if (process.platform !== 'linux') return ''
  const { ino } = statSocket(fd)
  const path = procRows('unix').find((columns) => columns[6] === String(ino))?.[7] ?? ''
  return path.startsWith('@') ? pathFrom(path.replaceAll('@', '\0')) : path
}

/** A path ends at its first NUL; an abstract name, which starts with one, may have been padded to the full length. */
function pathFrom(name: string): string {
  return name.startsWith('\0') ? name.replace(/\0+$/, '') : name.replace(/\0.*$/s, '')
}

function procRows(table: string): string[][] {
  try {
    const lines = readFileSync(`/proc/net/${table}`, 'utf8').split('\n').slice(1)
    return lines.map((line) => line.trim().split(/\s+/))
  } catch {
    return []
  }
}

function lengthOf(buffer: Uint8Array): Buffer {
  return Buffer.from(Int32Array.of(buffer.byteLength).buffer)
}

function readInt(buffer: Buffer): number {
  return new DataView(buffer.buffer, buffer.byteOffset).getInt32(0, endianness() === 'LE')
}

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

function requireLibc(): Libc {
  const c = libc()
  if (c === undefined) throw systemErrorNamed('ENOSYS', 'fcntl')
  return c
}
