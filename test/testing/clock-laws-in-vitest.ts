// The laws of fake clocks as tests of vitest, which runs this file by itself.

import { type DefineTest, defineClockLaws } from './clock-laws.ts'

interface Vitest {
  readonly it: DefineTest
  readonly vi: { useFakeTimers(): void; advanceTimersByTimeAsync(milliseconds: number): Promise<unknown>; useRealTimers(): void }
}

const { it: define, vi } = globalThis as unknown as Vitest

defineClockLaws(define, {
  install: () => vi.useFakeTimers(),
  async advance(milliseconds) {
    await vi.advanceTimersByTimeAsync(milliseconds)
  },
  uninstall: () => vi.useRealTimers()
})
