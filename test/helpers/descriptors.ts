// What this process has open, as the kernel sees it.

import { readdirSync, readlinkSync } from 'node:fs'

/** Whether the kernel tells what is open: elsewhere than on Linux `descriptors()` is always 0. */
export const CAN_COUNT_DESCRIPTORS = process.platform === 'linux'

// Bun and Deno open pollers, events and timers of their own whenever they like.
const isNode = process.versions.bun === undefined && process.versions.deno === undefined

/** How many descriptors this process has open. */
export function descriptors(): number {
  return openDescriptors().size
}

/** Every open descriptor with what it refers to, such as `socket:[4711]`. */
export function openDescriptors(): Map<number, string> {
  const open = new Map<number, string>()
  if (!CAN_COUNT_DESCRIPTORS) return open
  for (const name of readdirSync('/proc/self/fd')) {
    try {
      const target = readlinkSync(`/proc/self/fd/${name}`)
      if (isNode || !target.startsWith('anon_inode:')) open.set(Number(name), target)
    } catch {
      // The descriptor that read the directory is closed by now.
    }
  }
  return open
}
