import { setImmediate } from 'node:timers/promises'
import { expect } from 'chai'
import { currentTurn, nextTurn, TurnBudget } from '../../src/async/turn.ts'

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

describe('TurnBudget: a loop takes a bounded number of steps in a turn of the event loop, and so do all of them', () => {
  const stepsOf = (budget: TurnBudget): number => {
    let steps = 0
    while (budget.spend()) steps++
    return steps
  }

  // What others have done before counts for a turn.
  beforeEach(async () => {
    currentTurn()
    await nextTurn()
    currentTurn()
    await nextTurn()
  })

  it('512 for one, and as many again in the next turn', async () => {
    const budget = new TurnBudget()
    expect(stepsOf(budget)).to.equal(512)
    expect(budget.spend()).to.equal(false)
    await nextTurn()
    expect(stepsOf(budget)).to.equal(512)
  })

  it('for many each its share of what sixteen may take, and each something', async () => {
    for (const loops of [16, 64, 200, 3_000]) {
      const budgets = Array.from({ length: loops }, () => new TurnBudget())
      const total = (): number => budgets.reduce((sum, budget) => sum + stepsOf(budget), 0)
      // In the first turn nobody knows how many there are going to be.
      expect(total(), `${loops} loops, first turn`).to.be.at.most(16 * 512 * Math.ceil(1 + Math.log(loops)) + 8 * loops)
      await nextTurn()
      const steps = budgets.map(stepsOf)
      expect(Math.min(...steps), `${loops} loops`).to.equal(Math.max(...steps))
      expect(Math.min(...steps), `${loops} loops`).to.equal(Math.max(8, Math.min(512, Math.floor(8_192 / loops))))
      await nextTurn()
      currentTurn()
      await nextTurn()
    }
  })

  it('one that is left alone has all of its own again', async () => {
    const [first, ...others] = Array.from({ length: 100 }, () => new TurnBudget())
    for (const budget of others) budget.spend()
    await nextTurn()
    expect(stepsOf(first as TurnBudget)).to.equal(82)
    await nextTurn()
    expect(stepsOf(first as TurnBudget)).to.equal(512)
  })
})
