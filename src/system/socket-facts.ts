// What the kernel knows of a socket and Node.js does not ask: who the peer is, how many clients wait, how long a peer may be silent.

import { fstatSync } from 'node:fs'
import type { PeerCredentials } from '../connection.ts'
import { procRows } from './inherited-socket.ts'
import { type Libc, libc, quietLibc, readInt } from './libc.ts'

const IS_LINUX = process.platform === 'linux' || process.platform === 'android'

const IPPROTO_TCP = 6
// Linux.
const SOL_SOCKET = 1
const SO_KEEPALIVE = 9
const TCP_KEEPIDLE = 4
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
  const credentials = option(fd, SOL_SOCKET, SO_PEERCRED, 12)
  if (credentials === undefined) return null
  const [pid, uid, gid] = [readInt(credentials), readInt(credentials, 4) >>> 0, readInt(credentials, 8) >>> 0]
  // A TCP socket has a peer without a process.
  return pid === 0 && uid === 0xffff_ffff ? null : { uid, gid, pid }
}

function peerCredentialsOfMac(fd: number): PeerCredentials | null {
  // struct xucred: version, uid, number of groups (and padding), groups, of which the first is the effective one.
  const pid = numberOption(fd, SOL_LOCAL, LOCAL_PEERPID)
  const credentials = option(fd, SOL_LOCAL, LOCAL_PEERCRED, 76)
  if (credentials === undefined || pid === undefined) return null
  return { uid: readInt(credentials, 4) >>> 0, gid: readInt(credentials, 12) >>> 0, pid }
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
export function setUserTimeout(fd: number, milliseconds: number, c: Libc | undefined = IS_LINUX ? quietLibc() : undefined): boolean {
  if (!IS_LINUX || c === undefined || fd < 0) return false
  number[0] = milliseconds === Number.POSITIVE_INFINITY ? 0 : Math.min(2 ** 31 - 1, Math.ceil(milliseconds))
  return c.setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, bytesOfNumber, 4) === 0
}

/**
 * The TCP_USER_TIMEOUT for a peer that may take none of what waits for it for `bufferAgeLimit`. A quarter more, and two seconds at least, since the
 * writer sees by itself who reads nothing, and says so, perhaps late; here are those who have vanished. With keep-alive on, the kernel applies it to
 * unanswered probes too, in the place of their number: so that one that is lost does no harm, time for ten of them is left.
 */
export function userTimeoutFor(bufferAgeLimit: number, keepAliveSeconds: number | undefined): number {
  const silence = bufferAgeLimit + Math.max(bufferAgeLimit / 4, 2_000)
  return keepAliveSeconds === undefined || keepAliveSeconds <= Math.ceil(bufferAgeLimit / 1000)
    ? silence
    : Math.max(silence, (keepAliveSeconds + 10) * 1000)
}

/** Goes by another `bufferAgeLimit` from now on; how keep-alive is set the socket knows. */
export function changeUserTimeout(fd: number, bufferAgeLimit: number): boolean {
  if (!IS_LINUX) return false
  const isKeptAlive = numberOption(fd, SOL_SOCKET, SO_KEEPALIVE) === 1
  return setUserTimeout(fd, userTimeoutFor(bufferAgeLimit, isKeptAlive ? numberOption(fd, IPPROTO_TCP, TCP_KEEPIDLE) : undefined))
}

// Reused, since to allocate for each call takes longer than the call. What is in them holds until the next one.
const number = new Int32Array(1)
const bytesOfNumber = new Uint8Array(number.buffer)
const value = Buffer.alloc(104)
const size = new Int32Array(1)
const bytesOfSize = new Uint8Array(size.buffer)

function option(fd: number, level: number, name: number, length: number): Buffer | undefined {
  const c = quietLibc()
  if (c === undefined || fd < 0) return undefined
  size[0] = length
  return c.getsockopt(fd, level, name, value, bytesOfSize) < 0 ? undefined : value
}

function numberOption(fd: number, level: number, name: number): number | undefined {
  const found = option(fd, level, name, 4)
  return found && readInt(found)
}
