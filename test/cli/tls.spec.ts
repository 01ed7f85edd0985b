import { copyFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { type Connection, connect, onFile, onPort, Server, type TlsClientOptions, toFile, toHostAndPort } from '../../src/index.ts'
import { type Certificates, useCertificates } from '../helpers/certificates.ts'
import { MAIN, runCommand, start, startListening, written } from '../helpers/command.ts'
import { run } from '../helpers/programs.ts'
import { rawServer } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'
import { serverContext } from '../helpers/tls-pair.ts'
import { until } from '../helpers/until.ts'

const HOST = '127.0.0.1'

interface EchoOptions {
  readonly isSecure?: boolean
  readonly path?: string
  readonly clientCert?: 'none' | 'required'
}

describe('TLS of the command', function () {
  this.timeout(30_000)
  const scope = useScope()
  let made: Certificates

  before(function () {
    made = useCertificates(this)
  })

  const file = (name: string): string => join(made.directory, name)
  const certificate = (name = 'a'): string[] => ['--tls-cert', file(`${name}.pem`), '--tls-key', file(`${name}.key`)]

  /** An echo that speaks TLS, or does not; each connection that it has had. */
  async function echo({ isSecure = true, path, clientCert = 'none' }: EchoOptions = {}) {
    const connections: Connection[] = []
    const errors: unknown[] = []
    const options = {
      onHandlerError: (_: unknown, error: unknown) => errors.push(error),
      ...(isSecure && { tls: serverContext(made, { server: { ca: made.ca.cert, clientCert } }) })
    }
    const handler = async (connection: Connection): Promise<void> => {
      connections.push(connection)
      await connection.writer(connection.reader)
    }
    const server =
      path === undefined
        ? await Server.create(onPort(0, { host: HOST }), options, handler)
        : await Server.create(onFile(path), options, handler)
    scope.defer(() => server.close({ closeExistingConnections: true }))
    return { target: path ?? `${HOST}:${server.listeningOn}`, connections, errors }
  }

  const dial = async (target: number | string, more: TlsClientOptions = {}): Promise<Connection> => {
    const where = typeof target === 'number' ? toHostAndPort(HOST, target) : toFile(target)
    const connection = await connect(where, { tls: { ca: made.ca.cert, serverName: 'a.test', ...more } })
    scope.defer(() => connection.abort())
    return connection
  }

  const talk = async ({ reader, writer }: Connection): Promise<string | null> => {
    writer.write('hello\n')
    return await reader.readLine({ timeout: 5_000 })
  }

  describe('forward --tls-cert', () => {
    it('terminates TLS: half-closes, and ends in order, both ways', async () => {
      const { target } = await echo({ isSecure: false })
      const { target: port } = await startListening(scope, ['forward', '0', target, ...certificate()])
      const client = await dial(port)
      expect(await talk(client)).to.equal('hello')
      await client.writer.close()
      expect(await client.reader.read()).to.equal(null)
    })

    it("passes a client's truncation on as a reset, and not as an end", async () => {
      const upstream = await rawServer(scope)
      const { target: port } = await startListening(scope, ['forward', '0', written(upstream.target), ...certificate()])
      const client = start(scope, 'openssl', ['s_client', '-connect', `${HOST}:${port}`, '-quiet'])
      client.child.stdin?.write('half')
      const socket = await upstream.accept()
      await new Promise((resolve) => socket.resume().once('data', resolve))
      let ended = false
      socket.once('end', () => {
        ended = true
      })
      client.child.kill('SIGKILL')
      await until(() => socket.errored !== null, 'it is reset')
      expect([ended, (socket.errored as NodeJS.ErrnoException).code]).to.deep.equal([false, 'ECONNRESET'])
    })

    it('logs a client that fails in the handshake, and serves the next', async () => {
      const { target } = await echo({ isSecure: false })
      const running = await startListening(scope, ['forward', '0', target, ...certificate(), '--log', 'json'])
      await run('curl', ['-s', `http://${HOST}:${running.target}/`], {}).catch(() => {})
      await until(() => running.stdout.includes('\n'), 'it is logged')
      expect(JSON.parse(running.stdout)).to.have.nested.property('error.code', 'ERR_TLS')
      expect(await talk(await dial(running.target))).to.equal('hello')
    })

    it('--tls-client-ca serves only clients with a certificate', async () => {
      const { target } = await echo({ isSecure: false })
      const more = ['--tls-client-ca', file('ca.pem')]
      const { target: port } = await startListening(scope, ['forward', '0', target, ...certificate(), ...more])
      expect(await talk(await dial(port, made.client))).to.equal('hello')
      const refused = await dial(port)
        .then(talk, (error: Error) => error)
        .catch((error: Error) => error)
      expect(refused).to.be.instanceOf(Error)
    })

    it('takes the key from the file of the certificate, if it is left out', async () => {
      const { target } = await echo({ isSecure: false })
      const both = join(scope.tempDir(), 'both.pem')
      writeFileSync(both, made.a.cert + made.a.key)
      const { target: port } = await startListening(scope, ['forward', '0', target, '--tls-cert', both])
      expect(await talk(await dial(port))).to.equal('hello')
    })

    it('SIGHUP takes over what has changed on disk, refuses what is no good, and stops nothing; SIGTERM stops', async () => {
      const directory = scope.tempDir()
      const issue = (name: string): void => {
        copyFileSync(file(`${name}.pem`), join(directory, 'cert.pem'))
        copyFileSync(file(`${name}.key`), join(directory, 'key.pem'))
      }
      issue('a')
      const { target } = await echo({ isSecure: false })
      const files = ['--tls-cert', join(directory, 'cert.pem'), '--tls-key', join(directory, 'key.pem')]
      const running = await startListening(scope, ['forward', '0', target, ...files])
      // Each with other options, so that none takes up another's session.
      const shown = async (name: string) => (await dial(running.target, { alpn: [name] })).tls?.peerCertificate?.fingerprint256
      const open = await dial(running.target)
      const first = await shown('first')

      issue('a2')
      running.child.kill('SIGHUP')
      await until(() => /certificate read again: valid until 20/.test(running.stderr), 'it says so')
      const second = await shown('second')
      expect(second).to.not.equal(first)
      expect(await talk(open)).to.equal('hello')

      for (const spoil of [
        () => copyFileSync(file('a.key'), join(directory, 'key.pem')),
        () => copyFileSync(file('expired.pem'), join(directory, 'cert.pem')),
        () => truncateSync(join(directory, 'cert.pem'), 100)
      ]) {
        issue('a2')
        spoil()
        const before = running.stderr.length
        running.child.kill('SIGHUP')
        await until(() => running.stderr.slice(before).includes('keeping the old certificate: '), 'it refuses')
        expect(await shown(String(before))).to.equal(second)
      }
      await open.close()
      running.child.kill('SIGTERM')
      await until(() => running.stderr.includes('stopping'), 'it stops')
    })

    for (const [what, args, words] of [
      ['a file that is not there', ['--tls-cert', '/nowhere.pem'], /^it-tcp: cannot read \/nowhere\.pem: ENOENT\n$/],
      ['a key of another', ['--tls-cert', 'a.pem', '--tls-key', 'b.key'], /^it-tcp: .*key/i],
      ['a certificate that has expired', ['--tls-cert', 'expired.pem', '--tls-key', 'expired.key'], /^it-tcp: .*expired/i],
      ['a key without its certificate', ['--tls-key', 'a.key'], /^it-tcp: --tls-key has no effect without --tls-cert\n$/],
      ['no file', ['--tls-cert='], /^it-tcp: --tls-cert must be a file: received ''\n$/]
    ] as const) {
      it(`refuses ${what}, before it listens`, async () => {
        const paths = args.map((arg) => (/^[\w-]+\.(?:pem|key)$/.test(arg) ? file(arg) : arg))
        const { code, stderr } = await runCommand(['forward', '0', '1', ...paths])
        expect(code, stderr).to.be.oneOf([1, 2])
        expect(stderr).to.match(words)
      })
    }
  })

  describe('forward --target-tls', () => {
    it('originates TLS to the host that is named, or by another name, or to a unix socket', async () => {
      const path = join(scope.tempDir(), 's')
      for (const [target, option] of [
        [(await echo()).target, '--target-tls'],
        [(await echo()).target, '--target-tls=a.test'],
        [(await echo({ path })).target, '--target-tls=a.test']
      ] as const) {
        const { target: port } = await startListening(scope, ['forward', '0', target, option, '--target-ca', file('ca.pem')])
        await using client = await connect(toHostAndPort(HOST, Number(port)))
        expect(await talk(client)).to.equal('hello')
      }
    })

    it('goes to the next target if the certificate of the first is not for it', async () => {
      const [first, second] = [await echo(), await echo({ path: join(scope.tempDir(), 's') })]
      const args = ['forward', '0', first.target, second.target, '--target-tls=b.test', '--target-ca', file('ca.pem')]
      const running = await startListening(scope, args)
      await using client = await connect(toHostAndPort(HOST, Number(running.target)))
      const refused = await client.reader.read().catch((error: Error) => error)
      expect(refused).to.be.instanceOf(Error)
      await until(() => running.stderr.includes('no target can be reached'), 'it says so')
      expect(running.stderr).to.match(/Cannot secure the connection|cannot secure the connection/)
      expect([first.connections, second.connections]).to.deep.equal([[], []])
    })

    it('--target-tls-cert shows the target a certificate; one that is no good is refused before it listens', async () => {
      const { target, connections } = await echo({ clientCert: 'required' })
      const tls = ['--target-tls=a.test', '--target-ca', file('ca.pem')]
      const shown = [...tls, '--target-tls-cert', file('client.pem'), '--target-tls-key', file('client.key')]
      const { target: port } = await startListening(scope, ['forward', '0', target, ...shown])
      await using client = await connect(toHostAndPort(HOST, port as number))
      expect(await talk(client)).to.equal('hello')
      expect(connections[0]?.tls).to.include({ isAuthorized: true })
      expect(connections[0]?.tls?.peerCertificate?.subject).to.equal('CN=client')
      const { target: without } = await startListening(scope, ['forward', '0', target, ...tls])
      await using refused = await connect(toHostAndPort(HOST, without as number))
      expect(await talk(refused).catch((error: Error) => error.name)).to.be.oneOf(['ConnectionResetError', null])
      const wrong = ['--target-tls-cert', file('client.pem'), '--target-tls-key', file('b.key')]
      const { code, stderr } = await runCommand(['forward', '0', target, ...tls, ...wrong])
      expect(code).to.equal(1)
      expect(stderr).to.include("'key' must be the key of 'cert'")
    })

    it('both ways: TLS to clients, and TLS to the target', async () => {
      const { target, connections } = await echo()
      const args = ['forward', '0', target, ...certificate(), '--target-tls', '--target-ca', file('ca.pem')]
      const { target: port } = await startListening(scope, args)
      const client = await dial(port)
      expect(await talk(client)).to.equal('hello')
      expect(connections[0]?.tls?.version).to.equal('TLSv1.3')
    })

    for (const [args, words] of [
      [['./s', '--target-tls'], 'it-tcp: --target-tls needs a name for a Unix socket: --target-tls=NAME\n'],
      [
        ['1', '--target-tls=127.0.0.1'],
        "it-tcp: --target-tls must be a host name; an address that is dialled is verified without it: received '127.0.0.1'\n"
      ],
      [['1', '--target-ca', 'x'], 'it-tcp: --target-ca has no effect without --target-tls\n']
    ] as const) {
      it(`refuses ${args.join(' ')}`, async () => {
        const { code, stderr } = await runCommand(['forward', '0', ...args])
        expect({ code, stderr }).to.deep.equal({ code: 2, stderr: words })
      })
    }

    it('refuses a name that no host can have, before it listens', async () => {
      const { code, stderr } = await runCommand(['forward', '0', '1', '--target-tls=a..test'])
      expect(code, stderr).to.equal(2)
      expect(stderr).to.include('a..test')
    })
  })

  describe('connect --tls', () => {
    it('sends and receives, half-closes, and says in --verbose what it speaks', async () => {
      const { target } = await echo()
      const { code, stdout, stderr } = await runCommand(['connect', target, '--tls', '--ca', file('ca.pem'), '-v'], { input: 'hello' })
      expect({ code, stdout }, stderr).to.deep.equal({ code: 0, stdout: 'hello' })
      expect(stderr).to.match(/, over TLSv1\.3 with TLS_\w+\n/)
    })

    it('--tls-cert shows the server a certificate, whose key may be in the same file', async () => {
      const { target, connections } = await echo({ clientCert: 'required' })
      const both = join(scope.tempDir(), 'both.pem')
      writeFileSync(both, made.client.cert + made.client.key)
      const shown = ['connect', target, '--tls=a.test', '--ca', file('ca.pem'), '--tls-cert', both]
      expect(await runCommand(shown, { input: 'hello\n' })).to.include({ code: 0, stdout: 'hello\n' })
      expect(connections[0]?.tls?.peerCertificate?.subject).to.equal('CN=client')
      const { code, stderr } = await runCommand(['connect', target, '--tls-cert', both])
      expect(code).to.equal(2)
      expect(stderr).to.include('--tls-cert')
    })

    it('refuses whom it cannot verify with code 1, and sends nothing', async () => {
      const { target, connections } = await echo()
      for (const more of [['--tls'], ['--tls=b.test', '--ca', file('ca.pem')]]) {
        const { code, stdout, stderr } = await runCommand(['connect', target, ...more], { input: 'hello' })
        expect({ code, stdout }).to.deep.equal({ code: 1, stdout: '' })
        expect(stderr).to.match(/^it-tcp: cannot secure the connection with .*\n$/i)
      }
      expect(connections).to.deep.equal([])
    })

    it('ends with code 3 where the stream is cut off', async () => {
      const server = start(scope, 'openssl', [...['s_server', '-accept', `${HOST}:0`, '-cert', file('a.pem'), '-key', file('a.key')]])
      await until(() => /ACCEPT .*:(\d+)/.test(server.stdout), 'it listens')
      const port = /ACCEPT .*:(\d+)/.exec(server.stdout)?.[1]
      const client = start(scope, process.execPath, [MAIN, 'connect', `${HOST}:${port}`, '--tls', '--ca', file('ca.pem')])
      server.child.stdin?.write('half\n')
      await until(() => client.stdout === 'half\n', 'half of it has come')
      server.child.kill('SIGKILL')
      expect(await client.exit).to.equal(3)
    })
  })

  describe('listen --tls-cert', () => {
    it('serves one client', async () => {
      const running = await startListening(scope, ['listen', '0', ...certificate()])
      const client = await dial(running.target)
      client.writer.write('hello')
      await client.writer.close()
      await until(() => running.stdout === 'hello', 'it is printed')
      running.child.stdin?.end('answer')
      expect(new TextDecoder().decode(await client.reader.readAll({ maxLength: 100 }))).to.equal('answer')
      expect(await running.exit).to.equal(0)
    })

    it('with --exec gives each client a process', async () => {
      const { target } = await startListening(scope, ['listen', '0', '--exec', 'tr a-z A-Z', ...certificate()])
      const client = await dial(target)
      client.writer.write('hello')
      await client.writer.close()
      expect(new TextDecoder().decode(await client.reader.readAll({ maxLength: 100 }))).to.equal('HELLO')
    })
  })
})
