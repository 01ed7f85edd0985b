import { once } from 'node:events'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { createConnection, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { expect } from 'chai'
import { type Listening, MAIN, runCommand, start, startListening, written } from '../helpers/command.ts'
import { needs, run, skipIf } from '../helpers/programs.ts'
import { closeAtEnd, closedPort, type RawServer, rawClient, rawServer, readToEnd } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'
import { CAN_GATE_IN_KERNEL, closed } from '../helpers/settings.ts'
import { TOO_MUCH } from '../helpers/transports.ts'
import { turns, until } from '../helpers/until.ts'

describe('it-tcp forward', function () {
  this.timeout(20_000)
  const scope = useScope()

  for (const [from, to] of [
    ['TCP', 'TCP'],
    ['TCP', 'a unix socket'],
    ['a unix socket', 'TCP'],
    ['a unix socket', 'a unix socket']
  ] as const) {
    it(`carries half-closes in both directions, from ${from} to ${to}, whoever ends first`, async () => {
      const upstream = await startUpstream(to === 'TCP')
      const { target } = await startForward(upstream, [], from === 'TCP')
      const [client, server] = await pair(target, upstream)
      client.end('a question')
      expect(`${await readToEnd(server)}`).to.equal('a question')
      server.end('an answer')
      expect(`${await readToEnd(client)}`).to.equal('an answer')

      const [other, otherServer] = await pair(target, upstream)
      otherServer.end('a greeting')
      expect(`${await readToEnd(other)}`).to.equal('a greeting')
      other.end('a farewell')
      expect(`${await readToEnd(otherServer)}`).to.equal('a farewell')
    })
  }

  it("carries the client's reset to the target", async () => {
    const upstream = await startUpstream()
    const { target } = await startForward(upstream)
    const [client, server] = await pair(target, upstream)
    client.write('half')
    await once(server.resume(), 'data')
    const failure = once(server, 'error')
    client.resetAndDestroy()
    expect((await failure)[0]).to.have.property('code', 'ECONNRESET')
  })

  it("carries the target's reset to the client, behind what came before it", async () => {
    const upstream = await startUpstream()
    const { target } = await startForward(upstream)
    const [client, server] = await pair(target, upstream)
    const failure = once(client, 'error')
    server.write('half')
    expect(`${(await once(client.resume(), 'data'))[0]}`).to.equal('half')
    server.resetAndDestroy()
    expect((await failure)[0]).to.have.property('code', 'ECONNRESET')
  })

  it("carries the target's reset to a client that has already been told the end of the answer", async () => {
    const upstream = await startUpstream()
    const running = await startForward(upstream, ['--log', 'json'])
    const [client, server] = await pair(running.target, upstream)
    server.end('an answer')
    expect(`${await readToEnd(client)}`).to.equal('an answer')
    const failure = once(client, 'error')
    server.resetAndDestroy()
    // What meets the reset is a write.
    const writing = setInterval(() => client.write('more'), 5)
    scope.defer(() => clearInterval(writing))
    expect((await failure)[0])
      .to.have.property('code')
      .that.is.oneOf(['ECONNRESET', 'EPIPE'])
    clearInterval(writing)
    await until(() => running.stdout.includes('\n'), 'the connection is logged')
    expect(JSON.parse(running.stdout)).to.have.nested.property('error.code', 'ERR_CONNECTION_RESET')
  })

  it('holds back a sender whose receiver does not read', async () => {
    const upstream = await startUpstream()
    const { target } = await startForward(upstream)
    const [client, server] = await pair(target, upstream)
    let taken = false
    client.write(TOO_MUCH, () => {
      taken = true
    })
    // What is on its way fills the buffers of two connections, and then nothing moves.
    const { _handle: handle } = client as unknown as { _handle: { writeQueueSize: number } }
    let last = -1
    await until(async () => {
      const before = last
      await setTimeout(50)
      last = handle.writeQueueSize
      return last === before
    }, 'nothing moves')
    expect(taken).to.equal(false)
    expect(last).to.be.greaterThan(TOO_MUCH.length / 2)
    client.end()
    expect((await readToEnd(server)).length).to.equal(TOO_MUCH.length)
  })

  it('lets clients beyond the limit wait, and serves them when others leave', async () => {
    const upstream = await startUpstream()
    const { target } = await startForward(upstream, ['--max-connections', '1'])
    const [first, firstServer] = await pair(target, upstream)
    const second = await rawClient(scope, target)
    second.write('I wait')
    let arrived = false
    const secondServer = upstream.accept().then((socket) => {
      arrived = true
      return socket
    })
    await turns(200)
    expect(arrived).to.equal(false)
    first.end()
    firstServer.end()
    second.end()
    expect(`${await readToEnd(await secondServer)}`).to.equal('I wait')
  })

  it('--drop resets clients beyond the limit at once, until one of the others leaves, and says of none that it waits', async () => {
    const upstream = await startUpstream()
    const running = await startForward(upstream, ['--max-connections', '1', '--drop', '--log', 'json'])
    const [first, server] = await pair(running.target, upstream)
    // All at once, when it goes on.
    running.child.kill('SIGSTOP')
    const dropped = Array.from({ length: 20 }, () => turnedAway(running.target))
    await turns(50)
    running.child.kill('SIGCONT')
    await Promise.all(dropped)
    await until(() => linesOf(running.stdout) === 20, 'each that was dropped is logged')
    for (const { client, upstream: reached, error } of records(running)) {
      expect(client).to.match(/^127\.0\.0\.1:\d+$/)
      expect([reached, error]).to.deep.equal([null, { code: 'DROPPED', message: 'dropped at the limit of 1 connection' }])
    }
    first.end()
    server.end()
    await closed(first.resume())
    // The slot is free a moment later than the client sees the end.
    let served: Socket | undefined
    void upstream.accept().then((socket) => {
      served = socket
    })
    await until(async () => {
      if (served !== undefined) return true
      const client = await rawClient(scope, running.target)
      client.resume().on('end', () => client.end())
      await Promise.race([closed(client), until(() => served !== undefined)])
      return served !== undefined
    }, 'a client is served')
    running.child.kill('SIGTERM')
    await until(() => running.stderr.includes('stopping'), 'the signal has arrived')
    served?.end()
    expect(await running.exit).to.equal(0)
    expect(running.stderr).to.not.contain('wait')
    expect(running.stderr.match(/dropping further clients/g)?.length).to.equal(1)
    expect(running.stderr).to.match(/stopped: 1 connection finished; \d+ clients dropped\n$/)
  })

  it('--allow serves only clients from the ranges given, and resets and counts the others', async () => {
    const upstream = await startUpstream()
    const running = await startForward(upstream, ['--allow', '10.0.0.0/8', '--allow', '127.0.0.2', '--log', 'json', '--verbose'])
    await turnedAway(running.target)
    await until(() => linesOf(running.stdout) === 1, 'it is logged')
    const [record] = records(running)
    expect(record?.client).to.match(/^127\.0\.0\.1:\d+$/)
    expect(record).to.deep.include({ upstream: null, error: { code: 'NOT_ALLOWED', message: 'its address is not allowed' } })
    await until(() => running.stderr.includes(`${record?.client}: turned away: its address is not allowed\n`), 'it is told')
    const client = await clientFrom('127.0.0.2', running.target)
    client.end('hello')
    const server = await upstream.accept()
    expect(`${await readToEnd(server)}`).to.equal('hello')
    server.end()
    await closed(client.resume())
    running.child.kill('SIGTERM')
    expect(await running.exit).to.equal(0)
    expect(running.stderr).to.match(/it-tcp: stopped: .*1 client refused\n$/)
  })

  it('--max-connections-per-address resets what goes beyond, and loses nobody else', async () => {
    const upstream = await startUpstream()
    const running = await startForward(upstream, ['--max-connections-per-address', '2', '--log', 'json'])
    const held = [await pair(running.target, upstream), await pair(running.target, upstream)]
    for (let round = 0; round < 3; round++) await turnedAway(running.target)
    await until(() => linesOf(running.stdout) === 3, 'they are logged')
    expect(records(running)[2]).to.deep.include({
      error: { code: 'TOO_MANY_OF_ADDRESS', message: 'already serving 2 connections from 127.0.0.1' }
    })
    const other = await clientFrom('127.0.0.2', running.target)
    other.end('hello')
    expect(`${await readToEnd(await upstream.accept())}`).to.equal('hello')
    for (const [client, server] of held) {
      client.end('still')
      expect(`${await readToEnd(server)}`).to.equal('still')
      server.end()
      await closed(client.resume())
    }
    await until(() => linesOf(running.stdout) === 5, 'they have left')
    await pair(running.target, upstream)
  })

  it('tries the next target when one cannot be reached, for each client anew, and says it once', async () => {
    const [first, last] = await Promise.all([closedPort(), closedPort()])
    const second = await startUpstream()
    const targets = [first, second.target, last].map(written)
    const running = await startListening(scope, ['forward', '127.0.0.1:0', ...targets, '--log', 'json'])
    for (let round = 1; round <= 3; round++) {
      const [client, server] = await pair(running.target, second)
      client.end('hello')
      server.end()
      expect(`${await readToEnd(server)}`).to.equal('hello')
      await until(() => linesOf(running.stdout) === round, 'it is logged')
      expect(records(running).at(-1)).to.deep.include({ upstream: written(second.target), error: null })
    }
    const down = `it-tcp: cannot connect to 127.0.0.1:${first}: connection refused; its clients go to the next target\n`
    expect(running.stderr.split(down).length).to.equal(2)
    const upstream = await startUpstreamOn(first)
    await pair(running.target, upstream)
    await until(() => running.stderr.includes(`it-tcp: 127.0.0.1:${first} can be reached again\n`), 'it is told')
  })

  it('resets a client none of whose targets can be reached, and says why of each', async () => {
    const ports = await Promise.all([closedPort(), closedPort()])
    const running = await startListening(scope, ['forward', '127.0.0.1:0', ...ports.map(written), '--log', 'json'])
    await turnedAway(running.target)
    await until(() => linesOf(running.stdout) === 1, 'it is logged')
    const reasons = ports.map((port) => `cannot connect to 127.0.0.1:${port}: connection refused`).join('; ')
    expect(records(running)[0]).to.deep.include({
      upstream: null,
      error: { code: 'ERR_CONNECT', message: `no target can be reached: ${reasons}` }
    })
  })

  it('--source is the address that the target sees', async function () {
    skipIf(this, process.platform !== 'linux', 'needs more than one address of this machine')
    const upstream = await startUpstream()
    const { target } = await startForward(upstream, ['--source', '127.0.0.9'])
    const [, server] = await pair(target, upstream)
    expect(server.remoteAddress).to.equal('127.0.0.9')
  })

  it('--mode gives the file of its unix socket these permissions', async () => {
    const upstream = await startUpstream()
    const { target } = await startForward(upstream, ['--mode', '640'], false)
    expect(statSync(target as string).mode & 0o777).to.equal(0o640)
  })

  it('fd:3 listens on a socket that it has inherited', async function () {
    skipIf(this, process.platform === 'win32', 'needs descriptors that are inherited')
    const upstream = await startUpstream()
    const inherited = await rawServer(scope)
    const { fd } = (inherited.server as unknown as { _handle: { fd: number } })._handle
    const args = ['forward', 'fd:3', written(upstream.target)]
    const running = await startListening(scope, args, { stdio: ['pipe', 'pipe', 'pipe', fd] })
    expect(running.target).to.equal(inherited.target)
    // From now on only the command has it.
    await new Promise((resolve) => inherited.server.close(resolve))
    const [client, server] = await pair(inherited.target, upstream)
    client.end('hello')
    expect(`${await readToEnd(server)}`).to.equal('hello')
  })

  it('fd:3 is refused for a unix socket with options that would turn everybody away', async function () {
    skipIf(this, process.platform === 'win32', 'needs descriptors that are inherited')
    const inherited = await rawServer(scope, join(scope.tempDir(), 's'))
    const { fd } = (inherited.server as unknown as { _handle: { fd: number } })._handle
    const running = start(scope, process.execPath, [MAIN, 'forward', 'fd:3', '1', '--allow', '::1'], {
      stdio: ['pipe', 'pipe', 'pipe', fd]
    })
    expect([await running.exit, running.stderr]).to.deep.equal([
      2,
      'it-tcp: --allow is only for TCP: clients of a Unix socket have no address\n'
    ])
  })

  it('--verbose tells who comes, what is reached, and how it ended', async () => {
    const upstream = await startUpstream()
    const running = await startForward(upstream, ['--verbose'])
    const [client, server] = await pair(running.target, upstream)
    const name = `127.0.0.1:${client.localPort}`
    client.end('question')
    server.end('an answer')
    await Promise.all([readToEnd(client), readToEnd(server)])
    const end = new RegExp(`^it-tcp: ${name} -> ${written(upstream.target)}: 8 B received, 9 B sent, \\d+ ms$`, 'm')
    await until(() => end.test(running.stderr), 'its end is told')
    expect(running.stderr).to.contain(`it-tcp: ${name}: connected\nit-tcp: ${name}: connected to ${written(upstream.target)}\n`)
    expect(running.stdout).to.equal('')
  })

  it('--idle-timeout resets a client that says nothing, and the connection to the target', async () => {
    const upstream = await startUpstream()
    const running = await startForward(upstream, ['--idle-timeout', '50ms', '--log', 'json'])
    const [client, server] = await pair(running.target, upstream)
    const failures = Promise.all([once(client, 'error'), once(server, 'error')])
    client.resume()
    server.resume()
    for (const [error] of await failures) expect(error).to.have.property('code', 'ECONNRESET')
    await until(() => running.stdout.includes('\n'), 'the connection is logged')
    expect(JSON.parse(running.stdout)).to.have.nested.property('error.code', 'ERR_IDLE_TIMEOUT')
  })

  it('resets a client whose target cannot be reached, says so, and goes on', async () => {
    const port = await closedPort()
    const running = await startListening(scope, ['forward', '127.0.0.1:0', `127.0.0.1:${port}`])
    const client = createConnection(running.target as number, '127.0.0.1')
    expect((await once(client, 'error'))[0]).to.have.property('code', 'ECONNRESET')
    const reason = `cannot connect to 127.0.0.1:${port}: connection refused\n`
    await until(() => running.stderr.includes(reason), 'the failure is told')
    expect(running.stderr).to.match(/^it-tcp: 127\.0\.0\.1:\d+: cannot connect/m)

    const upstream = await startUpstreamOn(port)
    const [other, server] = await pair(running.target, upstream)
    other.end('hello')
    expect(`${await readToEnd(server)}`).to.equal('hello')
  })

  it('--log json writes an object for each connection', async () => {
    const upstream = await startUpstream()
    const running = await startForward(upstream, ['--log', 'json'])
    const before = Date.now()
    const [client, server] = await pair(running.target, upstream)
    const { localPort } = client
    client.end('question')
    await readToEnd(server)
    server.end('an answer')
    await readToEnd(client)
    await until(() => running.stdout.endsWith('\n'), 'the connection is logged')
    const { time, duration, ...rest } = JSON.parse(running.stdout) as { time: string; duration: number; [name: string]: unknown }
    expect(rest).to.deep.equal({
      client: `127.0.0.1:${localPort}`,
      upstream: written(upstream.target),
      received: 8,
      sent: 9,
      error: null
    })
    expect(Date.parse(time)).to.be.within(before, Date.now())
    expect(duration).to.be.within(0, Date.now() - before + 1)
  })

  it('--log text writes a line for each connection', async () => {
    const upstream = await startUpstream()
    const running = await startForward(upstream, ['--log', 'text'])
    const [client, server] = await pair(running.target, upstream)
    client.end('question')
    server.end('an answer')
    await Promise.all([readToEnd(client), readToEnd(server)])
    await until(() => running.stdout.endsWith('\n'), 'the connection is logged')
    expect(running.stdout).to.match(/^\S+Z 127\.0\.0\.1:\d+ -> 127\.0\.0\.1:\d+: 8 B received, 9 B sent, \d+ ms\n$/)
  })

  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    it(`stops accepting at a first ${signal}, and ends with 0 when the open connections have ended`, async () => {
      const upstream = await startUpstream()
      const path = join(scope.tempDir(), 's')
      const running = await startListening(scope, ['forward', path, written(upstream.target)])
      const [client, server] = await pair(path, upstream)
      running.child.kill(signal)
      await until(() => running.stderr.includes('stopping: 1 open, 30s to finish; a second signal cuts them off\n'), 'it is told')
      await until(() => !existsSync(path), 'nobody listens')
      client.end('still')
      expect(`${await readToEnd(server)}`).to.equal('still')
      server.end('there')
      expect(`${await readToEnd(client)}`).to.equal('there')
      expect(await running.exit).to.equal(0)
      expect(running.stderr).to.match(/\nit-tcp: stopped: 1 connection finished\n$/)
    })
  }

  for (const [signal, code] of [
    ['SIGHUP', 129],
    ['SIGINT', 130],
    ['SIGTERM', 143]
  ] as const) {
    it(`cuts off open connections at a second ${signal}, and ends with ${code}`, async () => {
      const upstream = await startUpstream()
      const running = await startForward(upstream)
      const [client] = await pair(running.target, upstream)
      const failure = once(client.resume(), 'error')
      running.child.kill(signal)
      await until(() => running.stderr.includes('stopping'), 'the first signal has arrived')
      running.child.kill(signal)
      expect((await failure)[0]).to.have.property('code', 'ECONNRESET')
      expect(await running.exit).to.equal(code)
      expect(running.stderr).to.match(/\nit-tcp: stopped: 1 connection cut off, 0 finished\n$/)
    })
  }

  it('--grace bounds the time that open connections have, and the last line tells how many were cut off', async () => {
    const upstream = await startUpstream()
    const running = await startForward(upstream, ['--grace', '300ms', '--log', 'json'])
    const clients = [await pair(running.target, upstream), await pair(running.target, upstream), await pair(running.target, upstream)]
    const failures = clients.slice(1).map(([client]) => once(client.resume(), 'error'))
    running.child.kill('SIGTERM')
    await until(() => running.stderr.includes('stopping: 3 open'), 'the signal has arrived')
    for (const socket of clients[0] as Socket[]) socket.end()
    for (const [error] of await Promise.all(failures)) expect(error).to.have.property('code', 'ECONNRESET')
    expect(await running.exit).to.equal(0)
    expect(records(running).map(({ error }) => error?.message)).to.have.members([
      undefined,
      'cut off by the shutdown',
      'cut off by the shutdown'
    ])
    expect(running.stderr).to.match(/\nit-tcp: stopped: 2 connections cut off, 1 finished\n$/)
  })

  it('is ended by the hang-up of its terminal, and takes the file of its socket along', async function () {
    needs(this, 'script')
    skipIf(this, process.platform !== 'linux', 'needs the options of script from util-linux')
    const path = join(scope.tempDir(), 's')
    const running = start(scope, 'script', ['-qfec', `'${process.execPath}' '${MAIN}' forward '${path}' 1`, '/dev/null'])
    await until(() => running.stdout.includes('0 B/s'), 'it listens')
    expect(existsSync(path)).to.equal(true)
    // Its end of the terminal is closed with it.
    running.child.kill('SIGKILL')
    await until(() => !existsSync(path), 'the file is gone')
  })

  it('says in a line that a port or a path is taken', async () => {
    const upstream = await startUpstream()
    const port = upstream.target as number
    expect(await runCommand(['forward', `127.0.0.1:${port}`, '1'])).to.deep.equal({
      code: 1,
      signal: null,
      stdout: '',
      stderr: `it-tcp: port in use: ${port}\n`
    })
    const { target } = await startUpstream(false)
    const { code, stderr } = await runCommand(['forward', target as string, '1'])
    expect([code, stderr]).to.deep.equal([1, `it-tcp: path in use: ${target}\n`])
  })

  it('goes on when nobody reads its log any more, and says so once', async () => {
    const upstream = await startUpstream()
    const running = await startForward(upstream, ['--log', 'json'])
    running.child.stdout?.destroy()
    for (let round = 0; round < 3; round++) {
      const [client, server] = await pair(running.target, upstream)
      client.end('question')
      server.end('answer')
      expect(`${await readToEnd(client)}`).to.equal('answer')
    }
    await until(() => running.stderr.includes('the log can no longer be written'), 'it is told')
    expect(running.child.exitCode).to.equal(null)
    running.child.kill('SIGTERM')
    expect(await running.exit).to.equal(0)
    expect(running.stderr.match(/the log can no longer be written: write EPIPE/g)?.length).to.equal(1)
  })

  it('is ended by a signal also while nobody reads its log, and says that its end is left out', async () => {
    const running = await startListening(scope, ['forward', '127.0.0.1:0', '1', '--allow', '10.0.0.0/8', '--log', 'json'])
    running.child.stdout?.pause()
    // A line for each that is refused: more than the pipe holds.
    for (let round = 0; round < 40; round++) {
      await Promise.all(Array.from({ length: 50 }, () => turnedAway(running.target)))
    }
    running.child.kill('SIGTERM')
    await once(running.child, 'exit')
    running.child.stdout?.resume()
    expect(await running.exit).to.equal(0)
    expect(running.stderr).to.contain('it-tcp: the log is not being read: dropping the rest\n')
  })

  it('has a status line on a terminal: open, waiting, done, bytes', async function () {
    needs(this, 'script')
    skipIf(this, process.platform !== 'linux', 'needs the options of script from util-linux')
    const upstream = await startUpstream()
    const port = await closedPort()
    const command = `'${process.execPath}' '${MAIN}' forward 127.0.0.1:${port} 127.0.0.1:${upstream.target} --max-connections 1 --log text`
    // Of what script runs the standard output and error are a terminal.
    const running = start(scope, 'script', ['-qfec', command, '/dev/null'])
    await until(() => running.stdout.includes('0 of 1 open'), 'the status line is there')
    const [client, server] = await pair(port, upstream)
    await rawClient(scope, port)
    const waiting = CAN_GATE_IN_KERNEL ? '1 of 1 open, 1 waiting, 0 done' : '1 of 1 open, 0 done'
    await until(() => running.stdout.includes(waiting), 'a client is open, and one waits')
    client.end('x'.repeat(2_000))
    server.end()
    await Promise.all([readToEnd(server), readToEnd(client)])
    await until(() => /, 1 done, 2\.0 kB, [\d.]+ k?B\/s/.test(running.stdout), 'a client is done')
    // A line of the log stands above the status line, which it does not run into.
    const log = /\d{4}-\S+Z 127\.0\.0\.1:\d+ -> 127\.0\.0\.1:\d+: 2\.0 kB received, 0 B sent, \d+ ms\r\n\d of 1 open/.exec(running.stdout)
    expect(running.stdout.slice(0, log?.index).endsWith('\r\u001b[2K')).to.equal(true)
    running.child.stdin?.write('\x03')
    await until(() => running.stdout.includes('it-tcp: stopping: 1 open'), 'Ctrl+C has arrived')
  })

  it('keeps the status line in one row of a terminal that becomes narrower', async function () {
    needs(this, 'script', 'stty', 'tty')
    skipIf(this, process.platform !== 'linux', 'needs the options of script from util-linux')
    const file = join(scope.tempDir(), 'tty')
    const command = `tty >'${file}'; stty cols 80 rows 24; exec '${process.execPath}' '${MAIN}' forward 127.0.0.1:0 1 --max-connections 1`
    const running = start(scope, 'script', ['-qfec', command, '/dev/null'])
    const status = CAN_GATE_IN_KERNEL ? '0 of 1 open, 0 waiting, 0 done, 0 B, 0 B/s' : '0 of 1 open, 0 done, 0 B, 0 B/s'
    await until(() => running.stdout.includes(status), 'the status line is there')
    await run('stty', ['-F', readFileSync(file, 'utf8').trim(), 'cols', '25'])
    await until(() => running.stdout.includes(`\r\x1b[1A\x1b[J${status.slice(0, 24)}`), 'it is drawn again')
    await until(() => running.stdout.endsWith(`\r\x1b[2K${status.slice(0, 24)}`), 'and again')
    running.child.stdin?.write('\x03')
    await until(() => running.stdout.includes('it-tcp: stopping'), 'Ctrl+C has arrived')
  })

  async function startUpstream(isTcp = true): Promise<RawServer> {
    return await rawServer(scope, isTcp ? undefined : join(scope.tempDir(), 'upstream'))
  }

  async function startUpstreamOn(port: number): Promise<RawServer> {
    const upstream = await rawServer(scope, join(scope.tempDir(), 'unused'))
    const { server } = upstream
    await new Promise((resolve) => server.close(resolve))
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    return upstream
  }

  async function startForward({ target }: RawServer, options: readonly string[] = [], isTcp = true): Promise<Listening> {
    const from = isTcp ? '127.0.0.1:0' : join(scope.tempDir(), 'front')
    return await startListening(scope, ['forward', from, written(target), ...options])
  }

  /** Connects, and waits until that is over: a reset may come before the client knows that it is connected. */
  async function turnedAway(target: number | string): Promise<void> {
    const client = createConnection(target as number, '127.0.0.1')
    closeAtEnd(scope, client)
    await closed(client.resume())
  }

  async function clientFrom(localAddress: string, target: number | string): Promise<Socket> {
    const client = createConnection({ port: target as number, host: '127.0.0.1', localAddress, allowHalfOpen: true }).pause()
    closeAtEnd(scope, client)
    await once(client, 'connect')
    return client
  }

  /** A client, and what the target sees of it. */
  async function pair(target: number | string, upstream: RawServer): Promise<[Socket, Socket]> {
    const client = await rawClient(scope, target)
    return [client, await upstream.accept()]
  }
})

interface LogRecord {
  readonly client: string
  readonly upstream: string | null
  readonly error: null | { readonly code: string | null; readonly message: string }
}

function records({ stdout }: Listening): LogRecord[] {
  return stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as LogRecord)
}

function linesOf(text: string): number {
  return text.split('\n').length - 1
}
