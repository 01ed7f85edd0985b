import { join } from 'node:path'
import { expect } from 'chai'
import { runNode, skipIf } from '../helpers/programs.ts'

// Node.js 22.18 takes the types away, too, but does not know `await using`.
const RUNS_TYPESCRIPT = Number(process.versions.node.split('.')[0]) >= 24

describe('an example as it is written', () => {
  for (const [name, args, last] of [
    ['half-close', ['3', '4'], 'The sum is 7'],
    ['upper-case', ['hello'], 'HELLO']
  ] as const) {
    it(`node examples/${name}.ts runs without being compiled`, async function () {
      skipIf(this, !RUNS_TYPESCRIPT, 'needs Node.js 24')
      this.timeout(30_000)
      const { code, stdout, stderr } = await runNode([join('examples', `${name}.ts`), ...args])
      expect({ code, stderr }).to.deep.equal({ code: 0, stderr: '' })
      expect(stdout.trim().split('\n').at(-1)).to.equal(last)
    })
  }
})
