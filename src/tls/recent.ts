// The latest values by key, and no more of them than a bound.

/** What is taken is out: a value is for one use, unless it is put back. */
export class Recent<V> {
  readonly #values = new Map<string, V>()
  readonly #capacity: number

  constructor(capacity: number) {
    this.#capacity = capacity
  }

  get size(): number {
    return this.#values.size
  }

  /** Keeps `value`, in place of an earlier one of that key. The oldest goes if there are too many. */
  put(key: string, value: V): void {
    this.#values.delete(key)
    this.#values.set(key, value)
    if (this.#values.size <= this.#capacity) return
    const [oldest] = this.#values.keys()
    this.#values.delete(oldest as string)
  }

  take(key: string): V | undefined {
    const value = this.#values.get(key)
    this.#values.delete(key)
    return value
  }
}
