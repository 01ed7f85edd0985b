import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { toHostAndPort, withConnection } from '../../src/index.ts'
import { type Certificates, useCertificates } from '../helpers/certificates.ts'
import { start } from '../helpers/command.ts'
import { useExamples } from '../helpers/examples.ts'
import { needs, run } from '../helpers/programs.ts'
import { rawClient, readToEnd } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'
import { until } from '../helpers/until.ts'

const HOST = '127.0.0.1'

describe('starttls-smtp', function () {
  this.timeout(60_000)
  const scope = useScope()
  const { startServer } = useExamples(scope)
  let made: Certificates

  before(function () {
    made = useCertificates(this)
  })

  const file = (name: string): string => join(made.directory, name)

  const mailServer = () => startServer('starttls-smtp', file('a.pem'), file('a.key'), '0')

  it('takes a mail of swaks, which verifies it, over TLS', async function () {
    needs(this, 'swaks')
    const server = await mailServer()
    const args = ['--server', `${HOST}:${server.port}`, '--tls', '--tls-verify', '--tls-ca-path', file('ca.pem')]
    const mail = ['--from', 'c@d.test', '--to', 'a@b.test', '--helo', 'x', '--body', 'Hello, world']
    const { code, stdout, stderr } = await run('swaks', [...args, ...mail])
    if (/SSL.*not available|Net::SSLeay|TLS not available/i.test(stdout + stderr)) return this.skip()
    expect(code, stdout + stderr).to.equal(0)
    expect(await server.line()).to.match(/^FROM:<c@d\.test> TO:<a@b\.test>: \d+ characters over TLSv1\.3$/)
    expect(stdout).to.match(/TLS started with cipher TLSv1\.3/)
  })

  it('takes a mail of msmtp, which verifies it, over TLS, and none from one that does not start it', async function () {
    needs(this, 'msmtp')
    const server = await mailServer()
    const to = [
      '--host=localhost',
      `--port=${server.port}`,
      '--domain=x',
      '--from=c@d.test',
      '--auth=off',
      '--timeout=20',
      '--file=/dev/null'
    ]
    const input = 'Subject: greetings\n\nHello, world\n.a line with a dot\n'
    const secured = [...to, '--tls=on', '--tls-starttls=on', `--tls-trust-file=${file('ca.pem')}`, 'a@b.test']
    const { code, stdout, stderr } = await run('msmtp', secured, { input })
    expect(code, stdout + stderr).to.equal(0)
    expect(await server.line()).to.match(/^FROM:<c@d\.test> TO:<a@b\.test>: \d+ characters over TLSv1\.3$/)
    const unknown = [...to, '--tls=on', '--tls-starttls=on', `--tls-trust-file=${file('strangers-ca.pem')}`, 'a@b.test']
    expect((await run('msmtp', unknown, { input })).stderr).to.include('certificate verification failed')
    const plain = await run('msmtp', [...to, '--tls=off', 'a@b.test'], { input })
    expect(plain.code).to.not.equal(0)
    expect(plain.stderr).to.include('530 say STARTTLS first')
  })

  it('refuses a mail of swaks without TLS', async function () {
    needs(this, 'swaks')
    const server = await mailServer()
    const { code, stdout } = await run('swaks', [
      '--server',
      `${HOST}:${server.port}`,
      '--from',
      'c@d.test',
      '--to',
      'a@b.test',
      '--helo',
      'x'
    ])
    // 23: MAIL was refused.
    expect(code).to.equal(23)
    expect(stdout).to.include('530 say STARTTLS first')
  })

  it('speaks with openssl s_client -starttls smtp', async () => {
    const server = await mailServer()
    const args = ['s_client', '-starttls', 'smtp', '-connect', `${HOST}:${server.port}`, '-servername', 'a.test', '-CAfile', file('ca.pem')]
    const client = start(scope, 'openssl', [...args, '-verify_return_error', '-quiet', '-crlf'])
    await until(() => client.stderr.includes('verify return'), 'the handshake is done')
    client.child.stdin?.write('EHLO y\n')
    await until(() => client.stdout.includes('250 localhost'), 'it greets')
    client.child.stdin?.write('QUIT\n')
    await until(() => client.stdout.includes('221 bye'), 'it says bye')
  })

  it('ends a message at CRLF, a dot and CRLF alone: what stands behind another kind of line is part of it, and no command', async () => {
    const server = await mailServer()
    const ca = readFileSync(file('ca.pem'))
    await withConnection(toHostAndPort(HOST, server.port), async (connection) => {
      const { reader, writer } = connection
      const say = async (line: string): Promise<string | null> => {
        writer.write(`${line}\r\n`)
        return await reader.readLine({ ending: 'crlf', timeout: 10_000 })
      }
      await reader.readLine()
      expect(await say('STARTTLS')).to.equal('220 go ahead')
      await connection.startTls({ ca, serverName: 'a.test' })
      for (const end of ['\n.\n', '\n.\r\n', '\r\n.\n', '\r.\r', '\r\n.\r', '\r\n\0.\r\n']) {
        const message = `hello${end}MAIL FROM:<forged@d.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nforged`
        expect(await say('MAIL FROM:<c@d.test>')).to.equal('250 fine')
        expect(await say('RCPT TO:<a@b.test>')).to.equal('250 fine')
        expect(await say('DATA')).to.equal('354 end with a dot')
        expect(await say(`${message}\r\n.`)).to.equal('250 taken')
        const stuffed = end.startsWith('\r\n.') ? 1 : 0
        expect(await server.line()).to.equal(`FROM:<c@d.test> TO:<a@b.test>: ${message.length + 2 - stuffed} characters over TLSv1.3`)
      }
      expect(await say('QUIT')).to.equal('221 bye')
    })
  })

  it('takes no command that was slipped in behind STARTTLS in clear', async () => {
    const server = await mailServer()
    const attacker = await rawClient(scope, server.port)
    attacker.write('EHLO x\r\nSTARTTLS\r\nMAIL FROM:<evil@d.test>\r\n')
    const received = await readToEnd(attacker).catch((error: Error) => error)
    expect(String(received)).to.not.include('250 fine')
    await until(() => server.complaints().startsWith('Cannot secure the connection'), 'the handshake has failed')
  })
})
