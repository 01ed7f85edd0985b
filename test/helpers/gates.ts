// Listening sockets behind either gate, and the clients that come in.

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import net from 'node:net'
import { join } from 'node:path'
import { expect } from 'chai'
import type { SocketAddress } from '../../src/address.ts'
import { type Accepted, discard } from '../../src/server/gate.ts'
import { GatedListener, type ListeningSocketOptions } from '../../src/server/listening-socket.ts'
import { kernelGateAvailable } from '../../src/system/descriptors.ts'
import { onFile, onPortChosenByOs, type WhereToListen } from '../../src/where-to-listen.ts'
import { run, runNode, skipIf } from './programs.ts'
import type { Target } from './raw.ts'
import { type Scope, useScope } from './scope.ts'

export const MODULES: string = new URL('../../src/', import.meta.url).href
export const IS_LINUX: boolean = process.platform === 'linux'
const isFlag = (flag: string): boolean => process.allowedNodeEnvironmentFlags.has(flag)
/** The permission model, under whichever name this version has it, forbids native code. */
export const WITHOUT_LIBC: readonly string[] = [
  isFlag('--permission') ? '--permission' : '--experimental-permission',
  '--allow-fs-read=*',
  '--allow-fs-write=*',
  '--allow-worker',
  ...(isFlag('--allow-net') ? ['--allow-net'] : [])
]

export const LOOPBACK = { host: '127.0.0.1' }

export type Where = WhereToListen<SocketAddress, unknown>

/** A listening socket, and the clients that came in. */
export interface GateUnderTest {
  readonly socket: GatedListener
  readonly target: Target
  readonly accepted: Accepted[]
}

/** The gate's name, and how to have a server behind one. */
export const KINDS: Record<string, (scope: Scope) => Where> = {
  tcp: () => onPortChosenByOs(LOOPBACK) as Where,
  unix: (scope) => onFile(join(scope.tempDir(), 's')) as Where,
  ...(IS_LINUX && { abstract: () => onFile(`\0it-tcp-test-${process.pid}-${Math.random()}`) as Where })
}

/** Runs the tests of `define` behind both gates. */
export function behindEachGate(title: string, define: (gate: 'kernel' | 'userland', scope: Scope) => void): void {
  for (const gate of ['kernel', 'userland'] as const) {
    describe(`${title} (${gate} gate)`, () => {
      const scope = useScope()
      const asBefore = process.env.IT_TCP_GATE

      before(function () {
        skipIf(this, gate === 'kernel' && !kernelGateAvailable(), 'needs koffi')
      })
      beforeEach(() => {
        process.env.IT_TCP_GATE = gate
      })
      afterEach(() => {
        if (asBefore === undefined) delete process.env.IT_TCP_GATE
        else process.env.IT_TCP_GATE = asBefore
      })

      define(gate, scope)
    })
  }
}

export function gateOptions(accepted: Accepted[]): ListeningSocketOptions {
  return {
    backlog: 511,
    keepAlive: 60_000,
    onAccept(client) {
      accepted.push(client)
    }
  }
}

export async function bindGate(scope: Scope, where: Where, given: Partial<ListeningSocketOptions> = {}): Promise<GateUnderTest> {
  const accepted: Accepted[] = []
  const socket = await GatedListener.bind(where, { ...gateOptions(accepted), ...given })
  scope.defer(async () => {
    await socket.close()
    for (const client of accepted) {
      discard(client)
    }
  })
  const { address } = socket
  // The test may have brought its own `accepted`, which then is this one, filled by its own `onAccept`.
  return { socket, accepted, target: address.family === 'unix' ? address.path : address.port }
}

/** Sends text and the end to a client. */
export function sendTo(client: Accepted, text: string): void {
  const socket =
    'socket' in client ? client.socket : new net.Socket({ handle: (client as { handle: object }).handle } as net.SocketConstructorOpts)
  socket.on('error', () => {})
  socket.end(text)
}

/** Whether koffi is there, whichever gate the environment asks for. */
export function kernelGateAvailableAnyway(): boolean {
  const { IT_TCP_GATE } = process.env
  delete process.env.IT_TCP_GATE
  try {
    return kernelGateAvailable()
  } finally {
    if (IT_TCP_GATE !== undefined) process.env.IT_TCP_GATE = IT_TCP_GATE
  }
}

/** Clients in a listener's queue, as the kernel counts them: in /proc/net/tcp the queue of a listening socket, or as `ss` prints it. */
export async function queued(target: Target): Promise<number> {
  if (typeof target === 'number') {
    const port = target.toString(16).toUpperCase().padStart(4, '0')
    const row = readFileSync('/proc/net/tcp', 'utf8')
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .find((columns) => columns[1]?.endsWith(`:${port}`) && columns[3] === '0A')
    return Number.parseInt(row?.[4]?.split(':')[1] ?? '', 16)
  }
  // Where `ss` is missing there is nothing to compare.
  const { stdout } = await run('ss', ['-Hlxn', 'src', target]).catch(() => ({ stdout: '' }))
  return Number(stdout.split(/\s+/)[2] ?? 4)
}

export function socketOption(fd: number, level: number, name: number): number {
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi')
  const getsockopt = koffi.load(null).func('int getsockopt(int fd, int level, int name, void *value, void *length)')
  const value = new Int32Array(1)
  expect(getsockopt(fd, level, name, value, Int32Array.of(4))).to.equal(0)
  return value[0] as number
}

export function withImports(program: string): string {
  return `
    import net from 'node:net'
    import { GatedListener } from '${MODULES}server/listening-socket.js'
    import { onFile, onFileDescriptor, onPort } from '${MODULES}where-to-listen.js'
    const options = { backlog: 511, keepAlive: false, onAccept() {} }
    ${program}
  `
}

export function runBehind(gate: string, program: string): ReturnType<typeof run> {
  return runNode(['--no-warnings', '--input-type=module', '-e', withImports(program)], {
    env: { ...process.env, NODE_OPTIONS: '', IT_TCP_GATE: gate }
  })
}
