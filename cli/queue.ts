// How many clients wait in the kernel's queue of a server.

import { open, readlink } from 'node:fs/promises'
import type { Server } from 'it-tcp'

/**
 * The number of clients that nobody has accepted yet. Undefined where the system does not tell it: Linux shows the queues of TCP sockets
 * in /proc, and those of unix sockets nowhere.
 */
export async function clientsWaiting({ address, acceptGate, listeningSocket }: Server): Promise<number | undefined> {
  if (process.platform !== 'linux' || acceptGate !== 'kernel' || address.family === 'unix') return undefined
  try {
    const inode = /\[(\d+)\]/.exec(await readlink(`/proc/self/fd/${listeningSocket.fd}`))?.[1]
    const file = await open(address.family === 'IPv6' ? '/proc/net/tcp6' : '/proc/net/tcp')
    // Listening sockets stand at the beginning: the loop ends early, however many connections there are.
    for await (const line of file.readLines()) {
      const columns = line.trim().split(/\s+/)
      if (columns[9] === inode) return Number.parseInt(columns[4]?.split(':')[1] ?? '', 16)
    }
  } catch {
    // A server that was closed meanwhile, or a system that hides it.
  }
  return undefined
}
