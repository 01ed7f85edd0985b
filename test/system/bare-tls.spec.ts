import { spawnSync } from 'node:child_process'
import { expect } from 'chai'
import { canBeBare } from '../../src/system/bare-tls.ts'

const MODULE = new URL('../../src/system/bare-tls.js', import.meta.url)

describe('canBeBare()', () => {
  it('is true for servers that ask for no certificate, on Node.js as it is', function () {
    if (process.env.IT_TCP_READ === 'push') this.skip()
    expect(canBeBare({ isServer: true, requestCert: false })).to.equal(true)
    expect(canBeBare({ isServer: true, requestCert: true })).to.equal(false)
    expect(canBeBare({ isServer: false })).to.equal(false)
  })

  for (const [why, flags, env] of [
    ['keys are to be written to a file', ['--tls-keylog=/dev/null'], {}],
    ['TLS is to be traced', ['--trace-tls'], {}],
    ['the same is said in NODE_OPTIONS', [], { NODE_OPTIONS: '--trace-tls' }],
    ['deprecations to come are to be told', ['--pending-deprecation'], {}],
    ['Node.js is to read by itself', [], { IT_TCP_READ: 'push' }]
  ] as const) {
    it(`is false where ${why}`, () => {
      const program = `import { canBeBare } from '${MODULE}'; console.log(canBeBare({ isServer: true }))`
      const { IT_TCP_READ: _, NODE_OPTIONS: __, ...rest } = process.env
      const { stdout, stderr } = spawnSync(process.execPath, [...flags, '--input-type=module', '--eval', program], {
        encoding: 'utf8',
        env: { ...rest, ...env }
      })
      expect(stdout, stderr).to.equal('false\n')
      expect(stderr).not.to.include('process.binding')
    })
  }
})
