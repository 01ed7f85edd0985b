import { expect } from 'chai'
import { StallLimit } from '../src/stall-limit.ts'
import { runNode } from './helpers/programs.ts'
import { transcript } from './helpers/transcript.ts'

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

  it('calls onStall once, when nothing has moved for the limit and not before', async () => {
    const record = transcript()
    // Timers fire in the order in which they are due, however late.
    const early = pause(60).then(() => record('early'))
    watch(
      80,
      () => 7,
      () => record('stall')
    )
    await Promise.all([early, pause(400)])
    expect(record.lines).to.deep.equal(['early', 'stall'])
  })

  it('does not call onStall while there is progress, however little, and does when there is no more', async () => {
    const record = transcript()
    let isMoving = true
    let progress = 0
    watch(
      50,
      () => (isMoving ? ++progress : progress),
      () => record('stall')
    )
    await pause(300)
    expect(record.lines).to.deep.equal([])
    isMoving = false
    await pause(300)
    expect(record.lines).to.deep.equal(['stall'])
  })

  it('counts progress that goes back as progress', async () => {
    const record = transcript()
    let progress = 0
    watch(
      50,
      () => --progress,
      () => record('stall')
    )
    await pause(200)
    expect(record.lines).to.deep.equal([])
  })

  it('stops by itself when nothing is waited for; start() begins a new watch', async () => {
    const record = transcript()
    let progress: number | undefined = 1
    const limit = watch(
      50,
      () => progress,
      () => record('stall')
    )
    progress = undefined
    await pause(200)
    progress = 1
    await pause(200)
    expect(record.lines).to.deep.equal([])
    limit.start()
    await pause(200)
    expect(record.lines).to.deep.equal(['stall'])
  })

  it('stop() ends the watch; start() begins a new one', async () => {
    const record = transcript()
    const limit = watch(
      50,
      () => 0,
      () => record('stall')
    )
    limit.stop()
    limit.stop()
    await pause(200)
    expect(record.lines).to.deep.equal([])
    limit.start()
    limit.start()
    await pause(200)
    expect(record.lines).to.deep.equal(['stall'])
    limit.start()
    await pause(200)
    expect(record.lines).to.deep.equal(['stall', 'stall'])
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
    for (let i = 0; i < 3; i++)
      others.push(
        watch(
          60,
          () => 0,
          () => record('stopped too late')
        )
      )
    await pause(400)
    expect(record.lines).to.deep.equal(['first', 'late'])
  })

  it('does not keep the process alive', async () => {
    const url = new URL('../src/stall-limit.js', import.meta.url)
    const code = `import { StallLimit } from '${url}'\nnew StallLimit(1e9, () => 0, () => {}).start()\nconsole.log('started')`
    const { code: exitCode, stdout, stderr } = await runNode(['--input-type=module', '--eval', code], { killAfter: 8_000 })
    expect([exitCode, stdout, stderr]).to.deep.equal([0, 'started\n', ''])
  })
})

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}
