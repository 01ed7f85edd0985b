// The file of a unix listener: how it comes to its path, and goes from it, without ever taking the place of a live server.

import { lstatSync, renameSync, unlinkSync } from 'node:fs'
import { chmod, link, lstat, rename } from 'node:fs/promises'
import { basename, dirname, resolve } from 'node:path'
import { LONGEST_UNIX_PATH } from '../address.ts'
import { type Identity, isSame, OpenedDirectory } from '../system/opened-directory.ts'
import { explainedError, systemErrorNamed } from '../system/system-error.ts'
import { type Place, refuseIfTaken, removeStaleSocket, takePath } from './path-takeover.ts'

/** Those that mkdtemp(3) appends. */
const RANDOM_CHARACTERS = 6

/** The name of the socket between binding and publishing, in the directory of its own. */
const TEMPORARY_NAME = 'socket'

/**
 * The socket is bound in a directory of its own beside the path, where no client can come (mode 0700), and linked to its path
 * when it listens and has its mode. Bound to the path itself it would be unlinked by libuv as soon as the first handle closes.
 *
 * The path is looked up once, at the call. From then on the directory that it is in stays open, and every step goes through that: neither a change
 * of the working directory nor somebody who renames directories leads a step elsewhere.
 */
export class UnixSocketFile {
  readonly #place: Place
  readonly #own: OpenedDirectory
  readonly #ownName: string
  #identity: Identity | undefined

  private constructor(place: Place, own: { readonly name: string; readonly directory: OpenedDirectory }) {
    this.#place = place
    this.#own = own.directory
    this.#ownName = own.name
  }

  /**
   * Makes the directory to bind in; {@link UnixSocketFile.cleanUp} removes it, and {@link UnixSocketFile.remove} lets go of the rest. Rejects at
   * once if the path is taken for good.
   */
  static async prepare(path: string): Promise<UnixSocketFile> {
    return await inPlace(path, async (place) => {
      await refuseIfTaken(place)
      return new UnixSocketFile(place, await place.directory.make('.it-tcp-'))
    })
  }

  /** What to bind, at once. */
  get bindPath(): string {
    const path = this.#own.shortAt(this.#boundName)
    if (Buffer.byteLength(path) > LONGEST_UNIX_PATH) throw systemErrorNamed('ENAMETOOLONG', 'bind', path)
    return path
  }

  /** Random: libuv unlinks the name some day, when the number in a path below /proc/self/fd may be another directory's. */
  get #boundName(): string {
    return this.#ownName.slice(-RANDOM_CHARACTERS)
  }

  /** To be called once bound and before the first handle may close: libuv unlinks the name that it bound. */
  rename(): void {
    renameSync(this.#own.at(this.#boundName), this.#own.at(TEMPORARY_NAME))
  }

  /** Gives the listening socket its mode and its path. Rejects with EADDRINUSE if another server has the path. */
  async publish(mode: number | undefined): Promise<void> {
    const own = this.#own
    if (mode !== undefined) await chmod(own.at(TEMPORARY_NAME), mode)
    const { dev, ino } = await lstat(own.at(TEMPORARY_NAME), { bigint: true })
    const { directory, name } = this.#place
    await takePath(
      this.#place,
      () => linkIfFree(own.at(TEMPORARY_NAME), directory.at(name)),
      () => rename(own.at(TEMPORARY_NAME), directory.at(name))
    )
    this.#identity = { dev, ino }
  }

  /** Removes what was needed to bind: these two names, and the directory if it is empty then. */
  async cleanUp(): Promise<void> {
    for (const name of [this.#boundName, TEMPORARY_NAME]) unlinkIfThere(this.#own, name)
    await this.#place.directory.remove(this.#ownName, this.#own)
    this.#own.close()
  }

  /**
   * Removes the file, if there is one and it is still ours. To be called while the socket still listens: as long as it does nobody takes the
   * path over, so that no successor's file can be hit.
   */
  remove(): void {
    const identity = this.#identity
    this.#identity = undefined
    const { directory, name } = this.#place
    try {
      if (identity !== undefined && isSame(lstatSync(directory.at(name), { bigint: true }), identity)) unlinkSync(directory.at(name))
    } catch {
      // Gone, or the directory was taken from us: then it is a stale socket like any other.
    }
    directory.close()
  }
}

/**
 * Makes room for a socket that has to be bound to the path itself, as those of a cluster's workers, which their primary binds; gives the path to bind.
 *
 * @throws With EPERM if it would be open to more clients than `mode` allows until it has its mode.
 */
export async function prepareForPrimary(path: string, mode: number | undefined): Promise<string> {
  // The umask of the primary, as far as a worker can know it: the one that it was started with.
  if (mode !== undefined && (0o777 & ~process.umask() & ~mode) !== 0) {
    const umask = (0o777 & ~mode).toString(8).padStart(4, '0')
    throw explainedError('EPERM', `in a cluster worker 'mode' can't take away what the umask leaves: start the primary with umask ${umask}`)
  }
  const absolute = resolve(path)
  // Before listening, not after it failed: from the second attempt on a worker no longer shares with the others.
  await inPlace(path, async (place) => {
    await removeStaleSocket(place)
    place.directory.close()
  })
  return Buffer.byteLength(absolute) > LONGEST_UNIX_PATH ? path : absolute
}

/** Opens the directory of a path, at once, and closes it if `use` fails. */
async function inPlace<T>(path: string, use: (place: Place) => Promise<T>): Promise<T> {
  const absolute = resolve(path)
  const directory = await OpenedDirectory.open(dirname(absolute))
  try {
    return await use({ directory, name: basename(absolute), shown: path })
  } catch (error) {
    directory.close()
    throw error
  }
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

function unlinkIfThere(directory: OpenedDirectory, name: string): void {
  try {
    unlinkSync(directory.at(name))
  } catch {
    // Bound under another name, moved to its path, or never made.
  }
}
