// Other servers as processes of a test, such as proxies of others.

import type { SpawnOptions } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createConnection } from 'node:net'
import { type Running, start } from './command.ts'
import type { Target } from './raw.ts'
import type { Scope } from './scope.ts'
import { until } from './until.ts'

/** Starts a program, resolves when somebody listens on `target`, and ends it in order when the test ends. */
export async function startDaemon(
  scope: Scope,
  program: string,
  args: readonly string[],
  target: Target,
  options: SpawnOptions = {}
): Promise<Running> {
  const running = start(scope, program, args, options)
  let end: number | NodeJS.Signals | undefined
  void running.exit.then((exit) => {
    end = exit
  })
  scope.defer(async () => {
    running.child.kill('SIGTERM')
    // It may have children, which end with it only if it is not killed.
    await Promise.race([running.exit, until(() => end !== undefined).catch(() => {})])
  })
  await until(() => end !== undefined || answers(target), `${program} listens`)
  if (end !== undefined) throw new Error(`${program} ended with ${end}: ${running.stdout}${running.stderr}`)
  return running
}

async function answers(target: Target): Promise<boolean> {
  if (typeof target === 'string' && !existsSync(target)) return false
  const socket = typeof target === 'number' ? createConnection(target, '127.0.0.1') : createConnection(target)
  const isThere = await new Promise<boolean>((resolve) => {
    socket.on('connect', () => resolve(true)).on('error', () => resolve(false))
  })
  socket.destroy()
  return isThere
}
