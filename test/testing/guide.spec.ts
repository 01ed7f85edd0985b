import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect } from 'chai'
import { transformSync } from 'esbuild'
import { run } from '../helpers/programs.ts'

// Tests run from the repository's root.
const ROOT = process.cwd()
const OUT = join(ROOT, 'dist', 'guide')
const ROUNDS = 200

type Test = [title: string, run: () => Promise<void>]

/** The tests of the guide, as they stand there. */
const blocks = [...readFileSync('docs/guides/testing-a-protocol.md', 'utf8').matchAll(/^```(ts|js)\n(.*?)^```$/gms)]
  .map(([, language, code = '']) => ({ isForNode: language === 'ts', code }))
  .filter(({ code }) => /^test\(/m.test(code))

describe('the guide to testing a protocol', () => {
  before(() => {
    rmSync(OUT, { recursive: true, force: true })
    mkdirSync(OUT, { recursive: true })
  })

  it('has five tests, each of less than 15 lines', () => {
    const tests = blocks.filter(({ isForNode }) => isForNode).map(({ code }) => /^test\(.*?^\}\)$/ms.exec(code)?.[0] as string)
    expect(tests).to.have.length(5)
    expect(tests.filter((test) => test.split('\n').length >= 15)).to.deep.equal([])
  })

  it(`has tests that end well ${ROUNDS} times in one process`, async function () {
    this.timeout(60_000)
    const tests: Test[] = []
    Object.assign(globalThis, { collectTest: (...test: Test) => tests.push(test) })
    for (const [index, { code }] of blocks.filter(({ isForNode }) => isForNode).entries()) {
      const collected = code
        .replace(`import { test } from 'node:test'`, 'const test = globalThis.collectTest')
        .replace(`import { mock, test } from 'node:test'`, `import { mock } from 'node:test'\nconst test = globalThis.collectTest`)
      const file = join(OUT, `${index}.mjs`)
      writeFileSync(file, transformSync(collected, { loader: 'ts', format: 'esm' }).code)
      await import(pathToFileURL(file).href)
    }
    expect(tests).to.have.length(5)
    for (let round = 0; round < ROUNDS; round++) {
      for (const [, test] of tests) await test()
    }
  })

  it('has tests that vitest runs, too', async function () {
    this.timeout(60_000)
    // Those that need a clock are there in both ways.
    const forVitest = blocks.filter(({ isForNode, code }) => !isForNode || !code.includes('mock'))
    for (const [index, { code }] of forVitest.entries()) {
      writeFileSync(join(OUT, `${index}.test.ts`), code.replace(`from 'node:test'`, `from 'vitest'`))
    }
    const config = join(OUT, 'vitest.config.mjs')
    const test = { include: [`${OUT}/*.test.ts`], exclude: [], watch: false, reporters: ['default'] }
    writeFileSync(config, `export default ${JSON.stringify({ root: ROOT, test })}`)
    const args = [join('node_modules', 'vitest', 'vitest.mjs'), 'run', '--config', config, '--no-color', '--no-cache']
    const { code, stdout, stderr } = await run(process.execPath, args, { killAfter: 50_000, env: { ...process.env, NO_COLOR: '1' } })
    expect(stdout, stderr).to.match(/^ +Tests +5 passed \(5\)$/m)
    expect(code, stdout).to.equal(0)
  })
})
