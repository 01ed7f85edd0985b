// Taking a path for a unix socket, over a stale one if need be, and never from a live server.

import type { Stats } from 'node:fs'
import { lstat, unlink } from 'node:fs/promises'
import net from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { tryLock } from '../system/file-lock.ts'
import { isSame, type OpenedDirectory } from '../system/opened-directory.ts'
import { explainedError, systemErrorNamed } from '../system/system-error.ts'

// A lock is held for some milliseconds; whoever holds it longer is not one of us.
const LOCK_RETRY = 10
const LOCK_RETRIES = 300

/** A path by the opened directory and the name in it; `shown` is how the user wrote it. */
export interface Place {
  readonly directory: OpenedDirectory
  readonly name: string
  readonly shown: string
}

/**
 * Resolves once `takeIfFree` has done so, or a stale socket at the path has been replaced. Rejects with EADDRINUSE if something else
 * is there, and with EBUSY, which names the lock, if that for replacing it can't be acquired.
 */
export async function takePath(place: Place, takeIfFree: () => Promise<boolean>, replace: () => Promise<void>): Promise<void> {
  const lock = `.it-tcp-${place.name}.lock`
  for (let retries = 0; retries < LOCK_RETRIES; retries++) {
    if (await takeIfFree()) return
    const found = await find(place)
    if (found === undefined) continue
    await refuseUnlessStale(place, found)
    const unlock = await tryLock(place.directory, lock)
    if (unlock === undefined) {
      await delay(LOCK_RETRY)
      continue
    }
    try {
      // Looked at again under the lock: a server may have come meanwhile. Only who holds this lock replaces this file.
      const isStale = !(await isLive(place))
      const now = await find(place)
      if (isStale && now !== undefined && isSame(now, found) && now.ctimeNs === found.ctimeNs) {
        await replace()
        return
      }
    } finally {
      await unlock()
    }
  }
  throw explainedError('EBUSY', `the lock for taking over a stale socket is held by another process, or left behind: ${lock} beside it`)
}

/** Rejects with EADDRINUSE if the path is taken for good. */
export async function refuseIfTaken(place: Place): Promise<void> {
  const found = await find(place)
  if (found !== undefined) await refuseUnlessStale(place, found)
}

/** Removes a stale socket, and nothing else, for listeners that have to be bound to the path itself. */
export async function removeStaleSocket(place: Place): Promise<void> {
  await takePath(
    place,
    async () => {
      const found = await find(place)
      return found === undefined || !found.isSocket() || (await isLive(place))
    },
    () => unlink(place.directory.at(place.name))
  )
}

// One that took over the number of another has another time of change.
type Found = Pick<Stats, 'isSocket'> & { readonly dev: bigint; readonly ino: bigint; readonly ctimeNs: bigint }

async function find({ directory, name }: Place): Promise<Found | undefined> {
  try {
    return await lstat(directory.at(name), { bigint: true })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

async function refuseUnlessStale(place: Place, found: Found): Promise<void> {
  if (!found.isSocket() || (await isLive(place))) throw systemErrorNamed('EADDRINUSE', 'listen', place.shown)
}

/**
 * Whether a server answers there. Only a refusal shows that none does; a server with a full queue gives EAGAIN, one of another user
 * EACCES. A file that is gone is not live either.
 */
async function isLive({ directory, name }: Place): Promise<boolean> {
  try {
    return await directory.pinned(name, answers)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw error
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = net.connect({ path })
    probe.on('connect', () => {
      resolve(true)
      probe.destroy()
    })
    probe.on('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT'))
  })
}
