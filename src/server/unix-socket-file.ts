// The file of a unix listener: how it comes to its path, and goes from it, without ever taking the place of a live server.

import { lstatSync, renameSync, unlinkSync } from 'node:fs'
import { chmod, type FileHandle, link, lstat, mkdtemp, open, rename, rm, unlink } from 'node:fs/promises'
import net from 'node:net'
import { constants } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { systemErrorNamed } from '../system/descriptor.ts'

/** A file by what stays the same under any name. */
interface Identity {
  readonly dev: bigint
  readonly ino: bigint
}

/** A file found in the way; a socket that took over its number has another time of change. */
interface Found extends Identity {
  readonly ctimeNs: bigint
}

// All of sun_path. Bun takes one byte less, so that it does not see the locks of the others.
const LOCK_NAME_LENGTH = process.versions.bun === undefined ? 108 : 107

// A lock is held for some milliseconds; whoever holds it longer is not one of us.
const LOCK_RETRY = 5
const LOCK_RETRIES = 1000

/** Those that mkdtemp(3) appends. */
const RANDOM_CHARACTERS = 6

/** Bytes that bind(2) takes of a path without its closing NUL. */
const LONGEST_PATH = process.platform === 'linux' ? 107 : 103

/**
 * The socket is bound in a directory of its own beside the path, where no client can come (mode 0700), and linked to its path
 * when it listens and has its mode. Bound to the path itself it would be unlinked by libuv as soon as the first handle closes.
 */
export class UnixSocketFile {
  /** What to bind. */
  readonly bindPath: string
  readonly #path: string
  readonly #directory: string
  /** Open while the name of the directory is too long for bind(2), which then goes by the descriptor's. */
  readonly #directoryHandle: FileHandle | undefined
  /** The path whatever the working directory becomes. */
  readonly #absolutePath: string
  #identity: Identity | undefined

  /** Use {@link UnixSocketFile.prepare}. */
  constructor(path: string, directory: string, directoryHandle: FileHandle | undefined) {
    this.#path = path
    this.#absolutePath = resolve(path)
    this.#directory = directory
    this.#directoryHandle = directoryHandle
    this.bindPath = join(directoryHandle === undefined ? directory : `/proc/self/fd/${directoryHandle.fd}`, boundName(directory))
  }

  /** Makes the directory to bind in; {@link UnixSocketFile.cleanUp} removes it. Rejects at once if the path is taken for good. */
  static async prepare(path: string): Promise<UnixSocketFile> {
    const found = await find(path)
    if (found !== undefined) await refuseUnlessStale(path, found)
    const directory = await mkdtemp(join(dirname(path), '.it-tcp-'))
    try {
      const bindPath = join(directory, boundName(directory))
      const isTooLong = Buffer.byteLength(bindPath) > LONGEST_PATH
      if (isTooLong && process.platform !== 'linux') throw systemErrorNamed('ENAMETOOLONG', 'bind', bindPath)
      return new UnixSocketFile(path, directory, isTooLong ? await open(directory) : undefined)
    } catch (error) {
      await rm(directory, { recursive: true, force: true })
      throw error
    }
  }

