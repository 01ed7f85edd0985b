import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { expect } from 'chai'
import { startDaemon } from '../helpers/daemon.ts'
import { exampleFile, linesOf } from '../helpers/examples.ts'
import { needs } from '../helpers/programs.ts'
import { LINE_4 } from '../helpers/proxy-bytes.ts'
import { closedPort, rawClient, readToEnd } from '../helpers/raw.ts'
import { Load } from '../helpers/restart-load.ts'
import { useScope } from '../helpers/scope.ts'
import { until } from '../helpers/until.ts'

const CONFIGURATION = join('examples', 'behind-haproxy', 'haproxy.cfg')
const ANSWER = /^(\d+) 127\.0\.0\.1 hello\n$/

describe('behind-haproxy', function () {
  this.timeout(90_000)
  const scope = useScope()

  before(function () {
    needs(this, 'haproxy')
  })

  it('a rolling restart of both servers, under load: no error at a client', async () => {
    const { front, servers } = await startAll()
    const seen = new Set<string>()
    const load = new Load(front, 10, (answer) => {
      const pid = ANSWER.exec(answer)?.[1]
      if (pid !== undefined) seen.add(pid)
      return pid !== undefined
    })
    await until(() => seen.size === 2, 'both serve')
    for (const [index, server] of servers.entries()) {
      server.child.kill('SIGTERM')
      expect((await server.exit)[0]).to.equal(0)
      await server.start()
      await until(() => seen.has(String(server.child.pid)), `the new one serves, number ${index + 1}`)
    }
    const { clients, answered, refused, reset, unanswered } = await load.stop()
    expect({ refused, reset, unanswered }).to.deep.equal({ refused: 0, reset: 0, unanswered: 0 })
    expect([answered, seen.size]).to.deep.equal([clients, 4])
  })

  it('a server that is full says drain, and clients wait where all are full', async () => {
    const { front, servers } = await startAll('1')
    // A check of HAProxy's may have the one slot for a moment.
    for (const server of servers) await until(async () => (await server.ask('serve')) === 'ready up 100%\n', 'it has room')
    const held = await Promise.all(servers.map((server) => server.hold()))
    for (const server of servers) {
      expect([await server.ask('serve'), await server.ask('queue')]).to.deep.equal(['drain\n', 'ready up 1%\n'])
    }
    const waiting = await rawClient(scope, front)
    waiting.end('hello\n')
    const answer = readToEnd(waiting)
    for (const client of held) client.end()
    expect(String(await answer)).to.match(ANSWER)
  })

  interface Backend {
    readonly child: ChildProcess
    readonly exit: Promise<readonly unknown[]>
    start(): Promise<void>
    /** What its agent answers. */
    ask(question: string): Promise<string>
    /** Takes a slot, past HAProxy. */
    hold(): Promise<Socket>
  }

  async function startAll(...limits: readonly string[]): Promise<{ readonly front: number; readonly servers: readonly Backend[] }> {
    const [front, one, oneAgent, two, twoAgent] = (await Promise.all(Array.from({ length: 5 }, () => closedPort()))) as [
      number,
      ...number[]
    ]
    const servers = [backend(`${one}`, `${oneAgent}`, limits), backend(`${two}`, `${twoAgent}`, limits)]
    for (const server of servers) await server.start()
    const ports = { FRONT: front, ONE: one, ONE_AGENT: oneAgent, TWO: two, TWO_AGENT: twoAgent }
    const env = { ...process.env, ...Object.fromEntries(Object.entries(ports).map(([name, port]) => [name, String(port)])) }
    await startDaemon(scope, 'haproxy', ['-db', '-f', CONFIGURATION], front, { env })
    return { front, servers }
  }

  function backend(port: string, agentPort: string, limits: readonly string[]): Backend {
    let child: ChildProcess
    let exit: Promise<readonly unknown[]>
    return {
      get child() {
        return child
      },
      get exit() {
        return exit
      },
      async start() {
        const started = spawn(process.execPath, [exampleFile('behind-haproxy/server'), port, agentPort, ...limits], {
          stdio: ['ignore', 'pipe', 'inherit']
        })
        child = started
        exit = once(started, 'close')
        const ended = exit
        scope.defer(async () => {
          started.kill('SIGKILL')
          await ended
        })
        expect(await linesOf(started.stdout)()).to.match(/^Listening on /)
      },
      async ask(question) {
        const socket = await rawClient(scope, Number(agentPort))
        socket.end(`${question}\n`)
        return String(await readToEnd(socket))
      },
      async hold() {
        const socket = await rawClient(scope, Number(port))
        socket.write(`${LINE_4}hello\n`)
        await once(socket.resume(), 'data')
        return socket
      }
    }
  }
})
