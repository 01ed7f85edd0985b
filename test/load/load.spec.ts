import { expect } from 'chai'
import { Deferred } from '../../src/async/deferred.ts'
import { consumerPool } from '../../src/consumer-pool.ts'
import { skipIf } from '../helpers/programs.ts'
import { CAN_GATE_IN_KERNEL } from '../helpers/settings.ts'
import type { Kind, Report, Scenario } from './lab.ts'
import { runScenario } from './runner.ts'
import { scenarios } from './scenarios.ts'

// They wait more than they work, each in processes of its own.
const AT_ONCE = 2
const LONGEST = 20_000

interface Run {
  readonly name: string
  readonly kind: Kind
  readonly gate: 'kernel' | 'userland'
}

describe('Under load, at a reduced scale', function () {
  // Until it is its turn.
  this.timeout(2 * LONGEST)
  const ofTheGate = ['resets', 'overload', 'silent-gate', 'accepted', 'crash']
  const runs = Object.keys(scenarios).flatMap((name): Run[] => [
    { name, kind: 'tcp', gate: 'kernel' },
    { name, kind: 'unix', gate: 'kernel' },
    ...(ofTheGate.includes(name) ? [{ name, kind: 'tcp', gate: 'userland' } as const] : [])
  ])
  const reports = new Map<Run, Deferred<Report>>()
  const stop = new AbortController()

  before(function () {
    skipIf(this, process.platform === 'win32', 'needs unix sockets and SIGKILL')
    for (const run of runs) reports.set(run, new Deferred())
    const wanted = runs.filter(({ gate }) => gate === 'userland' || CAN_GATE_IN_KERNEL)
    void consumerPool(asynchronously(wanted), AT_ONCE, async (run) => {
      const { name, kind, gate } = run
      const options = { gate, signal: stop.signal, killAfter: LONGEST }
      try {
        reports.get(run)?.resolve(await runScenario(name, kind, (scenarios[name] as Scenario).reduced, options))
      } catch (error) {
        reports.get(run)?.reject(error)
      }
    })
  })

  after(() => stop.abort())

  for (const run of runs) {
    const { name, kind, gate } = run
    it(`${name} over ${kind}, gate in ${gate === 'kernel' ? 'the kernel' : 'userland'}: ${scenarios[name]?.promise}`, async function () {
      skipIf(this, gate === 'kernel' && !CAN_GATE_IN_KERNEL, 'needs the kernel gate')
      const report = await reports.get(run)?.promise
      expect(report?.faults).to.deep.equal([])
    })
  }
})

async function* asynchronously<T>(items: Iterable<T>): AsyncGenerator<T> {
  yield* items
}
