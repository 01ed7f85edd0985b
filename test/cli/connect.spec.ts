import { once } from 'node:events'
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { MAIN, runCommand, start, startListening, written } from '../helpers/command.ts'
import { needs, run, skipIf } from '../helpers/programs.ts'
import { closedPort, rawClient, rawServer, readToEnd } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'
import { closed } from '../helpers/settings.ts'
import { until } from '../helpers/until.ts'

/** More than any buffer on the way. */
const PAYLOAD = Buffer.from(Uint8Array.from({ length: 3_000_001 }, (_, index) => (index * 7) % 128))

describe('it-tcp connect', function () {
  this.timeout(20_000)
  const scope = useScope()

  for (const kind of ['TCP', 'a unix socket'] as const) {
    it(`sends its input over ${kind}, half-closes at the end, and prints what comes until the peer's end`, async () => {
      const server = await startServer(kind === 'TCP')
      const result = runCommand(['connect', written(server.target)], { input: PAYLOAD })
      const peer = await server.accept()
      expect((await readToEnd(peer)).equals(PAYLOAD)).to.equal(true)
      peer.end(PAYLOAD)
      const { code, stdout, stderr } = await result
      expect([code, stderr, stdout === PAYLOAD.toString()]).to.deep.equal([0, '', true])
    })
  }

  it('goes on sending after the end of the peer', async () => {
    const server = await startServer()
    const running = start(scope, process.execPath, [MAIN, 'connect', written(server.target)])
    const peer = await server.accept()
    peer.end('a greeting')
    await until(() => running.stdout === 'a greeting', 'the greeting is printed')
    running.child.stdin?.end('an answer')
    expect(`${await readToEnd(peer)}`).to.equal('an answer')
    expect(await running.exit).to.equal(0)
  })

  it('sends a file, whose end is the end', async () => {
    const server = await startServer()
    const file = join(scope.tempDir(), 'file')
    writeFileSync(file, PAYLOAD)
    const fd = openSync(file, 'r')
    const running = start(scope, process.execPath, [MAIN, 'connect', written(server.target)], { stdio: [fd, 'pipe', 'pipe'] })
    closeSync(fd)
    const peer = await server.accept()
    expect((await readToEnd(peer)).equals(PAYLOAD)).to.equal(true)
    peer.end()
    expect(await running.exit).to.equal(0)
  })

  it('prints what came before a reset, and ends with 3', async () => {
    const server = await startServer()
    const running = start(scope, process.execPath, [MAIN, 'connect', written(server.target)])
    const peer = await server.accept()
    peer.write('half')
    await until(() => running.stdout === 'half', 'it is printed')
    peer.resetAndDestroy()
    expect(await running.exit).to.equal(3)
    expect(running.stderr).to.equal(`it-tcp: the connection with 127.0.0.1:${server.target} broke: connection reset by peer\n`)
  })

  it('--idle-timeout ends it with 3 when nothing is said', async () => {
    const server = await startServer()
    const running = start(scope, process.execPath, [MAIN, 'connect', written(server.target), '--idle-timeout', '50ms'])
    expect(await running.exit).to.equal(3)
    expect(running.stderr).to.equal(`it-tcp: no byte was sent to or received from 127.0.0.1:${server.target} for 50 ms\n`)
  })

  it('says in a line what it cannot connect to, and ends with 1', async () => {
    const port = await closedPort()
    const path = join(scope.tempDir(), 'missing')
    for (const [address, reason] of [
      [`127.0.0.1:${port}`, `127.0.0.1:${port}: connection refused`],
      [path, `${path}: no such file or directory`]
    ] as const) {
      expect(await runCommand(['connect', address])).to.deep.equal({
        code: 1,
        signal: null,
        stdout: '',
        stderr: `it-tcp: cannot connect to ${reason}\n`
      })
    }
  })

  it('--timeout bounds the attempt', async () => {
    // A full queue: a unix client is tried again until its time is over.
    const path = join(scope.tempDir(), 's')
    const running = await startListening(scope, ['listen', path, '--exec', 'cat', '--max-connections', '1', '--backlog', '1'])
    running.child.kill('SIGSTOP')
    scope.defer(() => running.child.kill('SIGCONT'))
    const waiting = [await rawClient(scope, path), await rawClient(scope, path)]
    expect(waiting.length).to.equal(2)
    const { code, stderr } = await runCommand(['connect', path, '--timeout', '50ms'])
    expect([code, stderr]).to.deep.equal([1, `it-tcp: cannot connect to ${path}: no connection within 50 ms\n`])
  })

  it('says that its input cannot be read, resets the connection, and ends with 1', async () => {
    const server = await startServer()
    // Open for writing only.
    const fd = openSync(join(scope.tempDir(), 'file'), 'w')
    const running = start(scope, process.execPath, [MAIN, 'connect', written(server.target)], { stdio: [fd, 'pipe', 'pipe'] })
    closeSync(fd)
    const peer = await server.accept()
    expect((await once(peer.resume(), 'error'))[0]).to.have.property('code', 'ECONNRESET')
    expect([await running.exit, running.stderr]).to.deep.equal([1, 'it-tcp: cannot read the input: EBADF: bad file descriptor, read\n'])
  })

  it('takes no directory for its input', async function () {
    skipIf(this, process.platform === 'win32', 'needs a directory that can be opened')
    const fd = openSync(scope.tempDir(), 'r')
    const running = start(scope, process.execPath, [MAIN, 'connect', '1'], { stdio: [fd, 'pipe', 'pipe'] })
    closeSync(fd)
    expect([await running.exit, running.stderr]).to.deep.equal([1, 'it-tcp: cannot read the input: it is a directory\n'])
  })

  for (const [signal, code] of [
    ['SIGHUP', 129],
    ['SIGINT', 130],
    ['SIGTERM', 143]
  ] as const) {
    it(`is ended by ${signal} with ${code}, and resets the connection: half a stream is no whole one`, async () => {
      const server = await startServer()
      const running = start(scope, process.execPath, [MAIN, 'connect', written(server.target)])
      const peer = await server.accept()
      running.child.stdin?.write('half')
      await once(peer.resume(), 'data')
      const failure = once(peer, 'error')
      running.child.kill(signal)
      expect((await failure)[0]).to.have.property('code', 'ECONNRESET')
      expect([await running.exit, running.stderr]).to.deep.equal([code, ''])
    })
  }

  it('is ended by a signal while it still tries to connect', async function () {
    skipIf(this, process.platform !== 'linux', 'needs to know which signals a process handles')
    const path = join(scope.tempDir(), 's')
    const listener = await startListening(scope, ['listen', path, '--exec', 'cat', '--max-connections', '1', '--backlog', '1'])
    listener.child.kill('SIGSTOP')
    scope.defer(() => listener.child.kill('SIGCONT'))
    const waiting = [await rawClient(scope, path), await rawClient(scope, path)]
    expect(waiting.length).to.equal(2)
    const running = start(scope, process.execPath, [MAIN, 'connect', path])
    // SIGHUP is the first of the signals, in the last bit.
    await until(() => /^SigCgt:.*[13579bdf]$/m.test(readFileSync(`/proc/${running.child.pid}/status`, 'latin1')), 'it handles signals')
    running.child.kill('SIGHUP')
    expect([await running.exit, running.stderr]).to.deep.equal([129, ''])
  })

  it('is ended by SIGTERM also as the first process of a container', async function () {
    needs(this, 'unshare')
    skipIf(this, (await run('unshare', ['--pid', '--fork', 'true'])).code !== 0, 'needs the right to make a namespace')
    const server = await startServer()
    const args = ['--pid', '--fork', '--kill-child', process.execPath, MAIN, 'connect', written(server.target)]
    const running = start(scope, 'unshare', args)
    const peer = await server.accept()
    const failure = once(peer.resume(), 'error')
    const { pid } = running.child
    process.kill(Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')), 'SIGTERM')
    expect((await failure)[0]).to.have.property('code', 'ECONNRESET')
    expect(await running.exit).to.equal(143)
  })

  it('--source is the address that the peer sees, and --verbose tells from where to where', async function () {
    skipIf(this, process.platform !== 'linux', 'needs more than one address of this machine')
    const server = await startServer()
    const result = runCommand(['connect', written(server.target), '--source', '127.0.0.9', '--verbose'], { input: 'question' })
    const peer = await server.accept()
    expect(peer.remoteAddress).to.equal('127.0.0.9')
    peer.end('an answer')
    await readToEnd(peer)
    const { code, stdout, stderr } = await result
    const from = `127.0.0.9:${peer.remotePort}`
    expect([code, stdout, stderr]).to.deep.equal([
      0,
      'an answer',
      `it-tcp: connected to ${written(server.target)} from ${from}\nit-tcp: 8 B sent, 9 B received\n`
    ])
  })

  it('ends without a word when nobody reads its output any more', async () => {
    const server = await startServer()
    const running = start(scope, process.execPath, [MAIN, 'connect', written(server.target)])
    const peer = await server.accept()
    running.child.stdout?.destroy()
    peer.write(PAYLOAD)
    peer.on('error', () => {})
    await closed(peer.resume())
    expect(await running.exit).to.equal(1)
    expect(running.stderr).to.equal('')
  })

  it('ends on a terminal when the peer has ended, without waiting for a key', async function () {
    needs(this, 'script')
    skipIf(this, process.platform !== 'linux', 'needs the options of script from util-linux')
    const server = await startServer()
    const command = `'${process.execPath}' '${MAIN}' connect 127.0.0.1:${server.target}`
    const running = start(scope, 'script', ['-qfec', command, '/dev/null'])
    const peer = await server.accept()
    running.child.stdin?.write('hello\n')
    expect(`${(await once(peer.resume(), 'data'))[0]}`).to.equal('hello\n')
    peer.end('goodbye')
    expect(await running.exit).to.equal(0)
    expect(running.stdout).to.contain('goodbye')
  })

  it('is a filter: two of them, and a listener, make a pipeline', async () => {
    const listener = await startListening(scope, ['listen', '127.0.0.1:0', '--exec', 'tr a-z A-Z'])
    const connect = `'${process.execPath}' '${MAIN}' connect 127.0.0.1:${listener.target}`
    const { code, stdout } = await run('sh', ['-c', `${connect} | rev | ${connect}`], { input: 'abc\n' })
    expect([code, stdout]).to.deep.equal([0, 'CBA\n'])
  })

  async function startServer(isTcp = true): ReturnType<typeof rawServer> {
    return await rawServer(scope, isTcp ? undefined : join(scope.tempDir(), 's'))
  }
})
