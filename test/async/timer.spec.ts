import { mock } from 'node:test'
import { expect } from 'chai'
import { startTimer } from '../../src/async/timer.ts'

const LONGEST_DELAY = 2 ** 31 - 1

describe('startTimer()', () => {
  beforeEach(() => mock.timers.enable({ apis: ['setTimeout'] }))
  afterEach(() => mock.timers.reset())

  it('calls once the delay has passed, and once only', () => {
    let calls = 0
    startTimer(10, () => calls++)
    mock.timers.tick(9)
    expect(calls).to.equal(0)
    mock.timers.tick(1)
    expect(calls).to.equal(1)
    mock.timers.tick(100)
    expect(calls).to.equal(1)
  })

  it('returns the function that stops it', () => {
    let calls = 0
    const stop = startTimer(10, () => calls++)
    stop()
    mock.timers.tick(100)
    expect(calls).to.equal(0)
  })

  it('honours a delay that setTimeout would wrap', () => {
    let calls = 0
    startTimer(LONGEST_DELAY + 10, () => calls++)
    mock.timers.tick(LONGEST_DELAY)
    expect(calls).to.equal(0)
    mock.timers.tick(9)
    expect(calls).to.equal(0)
    mock.timers.tick(1)
    expect(calls).to.equal(1)
  })

  it('asks for no delay below 0, of which newer lines of Node.js warn', () => {
    mock.timers.reset()
    const given = mock.method(globalThis, 'setTimeout')
    for (const delay of [-0.02, -10, 0, 1.5]) startTimer(delay, () => {})()
    expect(given.mock.calls.map(({ arguments: [, delay] }) => delay)).to.deep.equal([0, 0, 0, 1.5])
    given.mock.restore()
  })

  it('can be stopped in each of its stretches', () => {
    let calls = 0
    const stop = startTimer(3 * LONGEST_DELAY, () => calls++)
    mock.timers.tick(LONGEST_DELAY + 1)
    stop()
    mock.timers.tick(LONGEST_DELAY)
    mock.timers.tick(LONGEST_DELAY)
    expect(calls).to.equal(0)
  })

  it('never calls for Infinity, and can be stopped', () => {
    mock.timers.reset()
    const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
    const before = timers()
    const stop = startTimer(Number.POSITIVE_INFINITY, () => expect.fail('called'))
    expect(timers()).to.equal(before)
    stop()
  })

  it('keeps the process alive only if isRef', () => {
    mock.timers.reset()
    const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
    const before = timers()
    const stops = [startTimer(60_000, () => {}), startTimer(60_000, () => {}, false)]
    expect(timers()).to.equal(before + 1)
    for (const stop of stops) stop()
    expect(timers()).to.equal(before)
  })
})