  /** To be called once bound and before the first handle may close: libuv unlinks the name that it bound. */
  rename(): void {
    renameSync(join(this.#directory, boundName(this.#directory)), this.#temporaryPath)
  }

  /** Gives the listening socket its mode and its path. Rejects with EADDRINUSE if another server has the path. */
  async publish(mode: number | undefined): Promise<void> {
    if (mode !== undefined) await chmod(this.#temporaryPath, mode)
    const { dev, ino } = await lstat(this.#temporaryPath, { bigint: true })
    await takePath(
      this.#path,
      () => linkIfFree(this.#temporaryPath, this.#path),
      () => rename(this.#temporaryPath, this.#path)
    )
    this.#identity = { dev, ino }
  }

  /** Removes what was needed to bind. */
  async cleanUp(): Promise<void> {
    await this.#directoryHandle?.close()
    await rm(this.#directory, { recursive: true, force: true })
  }

  /**
   * Removes the file, if it is still ours. To be called while the socket still listens: as long as it does nobody takes the
   * path over, so that no successor's file can be hit.
   */
  remove(): void {
    const identity = this.#identity
    this.#identity = undefined
    if (identity === undefined) return
    try {
      if (isSame(lstatSync(this.#absolutePath, { bigint: true }), identity)) unlinkSync(this.#absolutePath)
    } catch {
      // Gone, or the directory was taken from us: then it is a stale socket like any other.
    }
  }

  get #temporaryPath(): string {
    return join(this.#directory, 'socket')
  }
}

/** Removes a stale socket from `path`, and nothing else, for listeners that have to be bound to the path itself. */
export async function removeStaleSocket(path: string): Promise<void> {
  await takePath(
    path,
    async () => {
      const found = await find(path)
      return found === undefined || !found.isSocket() || (await isLive(path))
    },
    () => unlink(path)
  )
}

/**
 * Resolves once `takeIfFree` has done so, or a stale socket at the path has been replaced. Rejects with EADDRINUSE if something else
 * is there.
 */
async function takePath(path: string, takeIfFree: () => Promise<boolean>, replace: () => Promise<void>): Promise<void> {
  for (let retries = 0; retries < LOCK_RETRIES; retries++) {
    if (await takeIfFree()) return
    const found = await find(path)
    if (found === undefined) continue
    await refuseUnlessStale(path, found)
    const unlock = await lock(path, found)
    if (unlock === undefined) {
      await delay(LOCK_RETRY)
      continue
    }
    try {
      // Looked at again under the lock: a server may have come meanwhile. Only who holds this lock replaces this file.
      const isStale = !(await isLive(path))
      const now = await find(path)
      if (isStale && now !== undefined && isSame(now, found) && now.ctimeNs === found.ctimeNs) {
        await replace()
        return
      }
    } finally {
      await unlock()
    }
  }
  throw inUse(path)
}

/** Random: libuv unlinks the name some day, when the number in a path below /proc/self/fd may be another directory's. */
function boundName(directory: string): string {
  return directory.slice(-RANDOM_CHARACTERS)
}

async function linkIfFree(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

async function find(path: string): Promise<(Found & { isSocket(): boolean }) | undefined> {
  try {
    return await lstat(path, { bigint: true })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

function isSame(one: Identity, other: Identity): boolean {
  return one.dev === other.dev && one.ino === other.ino
}

async function refuseUnlessStale(path: string, found: { isSocket(): boolean }): Promise<void> {
  if (!found.isSocket() || (await isLive(path))) throw inUse(path)
}

function inUse(path: string): NodeJS.ErrnoException {
  return systemErrorNamed('EADDRINUSE', 'listen', path)
}

/**
 * Whether a server answers on `path`. Only a refusal shows that none does; a server with a full queue gives EAGAIN, one of another user
 * EACCES. A file that is gone is not live either.
 */
function isLive(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = net.connect({ path })
    probe.on('connect', () => {
      resolve(true)
      probe.destroy()
    })
    probe.on('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT'))
  })
}

/**
 * Takes the lock for replacing the file `found` at `path`: one that dies with its process. Returns how to release it, or
 * undefined while another holds it.
 */
async function lock(path: string, found: Identity): Promise<(() => Promise<void>) | undefined> {
  return process.platform === 'linux' ? await lockByName(found) : await lockByDirectory(path)
}

/**
 * An abstract name: bound once at most, and gone with its socket. Padded to the full length, which Node.js 20 would do itself.
 * Servers in containers with networks of their own do not see each other's.
 */
async function lockByName(found: Identity): Promise<(() => Promise<void>) | undefined> {
  const name = `\0it-tcp takes over ${found.dev}:${found.ino} `.padEnd(LOCK_NAME_LENGTH, '.')
  const server = net.createServer((socket) => socket.destroy())
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      // In a cluster worker the primary would bind it, once for all workers.
      server.listen({ path: name, exclusive: true }, resolve)
    })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return undefined
    throw error
  }
  return () => new Promise((resolve) => server.close(() => resolve()))
}

// open(2) of the BSDs and macOS takes a flock(2) lock by itself; Node.js has no name for the flag.
const O_EXLOCK = 0x20
const O_NONBLOCK = 0x4

async function lockByDirectory(path: string): Promise<(() => Promise<void>) | undefined> {
  try {
    const handle = await open(dirname(path), O_EXLOCK | O_NONBLOCK)
    return () => handle.close()
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException
    if (errno === -constants.errno.EWOULDBLOCK || errno === -constants.errno.EAGAIN) return undefined
    throw error
  }
}
