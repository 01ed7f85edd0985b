// A socket that somebody else made: whether it listens, and on which path.

import { fstatSync, readFileSync } from 'node:fs'
import { lastError, lengthOf, libc, readInt } from './libc.ts'
import { systemErrorNamed } from './system-error.ts'

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
  if (c.getsockopt(fd, c.SOL_SOCKET, c.SO_ACCEPTCONN, value, lengthOf(value)) < 0) throw lastError(c, 'getsockopt')
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

/** The rows of a table of sockets in /proc/net. */
export function procRows(table: string): string[][] {
  try {
    const lines = readFileSync(`/proc/net/${table}`, 'utf8').split('\n').slice(1)
    return lines.map((line) => line.trim().split(/\s+/))
  } catch {
    return []
  }
}
