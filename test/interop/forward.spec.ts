import { mkdirSync, writeFileSync } from 'node:fs'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { expect } from 'chai'
import { onPort, Server } from '../../src/index.ts'
import { MAIN, start, startListening, written } from '../helpers/command.ts'
import { startDaemon } from '../helpers/daemon.ts'
import { type Finished, needs, run } from '../helpers/programs.ts'
import { closedPort, type Target } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'
import { until } from '../helpers/until.ts'

/** More than any buffer on the way; all of ASCII. */
const PAYLOAD = Buffer.from(Uint8Array.from({ length: 1_000_003 }, (_, index) => (index * 7) % 128))
const HOST = '127.0.0.1'

describe('Interop: programs of others behind, before and beside it-tcp', function () {
  // Programs start slowly on a busy machine.
  this.timeout(40_000)
  const scope = useScope()

  describe('redis-server behind it-tcp forward', () => {
    before(function () {
      needs(this, 'redis-server', 'redis-benchmark', 'redis-cli')
    })

    for (const kind of ['TCP', 'a unix socket'] as const) {
      it(`over ${kind}: redis-benchmark gets all answers, 50 clients, 16 commands at a time`, async () => {
        const redis = await startRedis(kind === 'TCP')
        const { target } = await startListening(scope, ['forward', front(kind === 'TCP'), written(redis)])
        await benchmark(target, ['-c', '50', '-P', '16', '-n', '50000', 'INCR', 'count'])
        expect(Number(await ask(redis, 'GET', 'count'))).to.be.at.least(50_000)
        // Values that don't fit into one read.
        await benchmark(target, ['-c', '50', '-P', '16', '-n', '2000', '-d', '20000', '-t', 'set,get'])
      })
    }

    it('50 clients that that come again and again get all answers through a limit of 10, which keeps redis below its own', async () => {
      // Redis turns away what goes beyond its own limit: ten, and those that it has not noticed to be gone.
      const redis = await startRedis(true, '--maxclients', '20')
      const args = ['forward', front(true), written(redis), '--max-connections', '10', '--log', 'json']
      const running = await startListening(scope, args)
      // Without keep-alive: a benchmark that keeps its 50 connections counts on being served on all of them.
      await benchmark(running.target, ['-k', '0', '-c', '50', '-P', '16', '-n', '16000', 'INCR', 'count'])
      expect(Number(await ask(redis, 'GET', 'count'))).to.be.at.least(16_000)
      running.child.kill('SIGTERM')
      await running.exit
      const records = running.stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as { upstream: string })
      expect(records.length).to.be.at.least(1_000)
      expect(records.filter(({ upstream }) => upstream !== written(redis))).to.deep.equal([])
    })

    async function startRedis(isTcp: boolean, ...options: string[]): Promise<Target> {
      const directory = scope.tempDir()
      const target = isTcp ? await closedPort() : join(directory, 'redis')
      const where = typeof target === 'number' ? ['--port', String(target), '--bind', HOST] : ['--port', '0', '--unixsocket', target]
      await startDaemon(scope, 'redis-server', [...where, ...options, '--save', '', '--dir', directory, '--daemonize', 'no'], target)
      return target
    }

    function client(target: Target): string[] {
      return typeof target === 'number' ? ['-h', HOST, '-p', String(target)] : ['-s', target]
    }

    async function benchmark(target: Target, args: readonly string[]): Promise<void> {
      const { code, stdout, stderr } = await run('redis-benchmark', [...client(target), '-q', ...args], { killAfter: 30_000 })
      expect([code, /error/i.test(stdout + stderr.replace(/^WARNING: Keepalive disabled.*$/m, ''))], stdout + stderr).to.deep.equal([
        0,
        false
      ])
    }

    async function ask(target: Target, ...command: string[]): Promise<string> {
      return (await run('redis-cli', [...client(target), ...command])).stdout
    }
  })

  describe('nginx behind it-tcp forward', () => {
    before(function () {
      needs(this, 'nginx', 'wrk', 'curl')
    })

    it('wrk gets no error through a limit that its connections fill, and curl the whole of a file', async () => {
      const nginx = await startNginx()
      const { target } = await startListening(scope, ['forward', front(true), written(nginx), '--max-connections', '20'])
      const { code, stdout } = await run('wrk', ['-t', '1', '-c', '20', '-d', '1s', `http://${HOST}:${target}/`], { killAfter: 30_000 })
      expect(code, stdout).to.equal(0)
      expect(Number(/(\d+) requests in/.exec(stdout)?.[1]), stdout).to.be.greaterThan(100)
      expect(stdout).to.not.match(/Socket errors|Non-2xx/)
      const curl = await run('curl', ['-sS', '--fail', `http://${HOST}:${target}/file`])
      expect([curl.code, curl.stderr, curl.stdout === PAYLOAD.toString()]).to.deep.equal([0, '', true])
    })

    async function startNginx(): Promise<number> {
      const directory = scope.tempDir()
      mkdirSync(join(directory, 'root'))
      writeFileSync(join(directory, 'root', 'index.html'), 'hello')
      writeFileSync(join(directory, 'root', 'file'), PAYLOAD)
      const port = await closedPort()
      const temp = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${directory}/${name};`).join(' ')
      // Run by root its workers are somebody else, who may not look into the directory.
      const user = process.getuid?.() === 0 ? 'user root;' : ''
      const config = `${user} daemon off; worker_processes 1; pid ${directory}/pid; error_log ${directory}/log;
        events {} http { access_log off; ${temp} server { listen ${HOST}:${port}; root ${directory}/root; } }`
      writeFileSync(join(directory, 'nginx.conf'), config)
      const options = ['-p', directory, '-e', join(directory, 'log'), '-c', join(directory, 'nginx.conf')]
      // Its workers end with it by SIGTERM only.
      await startDaemon(scope, 'nginx', options, port)
      return port
    }
  })

  describe('HAProxy in front of two servers', () => {
    before(function () {
      needs(this, 'haproxy', 'curl')
    })

    it('shares clients out to both, and goes on with one when the other shuts down', async () => {
      const servers = await Promise.all(['one', 'two'].map(startServer))
      const port = await startHaproxy(servers.map(({ listeningOn }) => listeningOn))
      const url = `http://${HOST}:${port}/`
      const answers = await Promise.all(Array.from({ length: 20 }, () => run('curl', ['-sS', '--fail', url])))
      expect(answers.map(({ stdout }) => stdout).sort()).to.deep.equal([...Array(10).fill('one'), ...Array(10).fill('two')])
      await servers[0]?.close()
      for (let round = 0; round < 4; round++) {
        expect(await run('curl', ['-sS', '--fail', url])).to.deep.include({ code: 0, stdout: 'two', stderr: '' })
      }
    })

    async function startServer(name: string): Promise<Server<never, number>> {
      const server = await Server.create(onPort(0, { host: HOST }), { maxConnections: 5 }, async ({ reader, writer }) => {
        // A balancer that only looks whether somebody answers says nothing.
        if ((await reader.readUntil('\r\n\r\n')) !== null) writer.write(`HTTP/1.0 200 OK\r\nContent-Length: ${name.length}\r\n\r\n${name}`)
      })
      scope.defer(() => server.close({ closeExistingConnections: true }))
      return server as unknown as Server<never, number>
    }

    async function startHaproxy(ports: readonly number[]): Promise<number> {
      const file = join(scope.tempDir(), 'haproxy.cfg')
      const port = await closedPort()
      const servers = ports.map((server, index) => `  server s${index} ${HOST}:${server} check inter 50ms fall 1`)
      const timeouts = '  timeout connect 5s\n  timeout client 10s\n  timeout server 10s\n  retries 3\n  option redispatch 1'
      writeFileSync(
        file,
        `defaults\n  mode http\n${timeouts}\nlisten front\n  bind ${HOST}:${port}\n  balance roundrobin\n${servers.join('\n')}\n`
      )
      await startDaemon(scope, 'haproxy', ['-db', '-f', file], port)
      return port
    }
  })

  describe('curl', () => {
    before(function () {
      needs(this, 'curl')
    })

    it('gets and puts through it-tcp forward what an HTTP/1.0 server has', async () => {
      const server = await Server.create(onPort(0, { host: HOST }), async ({ reader, writer }) => {
        const request = await reader.readLine()
        let length = 0
        for await (const line of reader.lines()) {
          if (line === '') break
          length = Number(/^content-length: (\d+)/i.exec(line)?.[1] ?? length)
        }
        const body = request?.startsWith('PUT ') === true ? await reader.readExactly(length) : PAYLOAD
        writer.write('HTTP/1.0 200 OK\r\n\r\n')
        await writer([body ?? new Uint8Array()])
      })
      scope.defer(() => server.close({ closeExistingConnections: true }))
      const { target } = await startListening(scope, ['forward', front(false), `${HOST}:${server.listeningOn}`])
      const options = ['-sS', '--fail', '--unix-socket', String(target)]
      const get = await run('curl', [...options, 'http://localhost/'])
      expect([get.code, get.stderr, get.stdout === PAYLOAD.toString()]).to.deep.equal([0, '', true])
      const put = await run(
        'curl',
        [...options, '-T', '-', '-H', `Content-Length: ${PAYLOAD.length}`, '-H', 'Transfer-Encoding:', 'http://localhost/x'],
        {
          input: PAYLOAD
        }
      )
      expect([put.code, put.stderr, put.stdout === PAYLOAD.toString()]).to.deep.equal([0, '', true])
    })
  })

  describe('openssl', () => {
    before(function () {
      needs(this, 'openssl')
    })

    it('s_client talks through it-tcp forward to s_server: handshake, data, close', async () => {
      const directory = scope.tempDir()
      const [key, certificate] = [join(directory, 'key'), join(directory, 'certificate')]
      const request = [
        'req',
        '-x509',
        '-newkey',
        'rsa:2048',
        '-nodes',
        '-subj',
        '/CN=localhost',
        '-days',
        '2',
        '-keyout',
        key,
        '-out',
        certificate
      ]
      expect((await run('openssl', request)).code).to.equal(0)
      const port = await closedPort()
      // -rev sends each line back from right to left.
      await startDaemon(
        scope,
        'openssl',
        ['s_server', '-accept', `${HOST}:${port}`, '-key', key, '-cert', certificate, '-rev', '-quiet'],
        port
      )
      const { target } = await startListening(scope, ['forward', front(true), `${HOST}:${port}`])
      const args = ['s_client', '-connect', `${HOST}:${target}`, '-CAfile', certificate, '-verify_return_error', '-quiet', '-no_ign_eof']
      const client = start(scope, 'openssl', args)
      client.child.stdin?.write('hello\nover TLS\n')
      await until(() => client.stdout === 'olleh\nSLT revo\n', 'the answers are there')
      client.child.stdin?.end()
      expect(await client.exit).to.equal(0)
    })
  })

  describe('systemd-socket-activate', () => {
    before(function () {
      needs(this, 'systemd-socket-activate', 'curl')
    })

    for (const [isTcp, place] of [
      [true, 'fd:3'],
      [false, 'fd:3'],
      [true, 'inherited'],
      [false, 'inherited:web']
    ] as const) {
      it(`starts it-tcp forward ${place} when a first client comes over ${isTcp ? 'TCP' : 'a unix socket'}, who is served`, async () => {
        const server = await Server.create(onPort(0, { host: HOST }), async ({ reader, writer }) => {
          if ((await reader.readUntil('\r\n\r\n')) !== null) writer.write('HTTP/1.0 200 OK\r\n\r\nhello')
        })
        scope.defer(() => server.close({ closeExistingConnections: true }))
        const where = isTcp ? `${HOST}:${await closedPort()}` : join(scope.tempDir(), 's')
        const forward = [process.execPath, MAIN, 'forward', place, `${HOST}:${server.listeningOn}`]
        const running = start(scope, 'systemd-socket-activate', ['--fdname=web', '-l', where, ...forward])
        await until(() => running.stderr.includes('Listening on'), 'it listens')
        const options = isTcp ? [`http://${where}/`] : ['--unix-socket', where, 'http://localhost/']
        for (let round = 0; round < 3; round++) expect((await run('curl', ['-sS', '--fail', ...options])).stdout).to.equal('hello')
        expect(running.stderr).to.contain(`it-tcp: listening on ${where}\n`)
        running.child.kill('SIGTERM')
        expect(await running.exit).to.equal(0)
      })
    }
  })

  describe('curl, turned away', () => {
    before(function () {
      needs(this, 'curl')
    })

    it('fails at a share for its address that is used up, and gets an answer when that is free again', async () => {
      const server = await Server.create(onPort(0, { host: HOST }), async ({ reader, writer }) => {
        if ((await reader.readUntil('\r\n\r\n')) !== null) writer.write('HTTP/1.0 200 OK\r\n\r\nhello')
      })
      scope.defer(() => server.close({ closeExistingConnections: true }))
      const target = `${HOST}:${server.listeningOn}`
      const forward = await startListening(scope, ['forward', front(true), target, '--max-connections-per-address', '1'])
      const held = createConnection(forward.target as number, HOST)
      scope.defer(() => held.destroy())
      held.on('error', () => {})
      await new Promise((resolve) => held.on('connect', resolve))
      const args = ['-sS', '--fail', `http://${HOST}:${forward.target}/`]
      expect((await run('curl', args)).code).to.be.oneOf([7, 52, 56])
      held.destroy()
      await until(async () => (await run('curl', args)).stdout === 'hello', 'its place is free again')
    })
  })

  for (const isTcp of [true, false]) {
    const kind = isTcp ? 'TCP' : 'a unix socket'

    describe(`socat over ${kind}`, () => {
      before(function () {
        needs(this, 'socat')
      })

      it('through it-tcp forward to a socat that answers only at the end of its input: both half-closes arrive', async () => {
        const target = await startSocat(isTcp, 'SYSTEM:wc -c')
        const forward = await startListening(scope, ['forward', front(isTcp), written(target)])
        const { code, stdout } = await askSocat(forward.target)
        expect([code, Number(stdout)]).to.deep.equal([0, PAYLOAD.length])
      })

      it('as a client of it-tcp listen --exec', async () => {
        const { target } = await startListening(scope, ['listen', front(isTcp), '--exec', 'cat'])
        const { code, stdout } = await askSocat(target)
        expect([code, stdout === PAYLOAD.toString()]).to.deep.equal([0, true])
      })
    })

    describe(`ncat over ${kind}`, () => {
      before(function () {
        needs(this, 'ncat')
      })

      it('through it-tcp forward to another ncat: both ways while both are there, then the end', async () => {
        const target = isTcp ? await closedPort() : join(scope.tempDir(), 's')
        // As a listener it goes at the end of its client, whatever it has still to say: so it says that before.
        const server = start(scope, 'ncat', ['-v', '-l', ...ncatTarget(target)])
        await until(() => server.stderr.includes('Listening on'), 'ncat listens')
        const forward = await startListening(scope, ['forward', front(isTcp), written(target)])
        const client = start(scope, 'ncat', ncatTarget(forward.target))
        client.child.stdin?.write(PAYLOAD)
        await until(() => server.stdout.length === PAYLOAD.length, 'the listener has all')
        server.child.stdin?.write(PAYLOAD)
        await until(() => client.stdout.length === PAYLOAD.length, 'the client has all')
        client.child.stdin?.end()
        expect([await client.exit, await server.exit]).to.deep.equal([0, 0])
        expect([client.stdout === PAYLOAD.toString(), server.stdout === PAYLOAD.toString()]).to.deep.equal([true, true])
      })

      it('as a client of it-tcp listen --exec that answers only at the end of its input', async () => {
        const { target } = await startListening(scope, ['listen', front(isTcp), '--exec', 'wc -c'])
        const { code, stdout } = await askNcat(target)
        expect([code, Number(stdout)]).to.deep.equal([0, PAYLOAD.length])
      })
    })
  }

  function front(isTcp: boolean): string {
    return isTcp ? `${HOST}:0` : join(scope.tempDir(), 'front')
  }

  async function askSocat(target: Target): Promise<Finished> {
    const peer = typeof target === 'number' ? `TCP:${HOST}:${target}` : `UNIX-CONNECT:${target}`
    // By itself socat goes half a second after one side has ended, also if the other has more to say.
    return await run('socat', ['-t', '20', 'STDIO', peer], { input: PAYLOAD, killAfter: 30_000 })
  }

  async function askNcat(target: Target): Promise<Finished> {
    return await run('ncat', ncatTarget(target), { input: PAYLOAD, killAfter: 30_000 })
  }

  function ncatTarget(target: Target): string[] {
    return typeof target === 'number' ? [HOST, String(target)] : ['-U', target]
  }

  async function startSocat(isTcp: boolean, answerer: string): Promise<Target> {
    const target = isTcp ? await closedPort() : join(scope.tempDir(), 's')
    const listener = typeof target === 'number' ? `TCP-LISTEN:${target},bind=${HOST},reuseaddr,fork` : `UNIX-LISTEN:${target},fork`
    await startDaemon(scope, 'socat', ['-t', '20', listener, answerer], target)
    return target
  }
})
