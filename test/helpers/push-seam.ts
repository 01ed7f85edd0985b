// The other way in which bytes come in: in buffers that Node.js makes, as on Bun and Deno.

import { createRequire } from 'node:module'
import { basename, join } from 'node:path'
import { expect } from 'chai'
import { runNode } from './programs.ts'

/** Whether this process reads so. */
export const IS_PUSH = process.env.IT_TCP_READ === 'push'

/** Tests that at least `atLeast` tests of `files`, those whose title matches `only`, also pass with buffers that Node.js makes. */
export function holdsWithPushToo(files: readonly string[], atLeast: number, only = ''): void {
  if (IS_PUSH) return
  const names = files.map((file) => basename(file, '.js')).join(' and ')
  it(`all that holds in ${names}${only && `, selected by '${only}',`} holds with buffers that Node.js makes, too`, async function () {
    this.timeout(300_000)
    const mocha = createRequire(import.meta.url).resolve('mocha/bin/mocha.js')
    const hooks = join(import.meta.dirname, 'root-hooks.js')
    const args = ['--no-config', '--reporter', 'dot', '--timeout', '10000', '--require', hooks, '--grep', only, ...files]
    const env = { ...process.env, IT_TCP_READ: 'push' }
    const { code, signal, stdout, stderr } = await runNode([mocha, ...args], { env, killAfter: 280_000 })
    expect(code, `${signal ?? ''}\n${stdout}\n${stderr}`).to.equal(0)
    expect(Number(/(\d+) passing/.exec(stdout)?.[1])).to.be.at.least(atLeast)
  })
}
