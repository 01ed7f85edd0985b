// Calls of the operating system that Node.js does not have, from libc.
//
// They come through koffi where it is installed, otherwise through node:ffi where Node.js has it (26 and later). koffi comes first: it is quicker
// (0.2 µs a call against 0.45), and node:ffi is experimental and prints a warning that says so.

import { endianness } from 'node:os'
import { resolve } from 'node:path'
import { systemError, systemErrorNamed } from './system-error.ts'

/** The numbers behind libc's names, which differ from system to system. */
interface SystemNumbers {
  readonly F_DUPFD_CLOEXEC: number
  readonly SOL_SOCKET: number
  readonly SO_ACCEPTCONN: number
  readonly RLIMIT_NOFILE: number
  readonly O_APPEND: number
}

/** libc, with every call as C declares it; -1 is a failure, whose number `errno` then is. */
export interface Libc extends SystemNumbers {
  fcntl(fd: number, command: number, argument: number): number
  dup2(from: number, to: number): number
  flock(fd: number, operation: number): number
  getsockopt(fd: number, level: number, name: number, value: Uint8Array, length: Uint8Array): number
  setsockopt(fd: number, level: number, name: number, value: Uint8Array, length: number): number
  getsockname(fd: number, address: Uint8Array, length: Uint8Array): number
  getpeername(fd: number, address: Uint8Array, length: Uint8Array): number
  getrlimit(resource: number, limits: Uint8Array): number
  errno(): number
  /** Bytes of a `rlim_t`. */
  readonly limitSize: number
}

const LINUX: SystemNumbers = { F_DUPFD_CLOEXEC: 1030, SOL_SOCKET: 1, SO_ACCEPTCONN: 30, RLIMIT_NOFILE: 7, O_APPEND: 0o2000 }
const BSD = { SOL_SOCKET: 0xffff, SO_ACCEPTCONN: 2, RLIMIT_NOFILE: 8, O_APPEND: 8 }
const NUMBERS: Partial<Record<NodeJS.Platform, SystemNumbers>> = {
  linux: LINUX,
  android: LINUX,
  darwin: { ...BSD, F_DUPFD_CLOEXEC: 67 },
  freebsd: { ...BSD, F_DUPFD_CLOEXEC: 17 },
  openbsd: { ...BSD, F_DUPFD_CLOEXEC: 10 }
}

/** Whether arguments after `...` are passed as if they had been named. */
const IS_VARIADIC_AS_NAMED = process.platform === 'linux' && (process.arch === 'x64' || process.arch === 'arm64')

interface Loaded {
  readonly libc?: Libc
  /** Why there is none, where there could be one. */
  readonly failure?: Error
}

let loaded: Loaded | undefined
let hasNoKoffi = false

/** libc; undefined where neither koffi nor node:ffi can be loaded, or where the system is not known. */
export function libc(): Libc | undefined {
  loaded ??= load()
  return loaded.libc
}

/**
 * {@link libc}, for what is a refinement only: not by way of node:ffi, whose warning no program should see because of it, unless that is in use anyway.
 */
export function quietLibc(): Libc | undefined {
  if (loaded !== undefined) return loaded.libc
  const numbers = NUMBERS[process.platform]
  if (numbers === undefined || hasNoKoffi) return undefined
  try {
    loaded = { libc: throughKoffi(numbers) }
  } catch {
    hasNoKoffi = true
  }
  return loaded?.libc
}

/** {@link libc}, for what can't be done without. */
export function requireLibc(): Libc {
  const c = libc()
  if (c === undefined) throw systemErrorNamed('ENOSYS', 'fcntl')
  return c
}

/** What kept libc from being loaded; undefined if it is loaded, on a system without it, and where native code is forbidden. */
export function libcFailure(): Error | undefined {
  libc()
  return loaded?.failure
}

/** The error of a call that has just failed. */
export function lastError(c: Libc, syscall: string): NodeJS.ErrnoException {
  return systemError(-c.errno(), syscall)
}

function load(): Loaded {
  const numbers = NUMBERS[process.platform]
  if (numbers === undefined) return {}
  let failure: Error
  try {
    return { libc: throughKoffi(numbers) }
  } catch (error) {
    failure = error as Error
  }
  try {
    return { libc: throughNode(numbers) }
  } catch {
    // koffi is what a user can do something about.
    return isForbidden(failure) ? {} : { failure }
  }
}

function isForbidden({ code }: NodeJS.ErrnoException): boolean {
  return code === 'ERR_DLOPEN_DISABLED' || code === 'ERR_ACCESS_DENIED'
}

