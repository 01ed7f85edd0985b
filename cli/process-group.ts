// A process and all that it has started, which end together.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import type { Readable, Writable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'

/** Milliseconds for the processes of a group to end by SIGTERM, before SIGKILL. */
const KILL_AFTER = 5_000
/** Milliseconds after SIGKILL in which a process is given up that not even the system can end. */
const GIVE_UP_AFTER = 5_000
/** Milliseconds between two looks at a group that is to end: the first ones, and the later ones. */
const FIRST_LOOK = 10
const LAST_LOOK = 200

/** How a process ended: by itself, with a code, or by a signal. */
export type Exit = number | NodeJS.Signals

/** A command that the shell runs, in a process group of its own. */
export class ProcessGroup {
  readonly stdin: Writable
  readonly stdout: Readable
  /** How the shell ended; what it started may still be there. */
  readonly exited: Promise<Exit>
  readonly #child: ChildProcess
  #ended: Promise<void> | undefined

  private constructor(command: string, env: Readonly<Record<string, string>>) {
    // A group of its own: Ctrl+C is for this program, which lets clients finish, and what the shell starts can be ended with the shell.
    const child = spawn(command, {
      shell: true,
      detached: process.platform !== 'win32',
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, ...env }
    })
    this.#child = child
    this.stdin = child.stdin
    this.stdout = child.stdout
    const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>
    this.exited = exited.then(([code, signal]) => signal ?? (code as number))
    this.exited.catch(() => {})
  }

  /** Starts the command. */
  static async start(command: string, env: Readonly<Record<string, string>>): Promise<ProcessGroup> {
    const group = new ProcessGroup(command, env)
    await once(group.#child, 'spawn')
    return group
  }

  /**
   * Ends what is left of the group: by SIGTERM, and what is still there 5 s later by SIGKILL. Resolves when nothing is left, also of what
   * the shell has left behind; a process that has left the group for one of its own is its own master.
   */
  end(): Promise<void> {
    this.#ended ??= this.#end()
    return this.#ended
  }

  async #end(): Promise<void> {
    await this.#signalUntilGone('SIGTERM', KILL_AFTER)
    await this.#signalUntilGone('SIGKILL', GIVE_UP_AFTER)
  }

  async #signalUntilGone(signal: NodeJS.Signals, patience: number): Promise<void> {
    if (!this.#isThere() || !this.#signal(signal)) return
    const deadline = performance.now() + patience
    for (let pause = FIRST_LOOK; performance.now() < deadline; pause = Math.min(LAST_LOOK, pause * 2)) {
      await delay(pause)
      // Looking often keeps the number of a group that has ended from being taken for one that has got it since.
      if (!this.#isThere()) return
    }
  }

  #isThere(): boolean {
    const { pid, exitCode, signalCode } = this.#child
    if (exitCode === null && signalCode === null) return true
    return process.platform !== 'win32' && this.#signal(0) && hasMembers(pid as number)
  }

  /** Gives whether there was one to send it to. */
  #signal(signal: NodeJS.Signals | 0): boolean {
    const { pid } = this.#child
    try {
      return process.platform === 'win32' ? this.#child.kill(signal) : process.kill(-(pid as number), signal)
    } catch {
      return false
    }
  }
}

// A process that has ended counts as a member until its parent has waited for it, which in a container may be never: the system lets
// signals reach it, and only its state tells.
function hasMembers(group: number): boolean {
  if (process.platform !== 'linux') return true
  try {
    // What is mounted there may be about other processes than those that this one can reach.
    if (readlinkSync('/proc/self') !== String(process.pid)) return true
    return readdirSync('/proc').some((name) => /^\d+$/.test(name) && isMember(name, group))
  } catch {
    return true
  }
}

function isMember(pid: string, group: number): boolean {
  try {
    // Behind the name, which may have anything in it: state, parent, group.
    const [state, , processGroup] = readFileSync(`/proc/${pid}/stat`, 'latin1')
      .replace(/^.*\) /s, '')
      .split(' ')
    return Number(processGroup) === group && state !== 'Z' && state !== 'X'
  } catch {
    // It has just ended.
    return false
  }
}
