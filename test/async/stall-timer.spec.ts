import { mock } from 'node:test'
import { expect } from 'chai'
import { StallTimer } from '../../src/async/stall-timer.ts'
import { runNode } from '../helpers/programs.ts'
import { transcript } from '../helpers/transcript.ts'
import { turns, until } from '../helpers/until.ts'

describe('StallTimer', () => {
  const started: StallTimer[] = []

  afterEach(() => {
    for (const limit of started.splice(0)) limit.stop()
  })

  function watch(limit: number, progress: () => number | undefined, onStall: () => void): StallTimer {
    const watched = new StallTimer(limit, progress, onStall)
    started.push(watched)
    watched.start()
    return watched
  }

  it('calls onStall, by a timer', async () => {
    await new Promise<void>((resolve) => watch(20, () => 7, resolve))
  })

  describe('by a clock that is moved by hand', () => {
    const LIMIT = 8_000
    const CHECK = 1_000

    beforeEach(() => mock.timers.enable({ apis: ['setInterval'] }))
    afterEach(() => mock.timers.reset())

    function rig(limit = LIMIT): { timer: StallTimer; move(): void; tick(time: number): void; stalls: readonly number[] } {
      let progress = 0
      let time = 0
      const stalls: number[] = []
      const timer = watch(
        limit,
        () => progress,
        () => stalls.push(time)
      )
      return {
        timer,
        stalls,
        move: () => progress++,
        tick(milliseconds) {
          for (const end = time + milliseconds; time < end; ) {
            const step = Math.min(CHECK / 2, end - time)
            time += step
            mock.timers.tick(step)
          }
        }
      }
    }

    it('calls onStall after 1 to 1.125 times the limit, whenever the last progress was', () => {
      for (const last of [CHECK, 1.5 * CHECK, 3 * CHECK, 7.5 * CHECK]) {
        const { move, tick, stalls } = rig()
        tick(last)
        move()
        tick(3 * LIMIT)
        expect(stalls).to.have.lengthOf(1)
        expect((stalls[0] as number) - last).to.be.within(LIMIT, 1.125 * LIMIT)
      }
    })

    it('counts from every progress', () => {
      const { move, tick, stalls } = rig()
      for (let i = 0; i < 5; i++) {
        tick(0.9 * LIMIT)
        move()
      }
      expect(stalls).to.deep.equal([])
    })

    it('start() counts from zero after a stall, after stop() and after a stop by itself', () => {
      let progress: number | undefined = 0
      let stalls = 0
      const timer = watch(
        LIMIT,
        () => progress,
        () => stalls++
      )
      const tick = (checks: number): void => {
        for (let i = 0; i < checks; i++) mock.timers.tick(CHECK)
      }
      tick(9)
      expect(stalls).to.equal(1)
      timer.start()
      tick(7)
      timer.stop()
      timer.start()
      tick(7)
      progress = undefined
      tick(1)
      progress = 0
      tick(20)
      expect(stalls).to.equal(1)
      timer.start()
      tick(7)
      expect(stalls).to.equal(1)
      tick(2)
      expect(stalls).to.equal(2)
    })

    it('start() while it watches changes nothing', () => {
      const { timer, tick, stalls } = rig()
      for (let i = 0; i < 9; i++) {
        tick(CHECK)
        timer.start()
      }
      expect(stalls).to.have.lengthOf(1)
    })

    it('a shorter or longer limit counts the time in which nothing has moved already', () => {
      for (const limit of [LIMIT - 8, LIMIT / 2, LIMIT + 8, 2 * LIMIT]) {
        const { timer, tick, stalls } = rig()
        tick(4 * CHECK)
        timer.limit = limit
        tick(limit - 5 * CHECK)
        expect(stalls, `${limit}`).to.deep.equal([])
        tick(5 * CHECK)
        expect(stalls, `${limit}`).to.have.lengthOf(1)
      }
    })

    it('a limit of Infinity ends the watching, and start() begins it again with another', () => {
      const { timer, tick, stalls } = rig()
      timer.limit = Number.POSITIVE_INFINITY
      tick(10 * LIMIT)
      timer.limit = LIMIT
      timer.start()
      tick(LIMIT - CHECK)
      expect(stalls).to.deep.equal([])
      tick(2 * CHECK)
      expect(stalls).to.have.lengthOf(1)
    })
  })

  it('assigning the limit again and again does not postpone it', async () => {
    let stalls = 0
    const timer = watch(
      400,
      () => 0,
      () => stalls++
    )
    // In every turn, so that no check ever comes, and never the one that it has.
    await until(() => {
      timer.limit = timer.limit === 400 ? 401 : 400
      return stalls > 0
    })
  })

  it('is not postponed by the same limit, nor does that touch its timer', () => {
    const timer = watch(
      70_003,
      () => 0,
      () => {}
    )
    const { setInterval } = globalThis
    globalThis.setInterval = (() => expect.fail('a new timer')) as unknown as typeof setInterval
    try {
      for (let i = 0; i < 10; i++) timer.limit = 70_003
    } finally {
      globalThis.setInterval = setInterval
    }
  })

  for (const [comes, expected] of [
    ['something has arrived meanwhile', 0],
    ['nothing has arrived either', 1]
  ] as const) {
    it(`a check that is late, since the process itself stood still, decides behind the next poll: ${comes}`, async () => {
      const { now } = performance
      let clock = 0
      performance.now = () => clock
      mock.timers.enable({ apis: ['setInterval'] })
      try {
        let progress = 0
        let stalls = 0
        watch(
          8_000,
          () => progress,
          () => stalls++
        )
        const tick = (late = 0): void => {
          clock += 1_000 + late
          mock.timers.tick(1_000)
        }
        for (let check = 0; check < 7; check++) tick()
        tick(60_000)
        expect(stalls).to.equal(0)
        // As a poll would that reads what came during the standstill: behind all that is due before it.
        for (let hops = 0; hops < 10; hops++) await Promise.resolve()
        if (expected === 0) progress++
        await turns(2)
        expect(stalls).to.equal(expected)
        // The standstill does not count later either.
        for (let check = 0; check < 7; check++) tick()
        expect(stalls).to.equal(expected)
      } finally {
        mock.timers.reset()
        performance.now = now
      }
    })
  }

  it('an interval made before a fake clock was installed does not disable the limit of what is opened under it', () => {
    watch(
      8_000,
      () => 0,
      () => expect.fail('the real clock stands at the beginning')
    )
    mock.timers.enable({ apis: ['setInterval'] })
    try {
      let stalls = 0
      watch(
        8_000,
        () => 0,
        () => stalls++
      )
      for (let i = 0; i < 9; i++) mock.timers.tick(1_000)
      expect(stalls).to.equal(1)
    } finally {
      mock.timers.reset()
    }
  })

  it('nor does one made under a fake clock, once that is gone', async () => {
    mock.timers.enable({ apis: ['setInterval'] })
    watch(
      20,
      () => 0,
      () => expect.fail('the fake clock stands still')
    )
    mock.timers.reset()
    await new Promise<void>((resolve) => watch(20, () => 0, resolve))
  })

  it('takes timers that are numbers, as those of jsdom are', () => {
    const { setInterval, clearInterval } = globalThis
    const stopped: unknown[] = []
    globalThis.setInterval = (() => 42) as unknown as typeof setInterval
    globalThis.clearInterval = ((timer: unknown) => void stopped.push(timer)) as typeof clearInterval
    try {
      watch(
        70_004,
        () => 0,
        () => {}
      ).stop()
    } finally {
      Object.assign(globalThis, { setInterval, clearInterval })
    }
    expect(stopped).to.deep.equal([42])
  })

  it('calls onStall once, and again only after another start()', async () => {
    let stalls = 0
    const limit = watch(
      20,
      () => 7,
      () => stalls++
    )
    await until(() => stalls === 1)
    await pause(100)
    expect(stalls).to.equal(1)
    limit.start()
    await until(() => stalls === 2)
  })

  it('does not call onStall after stop(), nor once nothing is waited for', async () => {
    let progress: number | undefined = 1
    const stopped = watch(
      20,
      () => 0,
      () => expect.fail('stalled')
    )
    watch(
      20,
      () => progress,
      () => expect.fail('stalled')
    )
    stopped.stop()
    stopped.stop()
    progress = undefined
    await pause(100)
    progress = 1
    await pause(100)
  })

  it('a limit of Infinity watches nothing', async () => {
    watch(
      Number.POSITIVE_INFINITY,
      () => expect.fail('looked'),
      () => expect.fail('stalled')
    )
    await pause(50)
  })

  it('a limit beyond what a timer can hold does not fire at once', async () => {
    const warnings: Error[] = []
    const collect = (warning: Error): void => void warnings.push(warning)
    process.on('warning', collect)
    for (const limit of [2 ** 31, 2 ** 40, Number.MAX_VALUE])
      watch(
        limit,
        () => 0,
        () => expect.fail('stalled')
      )
    await pause(50)
    process.off('warning', collect)
    expect(warnings).to.deep.equal([])
  })

  it('a limit below a millisecond is one all the same', async () => {
    await new Promise<void>((resolve) => watch(0.001, () => 0, resolve))
  })

  it('all that have the same limit share one timer, which goes when the last of them does', () => {
    const { setInterval, clearInterval } = globalThis
    let timers = 0
    globalThis.setInterval = ((...args: Parameters<typeof setInterval>) => {
      timers++
      return setInterval(...args)
    }) as typeof setInterval
    globalThis.clearInterval = ((timer: NodeJS.Timeout) => {
      timers--
      clearInterval(timer)
    }) as typeof clearInterval
    try {
      const limits = Array.from({ length: 1_000 }, (_, i) =>
        watch(
          i % 2 === 0 ? 70_001 : 70_002,
          () => 0,
          () => {}
        )
      )
      expect(timers).to.equal(2)
      for (const limit of limits.slice(1)) limit.stop()
      expect(timers).to.equal(1)
      limits[0]?.stop()
      expect(timers).to.equal(0)
    } finally {
      Object.assign(globalThis, { setInterval, clearInterval })
    }
  })

  it('one that stalls may stop and start others of the same limit', async () => {
    const record = transcript()
    const others: StallTimer[] = []
    const late = new StallTimer(
      60,
      () => 0,
      () => record('late')
    )
    started.push(late)
    watch(
      60,
      () => 0,
      () => {
        record('first')
        for (const other of others) other.stop()
        late.start()
      }
    )
    const another = (): StallTimer =>
      watch(
        60,
        () => 0,
        () => record('stopped too late')
      )
    for (let i = 0; i < 3; i++) others.push(another())
    await until(() => record.lines.length > 1)
    await pause(100)
    expect(record.lines).to.deep.equal(['first', 'late'])
  })

  it('does not keep the process alive', async () => {
    const url = new URL('../../src/async/stall-timer.js', import.meta.url)
    const code = `import { StallTimer } from '${url}'\nnew StallTimer(1e9, () => 0, () => {}).start()\nconsole.log('started')`
    const { code: exitCode, stdout, stderr } = await runNode(['--input-type=module', '--eval', code], { killAfter: 8_000 })
    expect([exitCode, stdout, stderr]).to.deep.equal([0, 'started\n', ''])
  })
})

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}
