import { expect } from 'chai'
import * as testing from '../../src/testing.ts'
import { runNode } from '../helpers/programs.ts'

describe('it-tcp/testing', () => {
  it('exports exactly the names of its API', () => {
    expect(Object.keys(testing).sort()).to.deep.equal(['BrokenLawError', 'MemoryNetwork', 'checkConnection', 'connectionPair'])
  })

  it('is what a program gets that imports it by its name', async () => {
    expect(await import('it-tcp/testing')).to.equal(testing)
  })

  it('is not loaded with it-tcp', async () => {
    const program = `
      import { register } from 'node:module'
      const hooks = 'export async function load(url, context, next) { if (/src\\\\/testing/.test(url)) console.log(url); return await next(url, context) }'
      register('data:text/javascript,' + encodeURIComponent(hooks))
      await import('it-tcp')
      console.log('loaded')
      await import('it-tcp/testing')
    `
    const { stdout } = await runNode(['--input-type=module', '-e', program])
    const lines = stdout.trim().split('\n')
    expect(lines[0]).to.equal('loaded')
    // What is looked for is found where it is.
    expect(lines.length).to.be.greaterThan(5)
  })
})
