// A directory that stays the same one, whatever becomes of its name.
//
// On Linux it is held open, and its files are named through the descriptor: /proc/self/fd/NUMBER/NAME. So nobody who may rename it, or what is above it,
// can make a step go to another directory. Elsewhere Node.js can't name a file that way: before each step it is checked that the name still leads to the
// same directory, which leaves the moment between check and step.

import { close, closeSync, constants, existsSync, lstatSync, open } from 'node:fs'
import { chmod, mkdtemp, readdir, realpath, rmdir, stat } from 'node:fs/promises'
import { basename, join, relative } from 'node:path'
import { promisify } from 'node:util'
import { isPlainNode } from './node-internals.ts'
import { isPermitted } from './permission.ts'
import { explainedError, systemErrorNamed } from './system-error.ts'

/** A file by what stays the same under any name. */
export interface Identity {
  readonly dev: bigint
  readonly ino: bigint
}

/** Whether the descriptors of this process are names of files. Bun and Deno open with flags of their own choice, and it may be forbidden. */
let hasDescriptorNames: boolean | undefined

function canNameDescriptors(): boolean {
  hasDescriptorNames ??= process.platform === 'linux' && isPlainNode && isPermitted('/proc/self/fd/0') && existsSync('/proc/self/fd')
  return hasDescriptorNames
}

/** Opens for naming only, which takes no permission for the file itself. Node.js has no name for it. */
const O_PATH = 0o10000000

const openDescriptor = promisify(open)
const closeDescriptor = promisify(close)

export class OpenedDirectory {
  readonly #path: string
  readonly #identity: Identity
  #fd: number

  /** Use {@link OpenedDirectory.open}. */
  private constructor(path: string, identity: Identity, fd: number) {
    this.#path = path
    this.#identity = identity
    this.#fd = fd
  }

  /** Opens the directory at an absolute path, following links in it once. To be closed. */
  static async open(path: string): Promise<OpenedDirectory> {
    if (!canNameDescriptors()) {
      const real = await realpath(path)
      return new OpenedDirectory(real, identityOf(await stat(real, { bigint: true })), -1)
    }
    return await OpenedDirectory.#open(path, path, 0)
  }

  static async #open(name: string, path: string, flags: number): Promise<OpenedDirectory> {
    const fd = await openDescriptor(name, O_PATH | constants.O_DIRECTORY | flags)
    try {
      return new OpenedDirectory(path, identityOf(await stat(`/proc/self/fd/${fd}`, { bigint: true })), fd)
    } catch (error) {
      closeSync(fd)
      throw error
    }
  }

  /**
   * Makes a directory in this one that only this user can enter, whatever the umask, and opens it. To be removed by
   * {@link OpenedDirectory.remove}, and closed.
   *
   * @throws If another user has put something else in its place meanwhile.
   */
  async make(prefix: string): Promise<{ readonly name: string; readonly directory: OpenedDirectory }> {
    const path = await mkdtemp(this.at(prefix))
    const name = basename(path)
    const directory = canNameDescriptors()
      ? await OpenedDirectory.#open(path, join(this.#path, name), constants.O_NOFOLLOW)
      : new OpenedDirectory(join(this.#path, name), identityOf(lstatSync(this.at(name), { bigint: true })), -1)
    try {
      await directory.#makeOurs()
      return { name, directory }
    } catch (error) {
      directory.close()
      throw error
    }
  }

  async #makeOurs(): Promise<void> {
    // By itself, not by a name in it, which the umask may have forbidden.
    const itself = canNameDescriptors() ? `/proc/self/fd/${this.#fd}` : this.#path
    const { uid, mode } = await stat(itself)
    const isForeign = uid !== process.geteuid?.() || (mode & 0o077) !== 0
    if (isForeign) throw explainedError('EPERM', `the temporary directory ${this.#path} was replaced by one that is not ours`)
    // The umask may have taken bits that the owner needs.
    if ((mode & 0o700) !== 0o700) await chmod(itself, 0o700)
    if ((await readdir(itself)).length > 0) {
      throw explainedError('EPERM', `the temporary directory ${this.#path} was replaced by one that is not empty`)
    }
  }

  /** The path of a file in this directory, for the next call; a new one for each. */
  at(name: string): string {
    if (canNameDescriptors()) {
      if (this.#fd < 0) throw systemErrorNamed('EBADF', 'open', this.#path)
      return `/proc/self/fd/${this.#fd}/${name}`
    }
    const now = lstatSync(this.#path, { bigint: true })
    if (!isSame(now, this.#identity)) throw explainedError('ESTALE', `the directory ${this.#path} was replaced by another one`)
    return join(this.#path, name)
  }

  /** {@link OpenedDirectory.at} for bind(2) and connect(2), which take short paths only. */
  shortAt(name: string): string {
    const path = this.at(name)
    if (canNameDescriptors()) return path
    const fromHere = relative(process.cwd(), path)
    return fromHere.length < path.length ? fromHere : path
  }

  /** Removes a directory in this one, if it is empty and still the one that `directory` is. */
  async remove(name: string, directory: OpenedDirectory): Promise<void> {
    try {
      if (isSame(lstatSync(this.at(name), { bigint: true }), directory.#identity)) await rmdir(this.at(name))
    } catch {
      // Moved away by whoever owns this one.
    }
  }

  /** Calls `use` with a path of a file in this directory that is short, and that file's alone, whoever replaces it. Links are not followed. */
  async pinned<T>(name: string, use: (path: string) => Promise<T>): Promise<T> {
    if (!canNameDescriptors()) return await use(this.shortAt(name))
    const fd = await openDescriptor(this.at(name), O_PATH | constants.O_NOFOLLOW)
    try {
      return await use(`/proc/self/fd/${fd}`)
    } finally {
      await closeDescriptor(fd)
    }
  }

  /** Idempotent. */
  close(): void {
    const fd = this.#fd
    this.#fd = -1
    if (fd >= 0) closeSync(fd)
  }
}

export function isSame(one: Identity, other: Identity): boolean {
  return one.dev === other.dev && one.ino === other.ino
}

function identityOf({ dev, ino }: Identity): Identity {
  return { dev, ino }
}
