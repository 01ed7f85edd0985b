import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import type { Context } from 'mocha'
import { needs, run, runNode, skipIf } from '../helpers/programs.ts'
import { CAN_GATE_IN_KERNEL } from '../helpers/settings.ts'

const GATE = fileURLToPath(new URL('../helpers/children/gate.js', import.meta.url))
const ALIVE = fileURLToPath(new URL('../helpers/children/alive.js', import.meta.url))
const QUEUED = 6

describe('Server: its process', () => {
  describe('accept(2) is called only while someone waits: counted by the kernel', () => {
    for (const kind of ['tcp', 'unix']) {
      for (const [mode, calls] of [
        ['limit', 2],
        ['loop', 1],
        ['pool', 2],
        ['nobody', 0]
      ] as const) {
        it(`strace counts ${calls} for six clients over ${kind}, mode ${mode}`, async function () {
          await needsStrace(this)
          skipIf(this, !CAN_GATE_IN_KERNEL, 'needs the kernel gate')
          this.timeout(30_000)
          const { stdout, stderr } = await run('strace', [
            ...['-f', '-qq', '-e', 'trace=accept4,accept', '-e', 'signal=none', process.execPath],
            ...[GATE, kind, mode, String(QUEUED)]
          ])
          const report = JSON.parse(stdout.trim().split('\n').at(-1) as string)
          expect(report).to.deep.include({ acceptGate: 'kernel', accepted: calls, queue: QUEUED - calls })
          const accepts = stderr.split('\n').filter((line) => /\baccept4?\(/.test(line))
          expect(accepts, stderr).to.have.lengthOf(calls)
        })
      }
    }
  })

  describe('an open server keeps the process alive, also while the gate is shut; listeningSocket.unref() opts out', () => {
    for (const gate of ['kernel', 'userland']) {
      for (const kind of ['tcp', 'unix']) {
        const env = { ...process.env, IT_TCP_GATE: gate }
        for (const [mode, end] of [
          ['nobody', 'alive'],
          ['pulled', 'alive'],
          ['limit', 'alive'],
          ['ref', 'alive'],
          ['unref', 'ended'],
          ['unref-pulled', 'ended'],
          ['unref-limit', 'ended'],
          ['closed', 'ended']
        ]) {
          it(`${kind}, ${gate} gate, ${mode}: the process has ${end === 'ended' ? 'ended by itself' : 'stayed alive'}`, async function () {
            skipIf(this, kind === 'unix' && process.platform === 'win32', 'needs unix sockets')
            skipIf(this, gate === 'kernel' && !CAN_GATE_IN_KERNEL, 'needs the kernel gate')
            const { code, stdout, stderr } = await runNode([ALIVE, kind as string, mode as string], { env })
            expect([code, stdout], stderr).to.deep.equal([0, `${gate} ${end}\n`])
          })
        }
      }
    }
  })
})
async function needsStrace(context: Context): Promise<void> {
  needs(context, 'strace')
  const { code } = await run('strace', ['-qq', '-e', 'trace=none', process.execPath, '--version'])
  skipIf(context, code !== 0, 'strace may not trace here')
}
