import { expect } from 'chai'
import { StallLimit } from '../../src/async/stall-timer.ts'
import { runNode } from '../helpers/programs.ts'
import { transcript } from '../helpers/transcript.ts'
import { until } from '../helpers/until.ts'

describe('StallLimit', () => {
  const started: StallLimit[] = []

  afterEach(() => {
    for (const limit of started.splice(0)) limit.stop()
  })

  function watch(limit: number, progress: () => number | undefined, onStall: () => void): StallLimit {
    const watched = new StallLimit(limit, progress, onStall)
    started.push(watched)
    watched.start()
    return watched
  }

  it('calls onStall, by a timer', async () => {
    await new Promise<void>((resolve) => watch(20, () => 7, resolve))
  })

  describe('by a manual clock', () => {
    const { now } = performance
    let clock = 0

    beforeEach(() => {
      clock = 0
      performance.now = () => clock
    })

    afterEach(() => {
      performance.now = now
    })

    // So long that its own timer never looks.
    const LIMIT = 1_000_000

    function rig(): { limit: StallLimit; at(time: number, progress: number | undefined): void; lines: readonly string[] } {
      const record = transcript()
      let progress: number | undefined = 0
      const limit = watch(
        LIMIT,
        () => progress,
        () => record(`stall at ${clock}`)
      )
      const at = (time: number, moved: number | undefined): void => {
        clock = time
        progress = moved
        limit.look(time)
      }
      return { limit, at, lines: record.lines }
    }

    it('calls onStall when nothing has moved for the limit, and not before', () => {
      const { at, lines } = rig()
      at(1, 0)
      at(LIMIT - 1, 0)
      expect(lines).to.deep.equal([])
      at(LIMIT, 0)
      expect(lines).to.deep.equal([`stall at ${LIMIT}`])
    })

    it('counts anew from every progress, forth or back', () => {
      const { at, lines } = rig()
      at(LIMIT - 1, 5)
      at(2 * LIMIT - 2, 3)
      at(3 * LIMIT - 4, 3)
      expect(lines).to.deep.equal([])
      at(3 * LIMIT - 2, 3)
      expect(lines).to.deep.equal([`stall at ${3 * LIMIT - 2}`])
    })

    it('start() begins anew after a stall, after stop() and after a stop by itself', () => {
      const { limit, at, lines } = rig()
      at(LIMIT, 0)
      limit.start()
      at(2 * LIMIT - 1, 0)
      limit.stop()
      clock = 3 * LIMIT
      limit.start()
      at(4 * LIMIT - 1, 0)
      at(4 * LIMIT - 1, undefined)
      clock = 6 * LIMIT
      limit.start()
      expect(lines).to.have.lengthOf(1)
      at(7 * LIMIT, undefined)
      expect(lines).to.have.lengthOf(1)
    })

    it('start() while it watches does not begin anew', () => {
      const { limit, at, lines } = rig()
      clock = LIMIT / 2
      limit.start()
      at(LIMIT, 0)
      expect(lines).to.deep.equal([`stall at ${LIMIT}`])
    })
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
    const others: StallLimit[] = []
    const late = new StallLimit(
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
    const another = (): StallLimit =>
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
    const code = `import { StallLimit } from '${url}'\nnew StallLimit(1e9, () => 0, () => {}).start()\nconsole.log('started')`
    const { code: exitCode, stdout, stderr } = await runNode(['--input-type=module', '--eval', code], { killAfter: 8_000 })
    expect([exitCode, stdout, stderr]).to.deep.equal([0, 'started\n', ''])
  })
})

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}
