import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { run, skipIf } from '../helpers/programs.ts'
import { useScope } from '../helpers/scope.ts'

// Tests run from the repository's root.
const ROOT = process.cwd()
const LAWS = join(ROOT, 'dist', 'test', 'realms', 'laws.js')
const LONGEST = 90_000

describe('Other realms: the library works in what test runners make of the globals', function () {
  this.timeout(LONGEST)
  const scope = useScope()

  for (const [environment, options] of [
    ['node', {}],
    ['jsdom', {}],
    ['node, with fake timers from before the import', { fakeTimers: { enableGlobally: true } }]
  ] as const) {
    it(`in jest, environment ${environment}`, async () => {
      const [testEnvironment] = environment.split(',')
      const config = join(scope.tempDir(), 'jest.config.json')
      writeFileSync(
        config,
        JSON.stringify({ rootDir: ROOT, testEnvironment, testMatch: [LAWS], transform: {}, haste: { enableSymlinks: false }, ...options })
      )
      const { code, stderr } = await run(
        process.execPath,
        ['--experimental-vm-modules', join('node_modules', 'jest', 'bin', 'jest.js'), '--config', config, '--runInBand', '--colors=false'],
        { killAfter: LONGEST }
      )
      expect(stderr).to.match(/^Tests: +\d+ passed, \d+ total$/m)
      expect(code, stderr).to.equal(0)
    })
  }

  for (const environment of ['node', 'jsdom', 'happy-dom']) {
    it(`in vitest, environment ${environment}`, async function () {
      const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
      skipIf(this, major < 20 || (major === 20 && minor < 19), 'needs a Node.js that vitest runs on')
      const config = join(scope.tempDir(), 'vitest.config.mjs')
      const test = { globals: true, environment, include: [LAWS], watch: false, reporters: ['default'] }
      writeFileSync(config, `export default ${JSON.stringify({ root: ROOT, test })}`)
      const { code, stdout, stderr } = await run(
        process.execPath,
        [join('node_modules', 'vitest', 'vitest.mjs'), 'run', '--config', config, '--no-color', '--no-cache'],
        { killAfter: LONGEST, env: { ...process.env, NO_COLOR: '1' } }
      )
      expect(stdout, stderr).to.match(/^ +Tests +\d+ passed \(\d+\)$/m)
      expect(code, stdout).to.equal(0)
    })
  }
})
