import { setImmediate } from 'node:timers/promises'
import { expect } from 'chai'
import { currentTurn } from '../../src/async/turn.ts'

describe('currentTurn()', () => {
  it('is the same until the immediates run, microtasks and ticks included', async () => {
    const turn = currentTurn()
    await Promise.resolve()
    expect(currentTurn()).to.equal(turn)
    await new Promise<void>((resolve) => process.nextTick(resolve))
    expect(currentTurn()).to.equal(turn)
  })

  it('is another one after them', async () => {
    const turn = currentTurn()
    await setImmediate()
    expect(currentTurn()).to.not.equal(turn)
  })

  it('leaves nothing behind that keeps the process alive', async () => {
    currentTurn()
    await setImmediate()
    expect(process.getActiveResourcesInfo()).to.not.include('Immediate')
  })
})
