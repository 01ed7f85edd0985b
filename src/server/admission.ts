// Who may come in: the program's own `admit`, and how many of one address.

import { inspect } from 'node:util'
import type { SocketAddress } from '../address.ts'
import { doNothing } from '../async/do-nothing.ts'

export type Admit = (address: never) => boolean

/** Why a client is refused; undefined if it is not. */
export type Refusal = 'admit' | 'perAddress' | undefined

/** Judges clients by their address, and counts those of each. */
export class Admission {
  readonly #admit: Admit | undefined
  readonly #limit: number
  readonly #onError: (address: SocketAddress, error: unknown) => void
  readonly #counts = new Map<string, number>()

  /** `onError` is told what `admit` throws, which is the program's own fault. */
  constructor(admit: Admit | undefined, limit: number | undefined, onError: (address: SocketAddress, error: unknown) => void) {
    this.#admit = admit
    this.#limit = limit ?? Number.POSITIVE_INFINITY
    this.#onError = onError
  }

  /** The clients that are counted. */
  get total(): number {
    let total = 0
    for (const count of this.#counts.values()) total += count
    return total
  }

  /** The key under which an address is counted; undefined if it is not, as that of a unix socket. */
  keyOf(host: string): string | undefined {
    return this.#limit === Number.POSITIVE_INFINITY || host === '' ? undefined : addressKey(host)
  }

  /**
   * Whether a client has to go, and why. The count comes first: whoever comes again and again costs the program no call. Its address is asked for
   * only if `admit` wants it.
   */
  refusalOf(key: string | undefined, address: () => SocketAddress | undefined): Refusal {
    if (key !== undefined && (this.#counts.get(key) ?? 0) >= this.#limit) return 'perAddress'
    const told = this.#admit === undefined ? undefined : address()
    // Without an address the client is gone, and of no interest.
    return told === undefined || this.#admits(told) ? undefined : 'admit'
  }

  /** Counts a client that was let in. */
  count(key: string): void {
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1)
  }

  /** Its slot is free again. */
  release(key: string): void {
    const count = this.#counts.get(key) ?? 0
    if (count > 1) this.#counts.set(key, count - 1)
    else this.#counts.delete(key)
  }

  #admits(address: SocketAddress): boolean {
    try {
      const answer: unknown = this.#admit?.(address as never)
      if (typeof answer === 'boolean') return answer
      // A promise that rejects must not end the process on top of that.
      if (answer instanceof Promise) answer.catch(doNothing)
      throw new TypeError(`Cannot admit a client as 'admit' must return true or false: received ${inspect(answer)}`)
    } catch (error) {
      this.#onError(address, error)
      return false
    }
  }
}

const MAPPED = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i

/** IPv4 by the whole address; IPv6 by its first 64 bits, since one client has as many of the others as it likes. */
export function addressKey(host: string): string {
  if (!host.includes(':')) return host
  const mapped = MAPPED.exec(host)?.[1]
  if (mapped !== undefined) return mapped
  const [head = '', tail] = host.split('::')
  const groups = head === '' ? [] : head.split(':')
  if (tail !== undefined) {
    const last = tail === '' ? 0 : tail.split(':').length + (tail.includes('.') ? 1 : 0)
    while (groups.length < 8 - last) groups.push('0')
    // All the groups of the tail that are among the first four.
    if (tail !== '') groups.push(...tail.split(':'))
  }
  const prefix = groups.slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16))
  return `${prefix.join(':')}::/64`
}
