import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { expect } from 'chai'
import { check } from './check.ts'

// Another seed for every run: what one run does not find another one may. A failure tells the seed.
const SEED = Math.floor(Math.random() * 2 ** 31)
const RUNS = 3_000

describe('the model', () => {
  // In a process of its own, since the way to read is chosen when the library is loaded; at the same time, since there are two cores.
  let other: Promise<{ code: number | null; output: string }>

  before(() => {
    const isPush = process.env.IT_TCP_READ === 'push'
    const env = { ...process.env, IT_TCP_READ: isPush ? '' : 'push' }
    const child = spawn(process.execPath, ['dist/test/model/main.js', '--runs', `${RUNS}`, '--seed', `${SEED}`], {
      env,
      stdio: ['ignore', 'pipe', 'inherit']
    })
    other = Promise.all([once(child, 'close'), text(child.stdout)]).then(([[code], output]) => ({ code, output }))
  })

  it('allows all that random programs do', async function () {
    this.timeout(240_000)
    const { count, failure } = await check({ runs: RUNS, seed: SEED })
    expect(failure ?? '', failure).to.equal('')
    expect(count).to.equal(RUNS)
  })

  it('allows all that random programs do with the other way to read', async function () {
    this.timeout(240_000)
    const { code, output } = await other
    expect(code, output).to.equal(0)
    expect(output).to.include(`${RUNS} programs ran well`)
  })
})
