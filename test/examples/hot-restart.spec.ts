import { once } from 'node:events'
import { existsSync, writeFileSync } from 'node:fs'
import { createConnection, type Socket } from 'node:net'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect } from 'chai'
import { kernelGateAvailable } from '../../src/system/descriptors.ts'
import { type Running, start } from '../helpers/command.ts'
import { exampleFile } from '../helpers/examples.ts'
import { skipIf } from '../helpers/programs.ts'
import { closeAtEnd, rawClient, type Target } from '../helpers/raw.ts'
import { Load } from '../helpers/restart-load.ts'
import { useScope } from '../helpers/scope.ts'
import { closed } from '../helpers/settings.ts'
import { until } from '../helpers/until.ts'

const CLIENTS = 20
const RESTARTS = 20
const ANSWER = /^(\d+) hello\n$/

describe('hot-restart', function () {
  this.timeout(120_000)
  const scope = useScope()

  before(function () {
    skipIf(this, process.platform === 'win32' || !kernelGateAvailable(), 'needs koffi')
  })

  for (const isTcp of [true, false]) {
    describe(`over ${isTcp ? 'TCP' : 'a unix path'}`, () => {
      const place = (): string => (isTcp ? '0' : join(scope.tempDir(), 's'))

      it(`${RESTARTS} restarts under load: no client is refused, reset or unanswered`, async () => {
        const server = await startServer(place())
        const seen = new Set<number>([await server.ask()])
        const load = new Load(server.target, CLIENTS, (answer) => {
          const pid = ANSWER.exec(answer)?.[1]
          seen.add(Number(pid))
          return pid !== undefined
        })
        for (let restart = 1; restart <= RESTARTS; restart++) {
          server.running.child.kill('SIGHUP')
          await until(() => seen.size === restart + 1, `a new process answers, the ${restart}th`)
        }
        const { clients, answered, refused, reset, unanswered } = await load.stop()
        expect({ refused, reset, unanswered }).to.deep.equal({ refused: 0, reset: 0, unanswered: 0 })
        expect([answered, clients > 10 * RESTARTS]).to.deep.equal([clients, true])
        expect(server.running.stderr).to.equal('')
      })

      it('whoever is connected is served by the old process until it leaves', async () => {
        const server = await startServer(place())
        const client = await rawClient(scope, server.target)
        const before_ = await ask(client)
        server.running.child.kill('SIGHUP')
        await until(async () => (await server.ask()) !== before_, 'a new process answers')
        expect(await ask(client)).to.equal(before_)
        client.end()
        await closed(client.resume())
        await until(() => !isAlive(before_), 'the old process has ended')
      })

      it('drains at SIGTERM, and leaves nothing behind', async () => {
        const server = await startServer(place())
        const client = await rawClient(scope, server.target)
        await ask(client)
        server.running.child.kill('SIGTERM')
        await until(async () => (await server.ask().catch(() => 0)) === 0, 'nobody is accepted any more')
        await ask(client)
        client.end()
        expect(await server.running.exit).to.equal(0)
        if (typeof server.target === 'string') expect(existsSync(server.target)).to.equal(false)
      })
    })
  }

  describe('a new process that does not get ready changes nothing', () => {
    for (const [what, code] of [
      ['crashes at its start', 'throw new Error("a mistake")'],
      ['ends at its start', 'process.exit(0)'],
      ['hangs in a loop', 'for (;;);'],
      ['waits for what never comes', 'setInterval(() => {}, 1_000); await new Promise(() => {})'],
      ['is late', 'await new Promise((resolve) => setTimeout(resolve, 6_000))']
    ] as const) {
      it(what, async () => {
        const plug = join(scope.tempDir(), 'plug.mjs')
        writeFileSync(plug, '')
        const server = await startServer('0', ['4000'], { NODE_OPTIONS: `--import ${pathToFileURL(plug)}` })
        const old = await server.ask()
        const others = new Set<number>()
        const load = new Load(server.target, 5, (answer) => {
          const pid = Number(ANSWER.exec(answer)?.[1])
          if (pid !== old) others.add(pid)
          return !Number.isNaN(pid)
        })
        writeFileSync(plug, code)
        server.running.child.kill('SIGHUP')
        await until(() => server.running.stderr.includes('The new process did not get ready'), 'it is told')
        expect(others.size).to.equal(0)
        // And the next good one takes over.
        writeFileSync(plug, '')
        server.running.child.kill('SIGHUP')
        await until(() => others.size === 1, 'a new process answers')
        const { refused, reset, unanswered } = await load.stop()
        expect({ refused, reset, unanswered }).to.deep.equal({ refused: 0, reset: 0, unanswered: 0 })
      })
    }
  })

  it('replaces a process that dies; who waits meanwhile is served by the next', async () => {
    const server = await startServer('0')
    const old = await server.ask()
    process.kill(old, 'SIGKILL')
    await until(async () => (await server.ask().catch(() => old)) !== old, 'a new process answers')
  })

  it('takes SIGHUP to the process that serves for one to its parent', async () => {
    const server = await startServer('0')
    const old = await server.ask()
    process.kill(old, 'SIGHUP')
    await until(async () => (await server.ask()) !== old, 'a new process answers')
  })

  interface Server {
    readonly running: Running
    readonly target: Target
    /** The process that answers a new client. */
    ask(): Promise<number>
  }

  async function startServer(place: string, args: readonly string[] = [], env: NodeJS.ProcessEnv = {}): Promise<Server> {
    const running = start(scope, process.execPath, [exampleFile('hot-restart'), place, ...args], { env: { ...process.env, ...env } })
    // It ends in order, with all that it has started, unless a test has ended it already.
    scope.defer(async () => {
      running.child.kill('SIGTERM')
      await running.exit
    })
    await until(() => running.stdout.includes('\n'), 'it listens')
    const [, where = '', port] = /^listening on (\S*?(?::(\d+))?)\n$/.exec(running.stdout) ?? []
    const target = port === undefined ? where : Number(port)
    return {
      running,
      target,
      async ask() {
        const socket = typeof target === 'number' ? createConnection({ port: target, host: '127.0.0.1' }) : createConnection(target)
        closeAtEnd(scope, socket)
        try {
          return await ask(socket)
        } finally {
          // It is not to keep the process alive that it has found.
          socket.destroy()
        }
      }
    }
  }
})

async function ask(socket: Socket): Promise<number> {
  socket.write('hello\n')
  const [answer] = await once(socket.resume(), 'data')
  expect(String(answer)).to.match(ANSWER)
  return Number.parseInt(String(answer), 10)
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
