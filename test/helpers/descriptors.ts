// What this process has open, as the kernel sees it.

import { readdirSync, readlinkSync } from 'node:fs'

/** Whether the kernel tells what is open: elsewhere than on Linux `descriptors()` is always 0. */
export const CAN_COUNT_DESCRIPTORS = process.platform === 'linux'

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
      open.set(Number(name), readlinkSync(`/proc/self/fd/${name}`))
    } catch {
      // The descriptor that read the directory is closed by now.
    }
  }
  return open
}
