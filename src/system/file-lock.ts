// A lock on a name in a directory, among all processes that see the directory, containers included.
//
// It is flock(2) on a file that only its owner can open, so that no other user can hold it up, and it dies with its process.

import { closeSync, constants, fstatSync, open, unlinkSync } from 'node:fs'
import { lstat, mkdir, rmdir } from 'node:fs/promises'
import { promisify } from 'node:util'
import { libc } from './libc.ts'
import { isSame, type OpenedDirectory } from './opened-directory.ts'

const LOCK_EX = 2
const LOCK_NB = 4

/** open(2) of the BSDs and macOS takes the lock by itself; Node.js has no name for the flag. */
const O_EXLOCK = 0x20
const LOCKS_AT_OPEN = ['darwin', 'freebsd', 'openbsd', 'netbsd'].includes(process.platform)

const openDescriptor = promisify(open)

/** Takes the lock, and gives how to release it; undefined while another process, or another user's file, has it. */
export async function tryLock(directory: OpenedDirectory, name: string): Promise<(() => unknown) | undefined> {
  if (!LOCKS_AT_OPEN && libc() === undefined) return await tryLockByDirectory(directory, name)
  const { O_CREAT, O_RDWR, O_NOFOLLOW, O_NONBLOCK } = constants
  let fd: number
  try {
    fd = await openDescriptor(directory.at(name), O_CREAT | O_RDWR | O_NOFOLLOW | O_NONBLOCK | (LOCKS_AT_OPEN ? O_EXLOCK : 0), 0o600)
  } catch (error) {
    if (isHeld(error)) return undefined
    throw error
  }
  try {
    if (await holds(fd, directory, name)) return release.bind(undefined, fd, directory, name)
  } catch (error) {
    closeSync(fd)
    throw error
  }
  closeSync(fd)
  return undefined
}

function isHeld(error: unknown): boolean {
  const { code = '' } = error as NodeJS.ErrnoException
  return ['EAGAIN', 'EWOULDBLOCK', 'EACCES', 'EPERM', 'EISDIR', 'ELOOP', 'EEXIST', 'ENXIO'].includes(code)
}

async function holds(fd: number, directory: OpenedDirectory, name: string): Promise<boolean> {
  if (!LOCKS_AT_OPEN && libc()?.flock(fd, LOCK_EX | LOCK_NB) !== 0) return false
  const mine = fstatSync(fd, { bigint: true })
  if (!mine.isFile() || mine.uid !== BigInt(process.geteuid?.() ?? 0)) return false
  // Whoever had it before has removed it: then this is a file without a name, and the lock another one.
  try {
    return isSame(mine, await lstat(directory.at(name), { bigint: true }))
  } catch {
    return false
  }
}

/** While the lock is held: once it is released the name is somebody else's. */
function release(fd: number, directory: OpenedDirectory, name: string): void {
  try {
    unlinkSync(directory.at(name))
  } catch {
    // Removed by somebody else: it protects nobody any more.
  } finally {
    closeSync(fd)
  }
}

/** Without flock(2): a directory under the same name, which excludes the others as well. It outlives a process that is killed within these milliseconds. */
async function tryLockByDirectory(directory: OpenedDirectory, name: string): Promise<(() => unknown) | undefined> {
  try {
    await mkdir(directory.at(name), 0o700)
  } catch (error) {
    if (isHeld(error)) return undefined
    throw error
  }
  return () => rmdir(directory.at(name))
}
