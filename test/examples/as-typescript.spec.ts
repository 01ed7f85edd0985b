import { join } from 'node:path'
import { expect } from 'chai'
import { runNode, skipIf } from '../helpers/programs.ts'

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
const STRIPS_TYPES = major > 22 || (major === 22 && minor >= 18)

describe('an example as it is written', () => {
  for (const [name, args, last] of [
    ['half-close', ['3', '4'], 'The sum is 7'],
    ['upper-case', ['hello'], 'HELLO']
  ] as const) {
    it(`node examples/${name}.ts runs without being compiled`, async function () {
      skipIf(this, !STRIPS_TYPES, 'needs Node.js 22.18')
      this.timeout(30_000)
      const { code, stdout, stderr } = await runNode([join('examples', `${name}.ts`), ...args])
      expect({ code, stderr }).to.deep.equal({ code: 0, stderr: '' })
      expect(stdout.trim().split('\n').at(-1)).to.equal(last)
    })
  }
})
