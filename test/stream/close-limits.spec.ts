import { mock } from 'node:test'
import { expect } from 'chai'
import { CloseLimits, type Closing } from '../../src/stream/close-limits.ts'
import { turns } from '../helpers/until.ts'

describe('CloseLimits', () => {
  let now = 0

  beforeEach(() => {
    now = 1_000
    mock.method(performance, 'now', () => now)
    mock.timers.enable({ apis: ['setTimeout'] })
  })

  afterEach(() => {
    mock.timers.reset()
    mock.restoreAll()
  })

  const pass = async (time: number): Promise<void> => {
    now += time
    mock.timers.tick(time)
    await turns(2)
  }

  function rig(): { limits: CloseLimits; told: string[]; state: { isClosing: boolean; isFinished: boolean; bytesPending: number } } {
    const told: string[] = []
    const state = { isClosing: true, isFinished: false, bytesPending: 1 }
    const closing = {
      get isClosing() {
        return state.isClosing
      },
      outgoing: state,
      transport: { destroy: () => told.push('destroy'), reset: () => told.push('reset') },
      gaveUpAfter: (delay: number) => told.push(`gave up after ${delay}`)
    } as unknown as Closing
    return { limits: new CloseLimits(closing), told, state }
  }

  for (const delay of [10, 1_000, 1_001, 30_000]) {
    it(`gives up after ${delay} ms from the call what is not handed over by then`, async () => {
      const { limits, told } = rig()
      limits.forceAfter(delay)
      await pass(delay - 1)
      expect(told).to.deep.equal([])
      await pass(1)
      expect(told).to.deep.equal([`gave up after ${delay}`])
    })
  }

  it('the earliest of several limits counts', async () => {
    const { limits, told } = rig()
    limits.forceAfter(30_000)
    limits.forceAfter(20_000)
    limits.forceAfter(25_000)
    await turns(4)
    await pass(20_000)
    expect(told).to.deep.equal(['gave up after 20000'])
    await pass(100_000)
    expect(told).to.deep.equal(['gave up after 20000'])
  })

  it('gives an end that waits for its peer the time of a linger, and then resets', async () => {
    const { limits, told, state } = rig()
    limits.forceAfter(5_000)
    state.bytesPending = 0
    await turns(4)
    await pass(5_000)
    expect(told).to.deep.equal([])
    await pass(2_000)
    expect(told).to.deep.equal(['reset'])
  })

  it('waits for the peer as long as the shortest linger says', async () => {
    const { limits, told, state } = rig()
    state.isFinished = true
    limits.shortenLinger(500)
    limits.shortenLinger(700)
    limits.waitForPeer()
    limits.waitForPeer()
    await pass(499)
    expect(told).to.deep.equal([])
    await pass(1)
    expect(told).to.deep.equal(['destroy'])
    limits.shortenLinger(0)
    limits.waitForPeer()
    expect(told).to.deep.equal(['destroy', 'destroy'])
  })

  it('end() stops whatever it waits for', async () => {
    const { limits, told } = rig()
    limits.forceAfter(5_000)
    await turns(4)
    limits.end()
    await pass(100_000)
    expect(told).to.deep.equal([])
  })

  describe('by the clock that was there first', () => {
    const timers = (): number => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length

    beforeEach(() => mock.timers.reset())

    it('makes no timer for a close that is over two turns later', async () => {
      const { limits, told, state } = rig()
      // The one of this test is there by then.
      await turns(1)
      const before = timers()
      limits.forceAfter(30_000)
      expect(timers()).to.equal(before)
      state.isFinished = true
      await turns(4)
      expect(timers()).to.equal(before)
      expect(told).to.deep.equal([])
    })

    it('makes one for any other', async () => {
      const { limits } = rig()
      await turns(1)
      const before = timers()
      limits.forceAfter(30_000)
      await turns(4)
      expect(timers()).to.equal(before + 1)
      limits.end()
      expect(timers()).to.equal(before)
    })

    it('makes one at once for a limit of a second or less', () => {
      const { limits } = rig()
      const before = timers()
      limits.forceAfter(1_000)
      expect(timers()).to.equal(before + 1)
      limits.end()
    })
  })
})
