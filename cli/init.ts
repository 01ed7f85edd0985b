// As the first process of a container: what has lost its parent becomes the child of that one, which has to wait for it.

import type { Report } from './report.ts'

// It starts the command once more as a child, passes signals on, and waits for whatever ends, as every shell does. On a terminal the
// keys reach the child by themselves.
const INIT = `"$@" <&0 &
child=$!
trap "kill -s TERM $child" TERM
if [ -t 2 ]; then trap : INT HUP; else trap "kill -s INT $child" INT; trap "kill -s HUP $child" HUP; fi
while :; do wait $child; code=$?; kill -s 0 $child 2>/dev/null || exit $code; done`

type Exec = (file: string, args: readonly string[]) => never

/**
 * Lets a shell be the first process, in place of this one, and goes on as its child: Node.js waits only for what it has started itself, and
 * what such a process leaves behind would stay in the system's table forever. Where that is not possible, it says so.
 */
export function leaveInitToShell(inheritsSocket: boolean, report: Report): void {
  if (process.pid !== 1 || process.platform === 'win32') return
  // From Node.js 22.15 on. An inherited socket would be closed.
  const execve = (process as { execve?: Exec }).execve
  if (execve !== undefined && !inheritsSocket) {
    execve.call(process, '/bin/sh', ['sh', '-c', INIT, 'it-tcp', process.execPath, ...process.execArgv, ...process.argv.slice(1)])
  }
  report.say('as PID 1 this process cannot reap orphans, which will pile up as zombies: use an init, such as docker run --init')
}
