// Child processes of the benchmark: started, asked, ended.

import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { availableParallelism, cpus } from 'node:os'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { here } from './peers.js'

const canPin = availableParallelism() > 1 && spawnSync('taskset', ['-c', '0,1', 'true']).status === 0

/** Where servers and generator run, in words. */
export const PLACEMENT = canPin ? 'servers on core 0, load on core 1' : 'servers and load on any core'

/**
 * @param {number} core
 * @param {string[]} command
 * @returns {[string, string[]]}
 */
function pinned(core, [program, ...args]) {
  return canPin ? ['taskset', ['-c', String(core), program, ...args]] : [program, args]
}

/** Puts this process where the generator of load would be. */
export function moveToCoreOfLoad() {
  if (canPin) spawnSync('taskset', ['--all-tasks', '-pc', '1', String(process.pid)])
}

/** A sentence about the other programs that use this machine now, while nothing is measured; empty if there are none to speak of. */
export async function foreignLoad() {
  const total = () => cpus().reduce((sum, { times: { user, nice, sys, irq } }) => sum + user + nice + sys + irq, 0)
  const [before, begin] = [total(), performance.now()]
  await sleep(1_000)
  const busy = (total() - before) / (performance.now() - begin)
  return busy > 0.2 ? `Other programs kept ${busy.toFixed(1)} of ${availableParallelism()} cores busy: the numbers are unsteady.` : ''
}

/** A server process. */
export class ServerProcess {
  #child
  #lines
  port = 0

  /**
   * @param {string[]} command
   * @param {NodeJS.ProcessEnv} [env]
   */
  constructor(command, env = {}) {
    const [program, args] = pinned(0, command)
    this.#child = spawn(program, args, {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, NO_COLOR: '1', DENO_NO_UPDATE_CHECK: '1', ...env }
    })
    this.#child.stdin.on('error', () => {})
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]()
  }

  /** Resolves when it listens. */
  async start() {
    this.port = (await this.#next()).port
  }

  /** What it has used so far: seconds of CPU time, `system` of them in the kernel, and bytes of memory. */
  async usage() {
    this.#child.stdin.write('?\n')
    return await this.#next()
  }

  /**
   * Lets it dial, as it was started for.
   *
   * @param {{ port: number, connections: number, milliseconds: number }} job
   */
  async dial(job) {
    this.#child.stdin.write(`${JSON.stringify(job)}\n`)
    return await this.#next()
  }

  /** Lets it collect its garbage, all of it: milliseconds. For Node.js with --expose-gc. */
  async collect() {
    this.#child.stdin.write('gc\n')
    return (await this.#next()).milliseconds
  }

  async #next() {
    const { done, value } = await within(15_000, this.#lines.next())
    if (done) throw new Error('the server ended')
    return JSON.parse(value)
  }

  async stop() {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const exit = once(this.#child, 'exit')
    this.#child.stdin.end()
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 3_000)
    await exit
    clearTimeout(timer)
  }
}

/** The process that makes the load. */
export class Generator {
  #child

  constructor() {
    const [program, args] = pinned(1, [process.execPath, here('generator.js')])
    this.#child = spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  }

  /**
   * @param {'open' | 'run' | 'close' | 'probe'} act
   * @param {object} [options]
   */
  async ask(act, options = {}) {
    this.#child.send({ act, ...options })
    const [answer] = await within(60_000, once(this.#child, 'message'))
    if (answer.error !== undefined) throw new Error(answer.error)
    return answer
  }

  stop() {
    if (this.#child.connected) this.#child.disconnect()
  }
}

/**
 * @template T
 * @param {number} milliseconds
 * @param {Promise<T>} promise
 */
async function within(milliseconds, promise) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${milliseconds / 1000} s`)), milliseconds)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}
