import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { expect } from 'chai'
import { type Listening, MAIN, runCommand, start, startListening, untilListening } from '../helpers/command.ts'
import { needs, run, skipIf } from '../helpers/programs.ts'
import { rawClient, readToEnd } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { closed } from '../helpers/settings.ts'
import { turns, until } from '../helpers/until.ts'

describe('it-tcp listen', function () {
  this.timeout(20_000)
  const scope = useScope()

  for (const kind of ['TCP', 'a unix socket'] as const) {
    it(`takes one client over ${kind}, sends it the input, and prints what it sends`, async () => {
      const running = await startListening(scope, ['listen', kind === 'TCP' ? '127.0.0.1:0' : join(scope.tempDir(), 's')])
      const client = await rawClient(scope, running.target)
      client.end('from the client')
      await until(() => running.stdout === 'from the client', 'it is printed')
      expect(await rejection(rawClient(scope, running.target)))
        .to.have.property('code')
        .that.is.oneOf(['ECONNREFUSED', 'ENOENT'])
      running.child.stdin?.end('from the listener')
      expect(`${await readToEnd(client)}`).to.equal('from the listener')
      expect(await running.exit).to.equal(0)
    })
  }

  it('talks with it-tcp connect', async () => {
    const running = await startListening(scope, ['listen', '127.0.0.1:0'])
    running.child.stdin?.end('from the listener')
    const { code, stdout } = await runCommand(['connect', `127.0.0.1:${running.target}`], { input: 'from the client' })
    expect([code, stdout]).to.deep.equal([0, 'from the listener'])
    expect(await running.exit).to.equal(0)
    expect(running.stdout).to.equal('from the client')
  })

  it('ends with 3 when its client breaks off', async () => {
    const running = await startListening(scope, ['listen', '127.0.0.1:0'])
    const client = await rawClient(scope, running.target)
    client.write('half')
    await until(() => running.stdout === 'half', 'it is printed')
    client.resetAndDestroy()
    expect(await running.exit).to.equal(3)
    expect(running.stderr).to.match(/\nit-tcp: the connection with 127\.0\.0\.1:\d+ broke: connection reset by peer\n$/)
  })

  for (const [signal, code] of [
    ['SIGHUP', 129],
    ['SIGTERM', 143]
  ] as const) {
    it(`removes its socket file when it is ended by ${signal} before a client came`, async () => {
      const path = join(scope.tempDir(), 's')
      const running = await startListening(scope, ['listen', path])
      running.child.kill(signal)
      expect(await running.exit).to.equal(code)
      expect(existsSync(path)).to.equal(false)
    })
  }

  it('--allow turns others away and goes on waiting', async () => {
    const running = await startListening(scope, ['listen', '127.0.0.1:0', '--allow', '127.0.0.2', '--verbose'])
    const other = createConnection(running.target as number, '127.0.0.1')
    other.on('error', () => {})
    await closed(other.resume())
    const client = createConnection({ port: running.target as number, host: '127.0.0.1', localAddress: '127.0.0.2' })
    client.end('hello')
    running.child.stdin?.end()
    expect(await running.exit).to.equal(0)
    expect(running.stdout).to.equal('hello')
    expect(running.stderr).to.match(/127\.0\.0\.1:\d+: turned away: its address is not allowed\n/)
    await closed(client.resume())
  })

  it('--mode gives the file of its unix socket these permissions', async () => {
    const running = await startListening(scope, ['listen', join(scope.tempDir(), 's'), '--mode', '600'])
    expect(statSync(running.target as string).mode & 0o777).to.equal(0o600)
  })

  it('cuts its client off when it is ended by a signal', async () => {
    const running = await startListening(scope, ['listen', '127.0.0.1:0'])
    const client = await rawClient(scope, running.target)
    running.child.stdin?.write('hello')
    await once(client.resume(), 'data')
    const failure = once(client, 'error')
    running.child.kill('SIGINT')
    expect((await failure)[0]).to.have.property('code', 'ECONNRESET')
    expect(await running.exit).to.equal(130)
  })

  it('is ended by a signal also while nobody reads what it prints', async () => {
    const running = await startListening(scope, ['listen', '127.0.0.1:0'])
    running.child.stdout?.pause()
    const client = await rawClient(scope, running.target)
    client.on('error', () => {})
    for (let count = 0; count < 256; count++) client.write(Buffer.alloc(65_536))
    let last = -1
    await until(async () => {
      if (client.bytesWritten - client.writableLength === last && last > 0) return true
      last = client.bytesWritten - client.writableLength
      await turns(50)
      return false
    }, 'it takes no more')
    running.child.kill('SIGTERM')
    await once(running.child, 'exit')
    running.child.stdout?.resume()
    expect(await running.exit).to.equal(143)
  })

  describe('--exec', () => {
    before(function () {
      skipIf(this, process.platform === 'win32', 'needs sh')
    })

    it('gives each client a process of its own, and its end as the end of input', async () => {
      const running = await startExec('tr a-z A-Z')
      const clients = await Promise.all(
        ['one', 'two', 'three'].map(async (text) => ({ text, client: await rawClient(scope, running.target) }))
      )
      for (const { text, client } of clients.reverse()) {
        client.end(text)
        expect(`${await readToEnd(client)}`).to.equal(text.toUpperCase())
      }
    })

    it('tells the process who its client is, and logs how it ended', async () => {
      const running = await startExec('printf %s "$IT_TCP_CLIENT"; exit 7', '--log', 'json')
      const client = await rawClient(scope, running.target)
      const name = `127.0.0.1:${client.localPort}`
      expect(`${await readToEnd(client)}`).to.equal(name)
      client.end()
      await until(() => running.stdout.endsWith('\n'), 'the connection is logged')
      const record = JSON.parse(running.stdout) as object
      expect(record).to.deep.include({
        client: name,
        upstream: 'printf %s "$IT_TCP_CLIENT"; exit 7',
        exit: 7,
        error: null,
        sent: name.length
      })
    })

    it('runs as many at once as --max-connections allows; further clients wait', async () => {
      const running = await startExec('cat', '--max-connections', '2')
      const first = await rawClient(scope, running.target)
      const second = await rawClient(scope, running.target)
      for (const client of [first, second]) {
        client.write('hello')
        await once(client.resume(), 'data')
      }
      const third = await rawClient(scope, running.target)
      third.end('I wait')
      let answer = ''
      third.resume().on('data', (bytes) => {
        answer += bytes
      })
      await turns(200)
      expect(answer).to.equal('')
      first.end()
      await until(() => answer === 'I wait', 'the third is served')
    })

    it('resets the client of a process that is killed: half an answer is no whole one', async () => {
      const running = await startExec('printf half; read line; kill -9 $$')
      const client = await rawClient(scope, running.target)
      expect(`${(await once(client.resume(), 'data'))[0]}`).to.equal('half')
      const failure = once(client, 'error')
      client.write('\n')
      expect((await failure)[0]).to.have.property('code', 'ECONNRESET')
    })

    it('ends the process, and what it has started, when its client breaks off', async () => {
      const directory = scope.tempDir()
      const running = await startExec(`sleep 1000 & echo $! >'${directory}/pid'; echo ready; wait`, '--log', 'json')
      const client = await rawClient(scope, running.target)
      await once(client.resume(), 'data')
      const pid = Number(readFileSync(join(directory, 'pid'), 'utf8'))
      client.resetAndDestroy()
      await until(() => !isAlive(pid), 'the process is gone')
      await until(() => running.stdout.endsWith('\n'), 'the connection is logged')
      expect(JSON.parse(running.stdout)).to.have.property('error').that.is.an('object')
    })

    it('serves a client whose process reads nothing of what it sends', async () => {
      const running = await startExec('echo hello')
      const client = await rawClient(scope, running.target)
      client.end(Buffer.alloc(3_000_000))
      expect(`${await readToEnd(client)}`).to.equal('hello\n')
    })

    it('lets clients finish after a first signal', async () => {
      const running = await startExec('cat')
      const client = await rawClient(scope, running.target)
      client.write('one')
      await once(client.resume(), 'data')
      running.child.kill('SIGINT')
      await until(() => running.stderr.includes('stopping: 1 open'), 'it is told')
      client.end('two')
      expect(`${await readToEnd(client)}`).to.equal('two')
      expect(await running.exit).to.equal(0)
    })

    it('leaves no process behind after a second signal', async () => {
      const directory = scope.tempDir()
      const running = await startExec(`echo $$ >'${directory}/pid'; echo ready; exec sleep 1000`)
      const client = await rawClient(scope, running.target)
      await once(client.resume(), 'data')
      const pid = Number(readFileSync(join(directory, 'pid'), 'utf8'))
      running.child.kill('SIGTERM')
      await until(() => running.stderr.includes('stopping: 1 open'), 'it is told')
      running.child.kill('SIGTERM')
      expect(await running.exit).to.equal(143)
      expect(isAlive(pid)).to.equal(false)
    })

    it('kills what ignores SIGTERM 5 s later, though its shell has ended, and keeps the place of the client until then', async () => {
      const directory = scope.tempDir()
      const stubborn = `sh -c 'trap "" TERM; echo $$ >"${directory}/pid"; echo ready; exec sleep 1000' & cat >/dev/null`
      const running = await startExec(stubborn, '--max-connections', '1', '--log', 'json')
      const client = await rawClient(scope, running.target)
      await once(client.resume(), 'data')
      const pid = Number(readFileSync(join(directory, 'pid'), 'utf8'))
      const start = performance.now()
      client.resetAndDestroy()
      const next = await rawClient(scope, running.target)
      const served = once(next.resume(), 'data').then(() => isAlive(pid))
      await until(() => !isAlive(pid), 'it is killed')
      expect(performance.now() - start).to.be.greaterThan(4_900)
      expect(await served).to.equal(false)
      const second = Number(readFileSync(join(directory, 'pid'), 'utf8'))
      process.kill(second, 'SIGKILL')
    })

    it('ends what a command has left in the background when its client is served', async () => {
      const directory = scope.tempDir()
      const running = await startExec(`sleep 1000 >/dev/null & echo $! >'${directory}/pid'; echo done`, '--log', 'json')
      const client = await rawClient(scope, running.target)
      client.end()
      expect(`${await readToEnd(client)}`).to.equal('done\n')
      await until(() => running.stdout.endsWith('\n'), 'the connection is logged')
      expect(JSON.parse(running.stdout)).to.deep.include({ exit: 0, error: null })
      expect(isAlive(Number(readFileSync(join(directory, 'pid'), 'utf8')))).to.equal(false)
    })

    it('is ended by a signal also while nobody reads its log', async () => {
      const running = await startExec(`: '${'x'.repeat(100_000)}'; cat`, '--log', 'text')
      running.child.stdout?.pause()
      for (let count = 0; count < 5; count++) {
        const client = await rawClient(scope, running.target)
        client.end()
        await readToEnd(client)
      }
      running.child.kill('SIGTERM')
      await once(running.child, 'exit')
      running.child.stdout?.resume()
      expect(await running.exit).to.equal(0)
      expect(running.stderr).to.contain('it-tcp: the log is not being read: dropping the rest\n')
    })

    describe('as the first process of a container', () => {
      before(async function () {
        needs(this, 'unshare')
        skipIf(this, (await run('unshare', ['--pid', '--fork', 'true'])).code !== 0, 'needs the right to make a namespace')
      })

      it('leaves no process behind that has lost its parent, or says that it does', async () => {
        const running = await startFirst(`sleep 1000 >/dev/null & cat`)
        for (let count = 0; count < 3; count++) {
          const client = await rawClient(scope, running.target)
          client.end('hello')
          expect(`${await readToEnd(client)}`).to.equal('hello')
        }
        const first = firstProcess(running)
        if (typeof (process as { execve?: unknown }).execve === 'function')
          await until(() => descendants(first).length === 1, 'it is alone')
        else expect(running.stderr).to.contain('it-tcp: as PID 1 this process cannot reap orphans')
      })

      for (const [signal, code] of [
        ['SIGHUP', 129],
        ['SIGINT', 130],
        ['SIGTERM', 143]
      ] as const) {
        it(`shuts down at a first ${signal}, and ends with ${code} at a second one`, async () => {
          const running = await startFirst('cat')
          const client = await rawClient(scope, running.target)
          client.write('hello')
          await once(client.resume(), 'data')
          const failure = once(client, 'error')
          process.kill(firstProcess(running), signal)
          await until(() => running.stderr.includes('stopping: 1 open'), 'it is told')
          process.kill(firstProcess(running), signal)
          await failure
          expect(await running.exit).to.equal(code)
        })
      }

      async function startFirst(command: string): Promise<Listening> {
        const args = ['--pid', '--fork', '--kill-child', process.execPath, MAIN, 'listen', '127.0.0.1:0', '--exec', command]
        return await untilListening(start(scope, 'unshare', args))
      }

      function firstProcess({ child }: Listening): number {
        return childrenOf(child.pid as number)[0] as number
      }

      function descendants(pid: number): number[] {
        return childrenOf(pid).flatMap((child) => [child, ...descendants(child)])
      }

      // Those that have ended too, until they are reaped.
      function childrenOf(pid: number): number[] {
        try {
          return readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
            readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
          )
        } catch {
          // It has just ended.
          return []
        }
      }
    })

    async function startExec(command: string, ...options: string[]): Promise<Listening> {
      return await startListening(scope, ['listen', '127.0.0.1:0', '--exec', command, ...options])
    }
  })
})

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    // One that has ended counts until it is waited for, which in a container may be never.
    return process.platform !== 'linux' || !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'))
  } catch {
    return false
  }
}
