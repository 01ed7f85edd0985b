import { X509Certificate } from 'node:crypto'
import { expect } from 'chai'
import { BusyError, TlsError } from '../../src/errors.ts'
import { clientTerms } from '../../src/tls/client-options.ts'
import { sessionKey, sessions } from '../../src/tls/sessions.ts'
import type { TlsClientOptions, TlsContextOptions } from '../../src/tls.ts'
import type { TlsContext } from '../../src/tls-context.ts'
import { type Certificates, useCertificates } from '../helpers/certificates.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { VERSIONS } from '../helpers/tls-ends.ts'
import { clientOptions, plainPair, serverContext, type TlsPair } from '../helpers/tls-pair.ts'
import { turns } from '../helpers/until.ts'

for (const version of VERSIONS) {
  describe(`over ${version}`, () => {
    let made: Certificates

    before(function () {
      made = useCertificates(this)
    })

    const scope = useScope()

    interface Outcome extends TlsPair {
      readonly clientError: unknown
      readonly serverError: unknown
    }

    /** Both shake hands; either may fail. */
    const shake = async (context: TlsContext, options: TlsClientOptions | true): Promise<Outcome> => {
      const pair = await plainPair(scope)
      const error = (promise: Promise<void>): Promise<unknown> =>
        promise.then(
          () => undefined,
          (reason: unknown) => reason
        )
      const [serverError, clientError] = await Promise.all([error(pair.server.startTls(context)), error(pair.client.startTls(options))])
      return { ...pair, clientError, serverError }
    }
    const good = async (context: TlsContext, options: TlsClientOptions | true): Promise<TlsPair> => {
      const outcome = await shake(context, options)
      for (const error of [outcome.clientError, outcome.serverError]) if (error !== undefined) throw error
      // A turn later the session tickets are in front of it.
      await turns(1)
      outcome.server.writer.write('x')
      await outcome.client.reader.read()
      return outcome
    }
    const forVersion = (options: Partial<TlsContextOptions> = {}): TlsContext => serverContext(made, { version, server: options })

    describe('identity', () => {
      for (const [name, options, code] of [
        ['for another name', () => ({ serverName: 'b.test' }), 'ERR_TLS_CERT_ALTNAME_INVALID'],
        ['of an unknown authority', () => ({ ca: made.strangersCa.cert }), /SELF_SIGNED|UNABLE_TO/],
        ['that system authorities do not know', () => ({ ca: undefined }), /SELF_SIGNED|UNABLE_TO/]
      ] as const) {
        // What takes an end without close_notify for one speaks TLS over a stream.
        for (const closeNotify of ['required', 'optional'] as const)
          it(`refuses a certificate ${name}, before a byte is sent or read, where close_notify is ${closeNotify}`, async () => {
            const { serverName = 'a.test', ca = undefined } = { ca: made.ca.cert, ...options() } as TlsClientOptions
            const pair = await plainPair(scope)
            const serving = pair.server.startTls(forVersion()).then(
              () => pair.server.writer.write('secret of the server'),
              () => {}
            )
            pair.server.writer.write('')
            const starting = rejection(pair.client.startTls({ serverName, closeNotify, ...(ca !== undefined && { ca }) }))
            pair.client.writer.write('secret of the client')
            const error = await starting
            expect(error).to.be.instanceOf(TlsError).with.property('cause').that.has.property('code').that.matches(new RegExp(code))
            await serving
            await pair.client.closed
            expect(pair.client.reader.bytesRead).to.equal(0)
            await pair.server.closed.catch(() => {})
            expect(pair.server.reader.bytesRead).to.equal(0)
          })
      }

      it('takes the host dialled in every spelling of the name', async () => {
        for (const serverName of ['A.test', 'a.test.', 'LOCALHOST', 'x.wild.test', 'bücher.test']) {
          const { client, server } = await good(forVersion(), { ca: made.ca.cert, serverName })
          expect(client.tls?.isAuthorized).to.equal(true)
          expect(server.tls?.serverName).to.equal(client.tls?.serverName)
        }
      })

      it('verifies the address dialled, and asks for no name then', async () => {
        const { client, server } = await good(forVersion(), { ca: made.ca.cert })
        expect(client.tls).to.include({ isAuthorized: true, serverName: null })
        expect(server.tls).to.include({ serverName: null })
        const { clientError } = await shake(serverContext(made, { version, server: made.b }), { ca: made.ca.cert })
        expect(clientError).to.be.instanceOf(TlsError)
      })

      it('verify: false takes anybody, and says whether it could have been proved', async () => {
        const stranger = await good(forVersion(), { serverName: 'b.test', verify: false })
        expect(stranger.client.tls).to.include({ isAuthorized: false })
        expect(stranger.client.tls?.peerCertificate?.subject).to.equal('CN=a.test')
        const known = await good(forVersion(), { ...clientOptions(made), verify: false })
        expect(known.client.tls).to.include({ isAuthorized: true })
      })

      it('takes up a session, with the certificate that was verified when it began', async () => {
        const context = forVersion()
        const pair = await good(context, clientOptions(made))
        const { port } = pair.client.remoteAddress as { port: number }
        const key = sessionKey('a.test', port, clientTerms('', clientOptions(made), undefined).fingerprint)
        const kept = sessions.take(key)
        expect(kept?.certificate.fingerprint256).to.equal(new X509Certificate(made.a.cert).fingerprint256)
        // The next server is at another port: what is under test is what comes of a session, not who gets it.
        for (const end of [1, 2]) {
          const next = await plainPair(scope)
          const { port: nextPort } = next.client.remoteAddress as { port: number }
          const nextKey = sessionKey('a.test', nextPort, clientTerms('', clientOptions(made), undefined).fingerprint)
          if (end === 1) sessions.put(nextKey, kept as NonNullable<typeof kept>)
          else sessions.put(nextKey, { session: (kept as NonNullable<typeof kept>).session, certificate: new X509Certificate(made.b.cert) })
          const serving = next.server.startTls(context).catch(() => {})
          const starting = next.client.startTls(clientOptions(made))
          if (end === 1) {
            await Promise.all([serving, starting])
            expect(next.client.tls).to.include({ isResumed: true, isAuthorized: true })
            expect(next.client.tls?.peerCertificate).to.equal(kept?.certificate)
            expect(next.server.tls).to.include({ isResumed: true, serverName: 'a.test' })
          } else {
            // Of whom the session is not: the certificate that is kept with it is checked again.
            expect(await rejection(starting)).to.be.instanceOf(TlsError)
          }
          await serving
        }
      })

      it('offers no session to another name or with other options', async () => {
        const context = forVersion()
        const { client } = await good(context, clientOptions(made))
        const { port } = client.remoteAddress as { port: number }
        const print = clientTerms('', clientOptions(made), undefined).fingerprint
        const other = clientTerms('', { ...clientOptions(made), alpn: ['x'] }, undefined).fingerprint
        expect(sessions.take(sessionKey('localhost', port, print))).to.equal(undefined)
        expect(sessions.take(sessionKey('a.test', port, other))).to.equal(undefined)
        expect(sessions.take(sessionKey('a.test', port + 1, print))).to.equal(undefined)
        expect(sessions.take(sessionKey('a.test', port, print))).not.to.equal(undefined)
      })
    })

    describe('client certificates', () => {
      it("'required': the handshake ends when the certificate is verified", async () => {
        const context = forVersion({ clientCert: 'required', ca: made.ca.cert })
        const { server } = await good(context, { ...clientOptions(made), ...made.client })
        expect(server.tls).to.include({ isAuthorized: true })
        expect(server.tls?.peerCertificate?.subject).to.equal('CN=client')
      })

      for (const [name, identity] of [
        ['none', () => ({})],
        ["a stranger's", () => made.stranger]
      ] as const) {
        it(`'required': turns away a client with ${name}`, async () => {
          const context = forVersion({ clientCert: 'required', ca: made.ca.cert })
          const { server, client, clientError, serverError } = await shake(context, { ...clientOptions(made), ...identity() })
          expect(serverError).to.be.instanceOf(TlsError)
          expect(server.tls).to.equal(null)
          // Over TLS 1.3 the client may see its handshake succeed first.
          if (clientError === undefined) expect(await rejection(client.reader.read())).to.be.instanceOf(Error)
        })

        it(`'requested': leaves a client with ${name} to the handler`, async () => {
          const context = forVersion({ clientCert: 'requested', ca: made.ca.cert })
          const { server } = await good(context, { ...clientOptions(made), ...identity() })
          expect(server.tls).to.include({ isAuthorized: false })
          expect(server.tls?.peerCertificate === null).to.equal(name === 'none')
        })
      }

      it('are not asked for by default', async () => {
        const { server } = await good(forVersion(), { ...clientOptions(made), ...made.client })
        expect(server.tls).to.include({ isAuthorized: false, peerCertificate: null })
      })

      it('are known on a resumed session too', async () => {
        const context = forVersion({ clientCert: 'required', ca: made.ca.cert })
        const options = { ...clientOptions(made), ...made.client }
        const { client } = await good(context, options)
        const print = clientTerms('', options, undefined).fingerprint
        const kept = sessions.take(sessionKey('a.test', (client.remoteAddress as { port: number }).port, print))
        const next = await plainPair(scope)
        sessions.put(sessionKey('a.test', (next.client.remoteAddress as { port: number }).port, print), kept as NonNullable<typeof kept>)
        await Promise.all([next.server.startTls(context), next.client.startTls(options)])
        expect(next.server.tls).to.include({ isResumed: true, isAuthorized: true })
        expect(next.server.tls?.peerCertificate?.subject).to.equal('CN=client')
      })
    })

    it('another startTls is refused while one is under way', async () => {
      const { client } = await plainPair(scope)
      const starting = client.startTls(clientOptions(made), { timeout: 100 }).catch(() => {})
      expect(await rejection(client.startTls(clientOptions(made)))).to.be.instanceOf(BusyError)
      await starting
    })
  })
}
