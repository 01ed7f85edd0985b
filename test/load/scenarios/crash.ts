// A server that is killed while it serves, and its successor.

import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { closedPort, type Target } from '../../helpers/raw.ts'
import { childEnvironment } from '../crowd.ts'
import type { Lab, Scenario } from '../lab.ts'

const VICTIM = fileURLToPath(new URL('../victim.js', import.meta.url))
const LONGEST_LIFE = 150

export const crash: Scenario = {
  promise: 'After kill -9 during load the successor listens on the same port or path at once, every time; no answer is cut short unseen.',
  full: { clients: 50, milliseconds: 50 },
  reduced: { clients: 20, milliseconds: 5 },
  async run(lab) {
    const { clients, milliseconds: rounds = 0 } = lab.load
    const crowd = await lab.crowd()
    let next = await spare(lab)
    const path = lab.path()
    // Nobody else may be given it while its server is dead and clients go on knocking.
    let target: Target = lab.kind === 'unix' ? path : await closedPort()
    const tally: Record<string, number> = {}
    let count = async (): Promise<void> => {}
    let slowest = 0
    for (let round = 0; round < rounds; round++) {
      const victim = next
      const start = performance.now()
      const answer = await listenOn(victim, target)
      slowest = Math.max(slowest, performance.now() - start)
      lab.check('target' in answer, `round ${round}: ${JSON.stringify(answer)}`)
      if (!('target' in answer)) break
      target = answer.target
      await count()
      const spares = [await spare(lab), await spare(lab)] as const
      const work = { target, duration: 2 * LONGEST_LIFE, concurrency: clients, bytes: 50_000, pause: 1 }
      const load = crowd.run('echo', work)
      count = async () => {
        const { outcomes, wrong } = await load
        for (const [outcome, number] of Object.entries(outcomes)) tally[outcome] = (tally[outcome] ?? 0) + number
        lab.check(wrong.length === 0, wrong.join('; '))
      }
      await sleep(Math.random() * LONGEST_LIFE)
      await kill(victim)
      // Some are killed before they listen, at any step of getting there.
      if (round % 2 === 0) {
        spares[0].send(target)
        await sleep(Math.random() * 10)
      }
      await kill(spares[0])
      next = spares[1]
    }
    await count()
    await kill(next)
    lab.figure('killed and followed', rounds)
    lab.figure('the successor listened after', `${slowest.toFixed(0)} ms at most`)
    lab.figure(
      'echoes of 50 KB whole, broken off, refused',
      [tally.served, tally.broken, tally.refused].map((number) => number ?? 0).join(', ')
    )
    lab.check((tally.served ?? 0) > 0, 'nobody was served')
    const left = readdirSync(dirname(path)).filter((name) => name.startsWith('.it-tcp-'))
    if (lab.kind === 'unix') lab.figure('directories left by those killed while binding', left.length)
  }
}

type Answer = { readonly target: Target } | { readonly error: string }

/** A process that has started and listens nowhere yet, so that it takes no time to. */
async function spare(lab: Lab): Promise<ChildProcess> {
  const child = fork(VICTIM, { env: childEnvironment(), execArgv: [] })
  lab.defer(() => kill(child))
  await once(child, 'message')
  return child
}

async function listenOn(child: ChildProcess, target: Target): Promise<Answer> {
  child.send(target)
  const [answer] = (await once(child, 'message')) as [Answer]
  return answer
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exit = once(child, 'exit')
  child.kill('SIGKILL')
  await exit
}
