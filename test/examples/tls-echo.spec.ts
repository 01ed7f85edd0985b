import { copyFileSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { connect, type TlsClientOptions, toHostAndPort } from '../../src/index.ts'
import { type Certificates, useCertificates } from '../helpers/certificates.ts'
import { useExamples } from '../helpers/examples.ts'
import { rawClient } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { until } from '../helpers/until.ts'

describe('tls-echo', function () {
  this.timeout(30_000)
  const scope = useScope()
  const { startServer } = useExamples(scope)
  let made: Certificates

  before(function () {
    made = useCertificates(this)
  })

  /** Its files are copies, which a test may change. */
  async function serve(...more: string[]) {
    const directory = scope.tempDir()
    const issue = (name: string): void => {
      copyFileSync(join(made.directory, `${name}.pem`), join(directory, 'cert.pem'))
      copyFileSync(join(made.directory, `${name}.key`), join(directory, 'key.pem'))
    }
    issue('a')
    const server = await startServer('tls-echo', join(directory, 'cert.pem'), join(directory, 'key.pem'), '0', ...more)
    return { ...server, directory, issue }
  }

  const dial = async (port: number, more: TlsClientOptions = {}) => {
    const connection = await connect(toHostAndPort('127.0.0.1', port), { tls: { ca: made.ca.cert, serverName: 'a.test', ...more } })
    scope.defer(() => connection.abort())
    return connection
  }

  const echo = async ({ reader, writer }: Awaited<ReturnType<typeof dial>>): Promise<string | null> => {
    writer.write('hello\n')
    return await reader.readLine({ timeout: 5_000 })
  }

  it('echoes; on SIGHUP it takes over what is new, and refuses what is no good; ends on SIGINT', async () => {
    const server = await serve()
    const first = await dial(server.port)
    expect(await echo(first)).to.equal('hello')
    expect(await server.line()).to.match(/^A client over TLSv1\.3 with TLS_/)

    server.issue('a2')
    server.signal('SIGHUP')
    expect(await server.line()).to.match(/^New certificate, valid until 2/)
    // With other options, so that it does not take up the session of the first, which survives.
    const second = await dial(server.port, { alpn: ['second'] })
    expect(second.tls?.peerCertificate?.fingerprint256).to.not.equal(first.tls?.peerCertificate?.fingerprint256)
    expect(await echo(first)).to.equal('hello')

    truncateSync(join(server.directory, 'cert.pem'), 100)
    server.signal('SIGHUP')
    await until(() => server.complaints().includes('Keeping the old certificate: '), 'it says so')
    const third = await dial(server.port, { alpn: ['third'] })
    expect(third.tls?.peerCertificate?.fingerprint256).to.equal(second.tls?.peerCertificate?.fingerprint256)

    for (const connection of [first, second, third]) await connection.close()
    server.signal('SIGINT')
    expect(await server.exit).to.deep.equal({ code: 0, signal: null })
  })

  it('reports a client that speaks no TLS, and serves on', async () => {
    const server = await serve()
    const stranger = await rawClient(scope, server.port)
    stranger.write('GET / HTTP/1.1\r\n\r\n')
    await until(() => server.complaints().includes('127.0.0.1: Cannot secure the connection'), 'it is reported')
    expect(await echo(await dial(server.port))).to.equal('hello')
  })

  it('with a ca.pem serves only clients with a certificate of it', async () => {
    const server = await serve(join(made.directory, 'ca.pem'))
    expect(await echo(await dial(server.port, { ...made.client }))).to.equal('hello')
    const stranger = await dial(server.port, { secureContext: { maxVersion: 'TLSv1.2' } }).catch((error: Error) => error)
    expect(stranger).to.be.instanceOf(Error)
    const late = await dial(server.port).then(({ reader }) => rejection(reader.readLine()))
    expect((late as Error).name).to.be.oneOf(['ConnectionResetError', 'TlsError', 'TruncatedError'])
  })
})
