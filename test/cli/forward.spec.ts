import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createConnection, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { expect } from 'chai'
import { clientsWaiting } from '../../cli/traffic.ts'
import { listen, onPort, type Server } from '../../src/index.ts'
import { type Listening, MAIN, runCommand, start, startListening, written } from '../helpers/command.ts'
import { needs, skipIf } from '../helpers/programs.ts'
import { closedPort, type RawServer, rawClient, rawServer, readToEnd } from '../helpers/raw.ts'
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

  it('--drop closes clients beyond the limit at once, until one of the others leaves', async () => {
    const upstream = await startUpstream()
    const { target } = await startForward(upstream, ['--max-connections', '1', '--drop'])
    const [first, server] = await pair(target, upstream)
    for (let round = 0; round < 3; round++) {
      const dropped = await rawClient(scope, target)
      await closed(dropped.resume().on('end', () => dropped.end()))
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
      const client = await rawClient(scope, target)
      client.resume().on('end', () => client.end())
      await Promise.race([closed(client), until(() => served !== undefined)])
      return served !== undefined
    }, 'a client is served')
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

  it('stops accepting at a first signal, and ends with 0 when the open connections have ended', async () => {
    const upstream = await startUpstream()
    const path = join(scope.tempDir(), 's')
    const running = await startListening(scope, ['forward', path, written(upstream.target)])
    const [client, server] = await pair(path, upstream)
    running.child.kill('SIGTERM')
    await until(() => running.stderr.includes('stopping: 1 open, 30s to finish; a second signal cuts them off\n'), 'it is told')
    await until(() => !existsSync(path), 'nobody listens')
    client.end('still')
    expect(`${await readToEnd(server)}`).to.equal('still')
    server.end('there')
    expect(`${await readToEnd(client)}`).to.equal('there')
    expect(await running.exit).to.equal(0)
  })

  for (const [signal, code] of [
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
    })
  }

  it('--grace bounds the time that open connections have', async () => {
    const upstream = await startUpstream()
    const running = await startForward(upstream, ['--grace', '20ms', '--log', 'json'])
    const [client] = await pair(running.target, upstream)
    const failure = once(client.resume(), 'error')
    running.child.kill('SIGTERM')
    expect((await failure)[0]).to.have.property('code', 'ECONNRESET')
    expect(await running.exit).to.equal(0)
    expect(JSON.parse(running.stdout)).to.have.nested.property('error.message', 'cut off by the shutdown')
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

  it('goes on when nobody reads its log any more', async () => {
    const upstream = await startUpstream()
    const running = await startForward(upstream, ['--log', 'json'])
    running.child.stdout?.destroy()
    for (let round = 0; round < 3; round++) {
      const [client, server] = await pair(running.target, upstream)
      client.end('question')
      server.end('answer')
      expect(`${await readToEnd(client)}`).to.equal('answer')
    }
    expect(running.child.exitCode).to.equal(null)
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

  it('clientsWaiting() gives the length of the queue of a TCP server', async function () {
    skipIf(this, !CAN_GATE_IN_KERNEL || process.platform !== 'linux', 'needs the kernel gate, on Linux')
    for (const host of ['127.0.0.1', '::1']) {
      const server = scope.open((await listen(onPort(0, { host }))) as Server)
      expect(await clientsWaiting(server)).to.equal(0)
      for (let count = 1; count <= 3; count++) {
        const socket = createConnection(server.listeningOn as number, host)
        scope.defer(() => socket.destroy())
        await once(socket, 'connect')
        expect(await clientsWaiting(server)).to.equal(count)
      }
    }
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

  /** A client, and what the target sees of it. */
  async function pair(target: number | string, upstream: RawServer): Promise<[Socket, Socket]> {
    const client = await rawClient(scope, target)
    return [client, await upstream.accept()]
  }
})
