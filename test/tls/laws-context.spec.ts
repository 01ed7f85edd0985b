import { X509Certificate } from 'node:crypto'
import { connect as connectTls, type ConnectionOptions as NodeOptions, type TLSSocket } from 'node:tls'
import { expect } from 'chai'
import type { Connection } from '../../src/connection.ts'
import { ConnectionClosedError, HandshakeTimeoutError, TlsError } from '../../src/errors.ts'
import { listen } from '../../src/listen.ts'
import type { TlsContextOptions } from '../../src/tls.ts'
import { TlsContext } from '../../src/tls-context.ts'
import { onPortChosenByOs } from '../../src/where-to-listen.ts'
import { type Certificates, type Issued, useCertificates } from '../helpers/certificates.ts'
import { rawClient } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { VERSIONS } from '../helpers/tls-ends.ts'
import { turns } from '../helpers/until.ts'

/** What a foreign client came to. */
interface Client {
  readonly socket: TLSSocket
  /** Undefined if its handshake succeeded. */
  readonly error: NodeJS.ErrnoException | undefined
  /** The last one that it was given. */
  session: Buffer | undefined
}

for (const version of VERSIONS) {
  describe(`over ${version}`, () => {
    let made: Certificates

    before(function () {
      made = useCertificates(this)
    })

    const scope = useScope()

    const context = (identity: Issued, options: Partial<TlsContextOptions> = {}): TlsContext => {
      const { secureContext, ...rest } = options
      return TlsContext.create({ ...identity, secureContext: { ...secureContext, maxVersion: version }, ...rest })
    }

    /** A client of Node's own, and our side of its connection, before any handshake. */
    const arrive = async (options: NodeOptions = {}): Promise<{ server: Connection; client: Promise<Client> }> => {
      const listening = scope.open(await listen(onPortChosenByOs({ host: '127.0.0.1' })))
      const accepted = listening.accept()
      const raw = await rawClient(scope, listening.listeningOn)
      const server = await accepted
      scope.defer(() => {
        server.abort()
        return server.closed
      })
      const socket = connectTls({ socket: raw, ca: made.ca.cert, maxVersion: version, ...options })
      scope.defer(() => socket.destroy())
      const client = new Promise<Client>((resolve) => {
        const found: Client = { socket, error: undefined, session: undefined }
        socket.on('session', (session) => {
          found.session = session
        })
        socket.once('secureConnect', () => resolve(found))
        socket.on('error', (error) => resolve({ socket, error, session: undefined }))
      })
      return { server, client }
    }

    /** Both shake hands, and a byte goes to the client. */
    const serve = async (tls: TlsContext, options: NodeOptions = {}): Promise<{ server: Connection; client: Client }> => {
      const { server, client } = await arrive(options)
      await server.startTls(tls)
      await turns(1)
      server.writer.write('x')
      const shaken = await client
      if (shaken.error !== undefined) throw shaken.error
      await new Promise((resolve) => shaken.socket.once('data', resolve))
      return { server, client: shaken }
    }
    const subject = ({ socket }: Client): string => socket.getPeerX509Certificate()?.subject ?? 'none'

    describe('contextFor', () => {
      it('chooses by the name that the client asks for, in lower case and without a trailing dot', async () => {
        const asked: string[] = []
        const b = context(made.b)
        const tls = context(made.a, {
          async contextFor(name) {
            asked.push(name)
            await turns(1)
            return name === 'b.test' ? b : undefined
          }
        })
        const one = await serve(tls, { servername: 'b.test' })
        expect(subject(one.client)).to.equal('CN=b.test')
        expect(one.server.tls?.serverName).to.equal('b.test')
        const two = await serve(tls, { servername: 'B.Test', checkServerIdentity: () => undefined })
        expect(subject(two.client)).to.equal('CN=b.test')
        const three = await serve(tls, { servername: 'a.test' })
        expect(subject(three.client)).to.equal('CN=a.test')
        expect(asked).to.deep.equal(['b.test', 'b.test', 'a.test'])
      })

      it('is not asked without a name', async () => {
        const tls = context(made.a, {
          contextFor() {
            throw new Error('asked')
          }
        })
        const { server, client } = await serve(tls, { checkServerIdentity: () => undefined })
        expect(subject(client)).to.equal('CN=a.test')
        expect(server.tls?.serverName).to.equal(null)
      })

      it('knows the name on a resumed session too, and takes up none of another name', async () => {
        const b = context(made.b)
        const tls = context(made.a, { contextFor: (name) => (name === 'b.test' ? b : undefined) })
        const first = await serve(tls, { servername: 'a.test' })
        const { session } = first.client
        const again = await serve(tls, { servername: 'a.test', session: session as Buffer })
        expect(again.server.tls).to.include({ isResumed: true, serverName: 'a.test' })
        const other = await serve(tls, { servername: 'b.test', session: session as Buffer })
        expect(other.server.tls).to.include({ isResumed: false, serverName: 'b.test' })
      })

      it('is not needed for the name: it is known without, on a resumed session too', async () => {
        const tls = context(made.a)
        const first = await serve(tls, { servername: 'A.Test', checkServerIdentity: () => undefined })
        expect(first.server.tls).to.include({ isResumed: false, serverName: 'a.test' })
        const { session } = first.client
        const again = await serve(tls, { servername: 'A.Test', session: session as Buffer })
        expect(again.server.tls).to.include({ isResumed: true, serverName: 'a.test' })
        const unnamed = await serve(tls, { checkServerIdentity: () => undefined })
        expect(unnamed.server.tls?.serverName).to.equal(null)
        const other = await serve(tls, { servername: 'b.test', session: session as Buffer, checkServerIdentity: () => undefined })
        // That of Node.js 20 takes up sessions of other names, which before TLS 1.3 have one name.
        const isOfSession = other.server.tls?.isResumed === true && version === 'TLSv1.2'
        expect(other.server.tls?.serverName).to.equal(isOfSession ? 'a.test' : 'b.test')
        const address = await serve(tls, { servername: '1.2.3', checkServerIdentity: () => undefined })
        expect(address.server.tls?.serverName).to.equal(null)
      })

      it('all of the context that it gives holds', async () => {
        const b = context(made.b, { alpn: ['b'], clientCert: 'required', ca: made.ca.cert })
        const tls = context(made.a, { alpn: ['a'], contextFor: (name) => (name === 'b.test' ? b : undefined) })
        const good = await serve(tls, { servername: 'b.test', ALPNProtocols: ['a', 'b'], ...made.client })
        expect(good.server.tls).to.include({ alpn: 'b', isAuthorized: true })
        const { server } = await arrive({ servername: 'b.test' })
        expect(await rejection(server.startTls(tls))).to.be.instanceOf(TlsError)
        const strict = TlsContext.create({ ...made.b, minVersion: 'TLSv1.3' })
        const choosing = context(made.a, { contextFor: () => strict })
        const strictly = await arrive({ servername: 'b.test' })
        const outcome = strictly.server.startTls(choosing)
        if (version === 'TLSv1.2') expect(await rejection(outcome)).to.be.instanceOf(TlsError)
        else await outcome
      })

      it('that throws or rejects turns that client away with its error', async () => {
        const error = new Error('the database is down')
        for (const contextFor of [
          () => {
            throw error
          },
          () => Promise.reject(error)
        ]) {
          const { server, client } = await arrive({ servername: 'a.test' })
          expect(await rejection(server.startTls(context(made.a, { contextFor })))).to.equal(error)
          expect((await client).error).to.be.instanceOf(Error)
          await server.closed
        }
      })

      it('that gives nonsense turns that client away', async () => {
        const { server } = await arrive({ servername: 'a.test' })
        const error = await rejection(server.startTls(context(made.a, { contextFor: () => 'b.test' as never })))
        expect(error).to.be.instanceOf(TypeError).with.property('message').that.includes("'b.test'")
      })

      it('that never answers has until the deadline, and its answer is ignored then', async () => {
        let answer = (_context: TlsContext): void => {}
        const contextFor = (): Promise<TlsContext> =>
          new Promise((resolve) => {
            answer = resolve
          })
        const { server } = await arrive({ servername: 'a.test' })
        const tls = context(made.a, { contextFor })
        expect(await rejection(server.startTls(tls, { timeout: 30 }))).to.be.instanceOf(HandshakeTimeoutError)
        await server.closed
        answer(tls)
        await turns(3)
      })

      it('that never answers does not outlive an aborted connection', async () => {
        const { server } = await arrive({ servername: 'a.test' })
        const starting = rejection(server.startTls(context(made.a, { contextFor: () => new Promise(() => {}) })))
        await turns(5)
        server.abort('enough')
        expect(await starting).to.satisfy((error: unknown) => error === 'enough' || error instanceof ConnectionClosedError)
      })
    })

    describe('ALPN', () => {
      it('agrees on what both name, the preference being the server’s', async () => {
        const { server, client } = await serve(context(made.a, { alpn: ['imap', 'x'] }), {
          servername: 'a.test',
          ALPNProtocols: ['x', 'imap']
        })
        expect(server.tls?.alpn).to.equal('imap')
        expect(client.socket.alpnProtocol).to.equal('imap')
      })

      it('refuses a client that names none of them, and takes one that names nothing', async () => {
        const tls = context(made.a, { alpn: ['imap'] })
        const { server, client } = await arrive({ servername: 'a.test', ALPNProtocols: ['smtp'] })
        expect(await rejection(server.startTls(tls))).to.be.instanceOf(TlsError)
        expect((await client).error?.code).to.match(/NO_APPLICATION_PROTOCOL/)
        expect((await serve(tls, { servername: 'a.test' })).server.tls?.alpn).to.equal(null)
      })
    })

    describe('rotation', () => {
      it('replace holds for every handshake that starts later, with and without SNI, and open connections go on', async () => {
        const b = context(made.b)
        const tls = context(made.a, { contextFor: (name) => (name === 'b.test' ? b : undefined) })
        const serial = ({ socket }: Client): string | undefined => socket.getPeerX509Certificate()?.serialNumber
        const of = ({ cert }: Issued): string => new X509Certificate(cert).serialNumber
        const open = await serve(tls, { servername: 'a.test' })
        expect(serial(open.client)).to.equal(of(made.a))
        const begun = await arrive({ servername: 'a.test' })
        tls.replace(made.a2)
        b.replace(made.a)
        const beginning = begun.server.startTls(tls)
        await beginning
        expect(serial(await begun.client)).to.equal(of(made.a2))
        expect(serial((await serve(tls, { servername: 'a.test' })).client)).to.equal(of(made.a2))
        expect(serial((await serve(tls, { checkServerIdentity: () => undefined })).client)).to.equal(of(made.a2))
        expect(serial((await serve(tls, { servername: 'b.test', checkServerIdentity: () => undefined })).client)).to.equal(of(made.a))
        open.server.writer.write('still\n')
        expect(String(await new Promise((resolve) => open.client.socket.once('data', resolve)))).to.equal('still\n')
      })

      it('sessions survive a new certificate, and not a new ca', async () => {
        const tls = context(made.a, { clientCert: 'requested', ca: made.ca.cert })
        const { session } = (await serve(tls, { servername: 'a.test' })).client
        tls.replace(made.a2)
        expect((await serve(tls, { servername: 'a.test', session: session as Buffer })).server.tls?.isResumed).to.equal(true)
        tls.replace({ ...made.a2, ca: made.strangersCa.cert })
        expect((await serve(tls, { servername: 'a.test', session: session as Buffer })).server.tls?.isResumed).to.equal(false)
      })
    })
  })
}
