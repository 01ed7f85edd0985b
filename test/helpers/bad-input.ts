// Tables of arguments that must be refused, and the one test that each of them gets.

import { inspect } from 'node:util'
import { expect } from 'chai'

export const BAD_PORTS: readonly unknown[] = [-1, 65_536, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '80', '80x', null, undefined]
export const BAD_HOSTS: readonly unknown[] = ['', '127.0.0.1\0.example.com', '\0', 42, null, undefined]
export const NO_OPTIONS: readonly unknown[] = [null, 42, '127.0.0.1', true, () => {}]
export const BAD_PATHS: readonly unknown[] = ['', 'x'.repeat(108), 'a\0b', 42, null, undefined]
export const BAD_DURATIONS: readonly unknown[] = [-1, 0, Number.NaN, Number.NEGATIVE_INFINITY, '1000', null]
export const BAD_COUNTS: readonly unknown[] = [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, '1', 1n, null]

/**
 * Tests that `call` throws for each of `values`: a TypeError for what has the wrong type, otherwise a RangeError, whose message begins with
 * the action, names the argument and quotes the value.
 */
export function refuses(name: string, action: string, values: readonly unknown[], call: (value: unknown) => unknown): void {
  for (const value of values) {
    it(`refuses ${inspect(value)} as ${name}`, () => {
      expect(() => call(value))
        .to.throw()
        .that.satisfies((error: Error) => {
          expectRefusal(error, name, action, value)
          return true
        })
    })
  }
}

/** Asserts that `error` says in the agreed form why `value` was refused. */
export function expectRefusal(error: unknown, name: string, action: string, value: unknown): void {
  expect(error).to.satisfy(
    (e: unknown) => e instanceof TypeError || e instanceof RangeError,
    `${error} is neither TypeError nor RangeError`
  )
  const { message } = error as Error
  expect(message).to.match(/^[A-Z].*[^.]$/s)
  expect(message.startsWith(`${action} as '${name}' must `), message).to.equal(true)
  expect(message.endsWith(inspect(value)), message).to.equal(true)
}
