// What the kernel knows of a socket and Node.js does not ask: who the peer is, how many clients wait, how long a peer may be silent.

import { fstatSync } from 'node:fs'
import { procRows } from './inherited-socket.ts'
import { lengthOf, libc, readInt } from './libc.ts'

/** Who was at the other end of a unix socket when it connected, or when it listened. */
export interface PeerCredentials {
  /** The user, as the kernel knows it: effective at that moment. */
  readonly uid: number
  /** The group, likewise. */
  readonly gid: number
  /** The process; it may have ended since, and its number be another's by now. */
  readonly pid: number
}

const IS_LINUX = process.platform === 'linux' || process.platform === 'android'

const IPPROTO_TCP = 6
// Linux.
const SO_PEERCRED = 17
const TCP_INFO = 11
const TCP_USER_TIMEOUT = 18
// macOS.
const SOL_LOCAL = 0
const LOCAL_PEERCRED = 1
const LOCAL_PEERPID = 2

/**
 * The other end of a unix socket: for an accepted one its client, for a dialled one whoever listened. Null for a TCP socket, for one that is
 * closed, without libc, and elsewhere than on Linux and macOS.
 */
export function peerCredentials(fd: number): PeerCredentials | null {
  if (process.platform === 'darwin') return peerCredentialsOfMac(fd)
  if (!IS_LINUX) return null
  // struct ucred: pid, uid, gid.
  const value = option(fd, libc()?.SOL_SOCKET ?? 1, SO_PEERCRED, 12)
  if (value === undefined) return null
  const [pid, uid, gid] = [readInt(value), readInt(value, 4) >>> 0, readInt(value, 8) >>> 0]
  // A TCP socket has a peer without a process.
  return pid === 0 && uid === 0xffff_ffff ? null : { uid, gid, pid }
}

function peerCredentialsOfMac(fd: number): PeerCredentials | null {
  // struct xucred: version, uid, number of groups (and padding), groups, of which the first is the effective one.
  const value = option(fd, SOL_LOCAL, LOCAL_PEERCRED, 76)
  const pid = option(fd, SOL_LOCAL, LOCAL_PEERPID, 4)
  if (value === undefined || pid === undefined) return null
  return { uid: readInt(value, 4) >>> 0, gid: readInt(value, 12) >>> 0, pid: readInt(pid) }
}

/**
 * How many clients the kernel holds for a listening TCP socket, connected and not yet accepted; null where it does not tell: for unix sockets, and
 * elsewhere than on Linux.
 */
export function waitingClients(fd: number): number | null {
  if (!IS_LINUX) return null
  if (libc() === undefined) return waitingByProc(fd)
  // struct tcp_info: eight bytes, then numbers of 32 bits. That of a listening socket has its queue in the place of the unacknowledged segments.
  const info = option(fd, IPPROTO_TCP, TCP_INFO, 104)
  const LISTEN = 10
  return info === undefined || info[0] !== LISTEN ? null : readInt(info, 24)
}

function waitingByProc(fd: number): number | null {
  try {
    const inode = String(fstatSync(fd, { bigint: true }).ino)
    for (const table of ['tcp', 'tcp6']) {
      const row = procRows(table).find((columns) => columns[9] === inode)
      if (row?.[3] === '0A') return Number.parseInt(row[4]?.split(':')[1] as string, 16)
    }
  } catch {
    // Closed.
  }
  return null
}

/**
 * Sets for how many milliseconds sent bytes may stay unacknowledged before the kernel breaks the connection (TCP_USER_TIMEOUT), `Infinity` for its
 * own 15 minutes or so. So a peer that has vanished with bytes in flight, which keep-alive does not look for, is told as ETIMEDOUT.
 *
 * A peer that lives but takes nothing counts too, as with `bufferAgeLimit`, and so do unanswered keep-alive probes. Set on a listening socket it
 * holds for all that are accepted from then on. Returns whether it holds: not for unix sockets, without libc, and elsewhere than on Linux.
 */
export function setUserTimeout(fd: number, milliseconds: number): boolean {
  const c = libc()
  if (!IS_LINUX || c === undefined) return false
  const value = milliseconds === Number.POSITIVE_INFINITY ? 0 : Math.min(2 ** 31 - 1, Math.ceil(milliseconds))
  const bytes = Buffer.from(Int32Array.of(value).buffer)
  return c.setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, bytes, bytes.byteLength) === 0
}

function option(fd: number, level: number, name: number, size: number): Buffer | undefined {
  const c = libc()
  if (c === undefined || fd < 0) return undefined
  const value = Buffer.alloc(size)
  return c.getsockopt(fd, level, name, value, lengthOf(value)) < 0 ? undefined : value
}
