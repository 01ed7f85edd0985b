// Numbers and durations: as options give them, and as people read them.

import { UsageError } from './failure.ts'

const UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 } as const
const SIZES = ['B', 'kB', 'MB', 'GB', 'TB'] as const

/** A whole number above 0. */
export function parseCount(text: string): number {
  const count = Number(text)
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(count) || count < 1) {
    throw new UsageError(`must be a whole number, 1 or more: received '${text}'`)
  }
  return count
}

/** Milliseconds. The unit is asked for: whether 30 is seconds or milliseconds, nobody knows. */
export function parseDuration(text: string): number {
  if (/^\d+(?:\.\d+)?$/.test(text)) throw new UsageError(`must have a unit, ${text}ms, ${text}s, ${text}m or ${text}h: received '${text}'`)
  const [, digits, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text) ?? []
  if (digits === undefined) throw new UsageError(`must be a duration such as 500ms, 30s, 5m or 1h: received '${text}'`)
  const duration = Number(digits) * UNITS[unit as keyof typeof UNITS]
  if (!(duration > 0)) throw new UsageError(`must be above 0: received '${text}'`)
  return duration
}

/** The permission bits of a file, in octal digits as chmod takes them. */
export function parseMode(text: string): number {
  if (!/^0?[0-7]{3}$/.test(text)) throw new UsageError(`must be three octal digits such as 660: received '${text}'`)
  return Number.parseInt(text, 8)
}

/** The duration as {@link parseDuration} takes it. */
export function formatDuration(milliseconds: number): string {
  const unit = (['h', 'm', 's'] as const).find((name) => milliseconds % UNITS[name] === 0) ?? 'ms'
  return `${milliseconds / UNITS[unit]}${unit}`
}

/** Bytes with three figures or so: 512 B, 1.5 kB, 20 MB. */
export function formatBytes(bytes: number): string {
  let size = bytes
  let step = 0
  while (size >= 999.5 && step < SIZES.length - 1) {
    size /= 1_000
    step++
  }
  return `${size < 9.95 && step > 0 ? size.toFixed(1) : Math.round(size)} ${SIZES[step]}`
}

/** A number of things: 1 client, 2 clients. */
export function formatCount(count: number, thing: string): string {
  return `${count} ${thing}${count === 1 ? '' : 's'}`
}
