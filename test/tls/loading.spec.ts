import { expect } from 'chai'
import { runNode } from '../helpers/programs.ts'

describe('importing the library', () => {
  it('does not load node:tls, which a first use does', async function () {
    this.timeout(30_000)
    const program = `
      const loaded = () => process.moduleLoadList.some((name) => /^NativeModule _?tls(?:_wrap)?$/.test(name))
      await import('it-tcp')
      const before = loaded()
      const { nodeTls } = await import('./dist/src/system/node-tls.js')
      nodeTls()
      console.log(before, loaded())
    `
    const { stdout, stderr } = await runNode(['--input-type=module', '--eval', program])
    expect(stdout + stderr).to.equal('false true\n')
  })
})
