import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import { needs, skipIf } from '../helpers/programs.ts'
import type { Target } from '../helpers/raw.ts'
import { type Scope, useScope } from '../helpers/scope.ts'
import { CAN_GATE_IN_KERNEL } from '../helpers/settings.ts'

const CHILD = fileURLToPath(new URL('../helpers/children/few-descriptors.js', import.meta.url))
// Enough to load the library, whose modules Node.js opens many at a time.
const DESCRIPTORS = 144
const CLIENTS = 400
const FAR_TOO_MANY = 100_000

describe('Server: running out of descriptors loses no client', () => {
  const scope = useScope()

  before(function () {
    needs(this, 'sh')
    skipIf(this, process.platform === 'win32', 'needs a limit of descriptors')
  })

  for (const kind of ['tcp', 'unix'] as const) {
    describe(`${CLIENTS} clients of a process that may have ${DESCRIPTORS} descriptors, over ${kind}`, function () {
      this.timeout(60_000)

      describe('with the gate in the kernel', () => {
        before(function () {
          skipIf(this, !CAN_GATE_IN_KERNEL, 'needs the kernel gate')
        })

        it('the default limit is 90 % of the descriptors', async () => {
          const child = await startChild(scope, kind, 'default')
          expect(child.maxConnections).to.equal(Math.floor(DESCRIPTORS * 0.9))
          await child.end()
        })

        for (const [mode, maxConnections] of [
          ['default', undefined],
          ['default', FAR_TOO_MANY],
          ['all-but-three', undefined],
          ['all-but-three', FAR_TOO_MANY],
          ['accept', FAR_TOO_MANY],
          ['pool', FAR_TOO_MANY]
        ] as const) {
          it(`all are served: mode ${mode}, maxConnections ${maxConnections ?? 'by default'}`, async () => {
            const child = await startChild(scope, kind, mode, maxConnections)
            expect(await served(child, child.line('warned'))).to.deep.equal({ served: CLIENTS, unanswered: 0 })
            const { stderr, report } = await child.end()
            expect(report).to.include({ handled: CLIENTS, numConnections: 0 })
            // The run takes less than the minute in which it is said once.
            expect(stderr.split('\n').filter((line) => line.includes('IT_TCP_OUT_OF_DESCRIPTORS')).length, stderr).to.equal(1)
          })
        }

        it('it says once where and why, and serves on when descriptors are free again', async () => {
          const child = await startChild(scope, kind, 'none-left')
          // The first gets the last descriptor; when it has gone that is free, but the gate needs one for itself too.
          const first = await open(child.target)
          await child.line('warned')
          expect(await answerTo(first)).to.equal('served')
          const waiting = ask(child.target)
          child.send('release')
          expect(await waiting).to.equal('served')
          const outcomes = await Promise.all(Array.from({ length: 20 }, () => ask(child.target)))
          expect(outcomes).to.deep.equal(Array(20).fill('served'))
          const { stderr } = await child.end()
          expect(stderr).to.match(/Warning: The server on \S+ can't accept: the process has run out of descriptors; clients are waiting/)
        })

        it('what remains: a client is closed unseen if other code takes the last ones while the gate stands open', async () => {
          const child = await startChild(scope, kind, 'taken-while-open')
          expect(await ask(child.target)).to.equal('unanswered')
          child.send('release')
          await child.line('released')
          expect(await ask(child.target)).to.equal('served')
          await child.end()
        })
      })

      it('a plain net.Server drops most of them', async () => {
        const child = await startChild(scope, kind, 'net.Server')
        const outcome = await served(child, new Promise(() => {}))
        expect(outcome.served).to.be.below(DESCRIPTORS)
        expect(outcome.unanswered).to.equal(CLIENTS - outcome.served)
        await child.end()
      })
    })
  }
})

// ---------------------------------------------------------------------------------------------------------------------

interface Child {
  readonly target: Target
  readonly maxConnections: number
  send(line: string): void
  /** Waits for a line that it prints. */
  line(expected: string): Promise<void>
  /** Lets it end, and gives what it printed at last. */
  end(): Promise<{ stderr: string; report: unknown }>
}

/** Starts a server in a process whose limit of descriptors is low, the hard one too: Node.js raises the soft one to that. */
async function startChild(scope: Scope, kind: 'tcp' | 'unix', mode: string, maxConnections?: number): Promise<Child> {
  const where = kind === 'unix' ? join(scope.tempDir(), 's') : '0'
  const args = [process.execPath, CHILD, where, mode, String(maxConnections ?? 'default')]
  const child = spawn('sh', ['-c', `ulimit -n ${DESCRIPTORS} && exec "$@"`, 'sh', ...args], {
    stdio: 'pipe',
    env: { ...process.env, IT_TCP_GATE: 'kernel' }
  })
  const closed = once(child, 'close')
  scope.defer(async () => {
    child.kill('SIGKILL')
    await closed
  })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const lines = linesOf(child)
  const next = async (): Promise<string> => {
    const { value, done } = await lines.next()
    if (done === true) throw new Error(`It ended: ${stderr}`)
    return value
  }
  const { target, maxConnections: limit } = JSON.parse(await next()) as { target: Target; maxConnections: number }
  return {
    target,
    maxConnections: limit,
    send: (line) => void child.stdin.write(`${line}\n`),
    async line(expected) {
      expect(await next()).to.equal(expected)
    },
    async end() {
      child.stdin.end()
      let last = await next()
      // Nobody may have waited for this.
      if (last === 'warned') last = await next()
      const report: unknown = JSON.parse(last)
      await closed
      return { stderr, report }
    }
  }
}

function linesOf(child: ChildProcess): AsyncIterator<string> {
  const lines: Interface = createInterface({ input: child.stdout as NodeJS.ReadableStream })
  return lines[Symbol.asyncIterator]()
}

/** Connects all clients and lets them ask for a line only after `event`, or when one of them is closed. */
async function served({ target }: Child, event: Promise<void>): Promise<{ served: number; unanswered: number }> {
  const sockets = await Promise.all(Array.from({ length: CLIENTS }, () => open(target)))
  await Promise.race([event, ...sockets.map(ended)])
  const answers = await Promise.all(sockets.map(answerTo))
  return {
    served: answers.filter((answer) => answer === 'served').length,
    unanswered: answers.filter((answer) => answer === 'unanswered').length
  }
}

async function ended(socket: Socket): Promise<void> {
  if (!socket.closed) await new Promise((resolve) => socket.resume().once('close', resolve))
}

async function ask(target: Target): Promise<string> {
  return await answerTo(await open(target))
}

async function open(target: Target): Promise<Socket> {
  const socket = typeof target === 'string' ? connect(target) : connect(target, '127.0.0.1')
  socket.on('error', () => {})
  if (socket.connecting) await new Promise((resolve) => socket.once('connect', resolve).once('close', resolve))
  return socket
}

/** Asks for a line: 'served' if it comes whole, 'unanswered' if the connection ends without a byte. */
async function answerTo(socket: Socket): Promise<string> {
  let answer = ''
  socket.setEncoding('utf8').on('data', (text) => {
    answer += text
  })
  if (!socket.destroyed) socket.write('a line, please\n')
  await ended(socket)
  return answer === 'here is one\n' ? 'served' : answer === '' ? 'unanswered' : `broken off after ${answer}`
}
