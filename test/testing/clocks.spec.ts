import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { mock } from 'node:test'
import FakeTimers from '@sinonjs/fake-timers'
import { expect } from 'chai'
import { run } from '../helpers/programs.ts'
import { useScope } from '../helpers/scope.ts'
import { defineClockLaws, type FakeClock } from './clock-laws.ts'

// Tests run from the repository's root.
const ROOT = process.cwd()
const IN_VITEST = join(ROOT, 'dist', 'test', 'testing', 'clock-laws-in-vitest.js')

describe('fake clocks', () => {
  describe('@sinonjs/fake-timers', () => {
    let clock: ReturnType<typeof FakeTimers.install>
    const sinon: FakeClock = {
      install(hasSockets) {
        clock = FakeTimers.install(hasSockets ? { toNotFake: ['nextTick', 'queueMicrotask'] } : {})
      },
      async advance(milliseconds) {
        await clock.tickAsync(milliseconds)
      },
      uninstall: () => clock.uninstall()
    }
    defineClockLaws(it, sinon)
  })

  describe('@sinonjs/fake-timers, moved in one step', () => {
    let clock: ReturnType<typeof FakeTimers.install>
    const sinon: FakeClock = {
      install(hasSockets) {
        clock = FakeTimers.install(hasSockets ? { toNotFake: ['nextTick', 'queueMicrotask'] } : {})
      },
      advance: (milliseconds) => void clock.tick(milliseconds),
      uninstall: () => clock.uninstall()
    }
    defineClockLaws(it, sinon)
  })

  describe('mock timers of node:test', () => {
    const { timers } = mock
    const nodeTest: FakeClock = {
      install: () => timers.enable({ apis: ['setTimeout', 'setInterval', 'setImmediate', 'Date'] }),
      advance: (milliseconds) => timers.tick(milliseconds),
      uninstall: () => timers.reset()
    }
    defineClockLaws(it, nodeTest)
  })

  describe('fake timers of vitest', () => {
    const scope = useScope()

    it('move all limits, too', async function () {
      this.timeout(60_000)
      const config = join(scope.tempDir(), 'vitest.config.mjs')
      const test = { globals: true, include: [IN_VITEST], watch: false, reporters: ['default'] }
      writeFileSync(config, `export default ${JSON.stringify({ root: ROOT, test })}`)
      const args = [join('node_modules', 'vitest', 'vitest.mjs'), 'run', '--config', config, '--no-color', '--no-cache']
      const { code, stdout, stderr } = await run(process.execPath, args, { killAfter: 50_000, env: { ...process.env, NO_COLOR: '1' } })
      expect(stdout, stderr).to.match(/^ +Tests +20 passed \(20\)$/m)
      expect(code, stdout).to.equal(0)
    })
  })
})