function throughKoffi(numbers: SystemNumbers): Libc {
  const koffi = requireKoffi()
  const library = koffi.load(null)
  // Variadic, as it is declared in C, where such arguments go in other places than named ones, as on Apple's arm64. That costs half as much again.
  const variadic = library.func('int fcntl(int fd, int command, ...)')
  return {
    ...numbers,
    fcntl: IS_VARIADIC_AS_NAMED
      ? library.func('int fcntl(int fd, int command, int argument)')
      : (fd, command, argument) => variadic(fd, command, 'int', argument),
    dup2: library.func('int dup2(int from, int to)'),
    flock: library.func('int flock(int fd, int operation)'),
    getsockopt: library.func('int getsockopt(int fd, int level, int name, void *value, void *length)'),
    setsockopt: library.func('int setsockopt(int fd, int level, int name, void *value, uint32_t length)'),
    getsockname: library.func('int getsockname(int fd, void *address, void *length)'),
    getpeername: library.func('int getpeername(int fd, void *address, void *length)'),
    getrlimit: library.func('int getrlimit(int resource, void *limits)'),
    errno: () => koffi.errno(),
    limitSize: numbers === LINUX ? koffi.sizeof('long') : 8
  }
}

/**
 * koffi by a call that no bundler sees, which would try to take it in and can't: it stays a package of its own, looked for beside this file,
 * beside the program, and beside the executable, where that holds the program.
 */
function requireKoffi(): typeof import('koffi') {
  const { createRequire } = process.getBuiltinModule('node:module')
  // A bundle in CommonJS has no `import.meta.url`, but the name of its file.
  const files = [typeof __filename === 'string' ? __filename : undefined, process.argv[1], process.execPath]
  const places = [import.meta.url, ...files.map((file) => file && resolve(file))]
  let failure: unknown
  for (const place of places) {
    if (place === undefined || place === '') continue
    try {
      return createRequire(place)('koffi') as typeof import('koffi')
    } catch (error) {
      // A koffi that is there and can't be loaded tells more than places without one.
      if (failure === undefined || (failure as NodeJS.ErrnoException).code === 'MODULE_NOT_FOUND') failure = error
      if ((error as NodeJS.ErrnoException).code === 'ERR_DLOPEN_DISABLED') break
    }
  }
  throw failure
}

/** What is used of `node:ffi`, which the type declarations do not know yet. */
interface NodeFfi {
  dlopen(
    path: null,
    calls: Record<string, { readonly arguments: readonly string[]; readonly return: string }>
  ): { readonly functions: Record<string, (...values: unknown[]) => number> }
  getInt32(pointer: unknown): number
}

function throughNode(numbers: SystemNumbers): Libc {
  // Which can't be told of arguments after `...`.
  const ffi = IS_VARIADIC_AS_NAMED ? (process.getBuiltinModule('node:ffi') as NodeFfi | undefined) : undefined
  if (ffi === undefined) throw systemErrorNamed('ENOSYS', 'dlopen')
  const int = (...parameters: string[]) => ({ arguments: parameters.map((name) => (name === 'int' ? 'int32' : name)), return: 'int32' })
  const library = ffi.dlopen(null, {
    fcntl: int('int', 'int', 'int'),
    dup2: int('int', 'int'),
    flock: int('int', 'int'),
    getsockopt: int('int', 'int', 'int', 'buffer', 'buffer'),
    setsockopt: int('int', 'int', 'int', 'buffer', 'uint32'),
    getsockname: int('int', 'buffer', 'buffer'),
    getpeername: int('int', 'buffer', 'buffer'),
    getrlimit: int('int', 'buffer'),
    __errno_location: { arguments: [], return: 'pointer' }
  })
  const { __errno_location: errnoLocation, ...calls } = library.functions
  if (errnoLocation === undefined) throw systemErrorNamed('ENOSYS', 'dlopen')
  // `library` as well, which its calls would not outlive.
  return { ...numbers, ...(calls as unknown as Libc), errno: () => ffi.getInt32(errnoLocation()), limitSize: 8, ...{ library } }
}

/** The length of a buffer, as calls take it that fill one in. */
export function lengthOf(buffer: Uint8Array): Buffer {
  return Buffer.from(Int32Array.of(buffer.byteLength).buffer)
}

/** A C `int` in a buffer. */
export function readInt(buffer: Uint8Array, offset = 0): number {
  return new DataView(buffer.buffer, buffer.byteOffset).getInt32(offset, endianness() === 'LE')
}
