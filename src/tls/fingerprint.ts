// What options say, as a short text: the same for options that say the same, whichever object says it.

import type { Hash } from 'node:crypto'
import { nodeCrypto } from '../system/node-tls.ts'

// Objects that are not just data, such as a KeyObject, are the same only if they are the same object.
const numbers = new WeakMap<object, number>()
let lastNumber = 0

/** The digest of a value: of data by what is in it, of anything else by which one it is. */
export function fingerprint(value: unknown): string {
  const hash = nodeCrypto().createHash('sha256')
  add(hash, value)
  return hash.digest('base64')
}

// Each part says its kind and length first, so that no two values look alike.
function add(hash: Hash, value: unknown): void {
  if (value instanceof Uint8Array) {
    hash.update(`b${value.byteLength}:`).update(value)
  } else if (Array.isArray(value)) {
    hash.update(`a${value.length}:`)
    for (const item of value) add(hash, item)
  } else if (isRecord(value)) {
    const entries = Object.entries(value).filter(([, item]) => item !== undefined)
    hash.update(`o${entries.length}:`)
    for (const [key, item] of entries.sort(([a], [b]) => (a < b ? -1 : 1))) {
      add(hash, key)
      add(hash, item)
    }
  } else if ((typeof value === 'object' && value !== null) || typeof value === 'function') {
    const number = numbers.get(value) ?? ++lastNumber
    numbers.set(value, number)
    hash.update(`i${number}:`)
  } else {
    const text = String(value)
    hash.update(`${typeof value}${Buffer.byteLength(text)}:`).update(text)
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && [Object.prototype, null].includes(Object.getPrototypeOf(value))
}
