import { expect } from 'chai'
import type { InetAddress, SocketAddress } from '../../src/address.ts'
import { connect } from '../../src/connect.ts'
import type { Connection } from '../../src/connection.ts'
import type { ServerTurnedAwayMessage } from '../../src/diagnostics.ts'
import { HandshakeTimeoutError, TlsError } from '../../src/errors.ts'
import { listen } from '../../src/listen.ts'
import type { ServerOptions } from '../../src/options.ts'
import { formatProxyHeader } from '../../src/proxy-header.ts'
import { Server } from '../../src/server.ts'
import type { TlsContext } from '../../src/tls-context.ts'
import { toHostAndPort } from '../../src/where-to-connect.ts'
import { onPort } from '../../src/where-to-listen.ts'
import { type Certificates, useCertificates } from '../helpers/certificates.ts'
import { collect } from '../helpers/channels.ts'
import { rawClient } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { closed, type Handler } from '../helpers/settings.ts'
import { VERSIONS } from '../helpers/tls-ends.ts'
import { clientOptions, serverContext } from '../helpers/tls-pair.ts'
import { turns, until } from '../helpers/until.ts'

for (const version of VERSIONS) {
  describe(`Server: tls, over ${version}`, () => {
    let made: Certificates
    let context: TlsContext

    before(function () {
      made = useCertificates(this)
      context = serverContext(made, { version })
    })

    const scope = useScope()

    const create = async (options: ServerOptions<InetAddress>, handler: Handler): Promise<Server<InetAddress, number>> => {
      const server = await Server.create(onPort(0, { host: '127.0.0.1' }), { tls: context, ...options }, handler)
      scope.defer(() => server.close({ closeExistingConnections: true }))
      return server
    }
    const client = async ({ listeningOn }: { readonly listeningOn: number }): Promise<Connection> => {
      const connection = await connect(toHostAndPort('127.0.0.1', listeningOn), { tls: clientOptions(made) })
      scope.defer(() => connection.abort())
      return connection
    }

    it('the handler runs when the handshake is done, and reads and writes in the clear of both ends', async () => {
      const seen: unknown[] = []
      const server = await create({}, async ({ reader, writer, tls }) => {
        seen.push(tls?.version, tls?.serverName)
        await writer(reader)
      })
      const connection = await client(server)
      connection.writer.write('hello\n')
      expect(await connection.reader.readLine()).to.equal('hello')
      expect(seen).to.deep.equal([version, 'a.test'])
      await connection.close()
      await until(() => server.numConnections === 0)
      expect(server.statistics()).to.deep.include({ accepted: 1, served: 1, handlerErrors: 0 })
    })

    it('a client that speaks no TLS is turned away with TlsError: nothing is raised, and the next is served', async () => {
      using messages = collect<ServerTurnedAwayMessage>('it-tcp.server.turned-away')
      let handled = 0
      const server = await create({}, () => handled++)
      const stranger = await rawClient(scope, server.listeningOn)
      stranger.write('GET / HTTP/1.1\r\n\r\n')
      // It may be told by an alert, an end or a reset.
      stranger.on('end', () => stranger.destroy()).resume()
      await closed(stranger)
      await until(() => server.numConnections === 0)
      expect([handled, server.isClosed, server.statistics().turnedAway.handshake]).to.deep.equal([0, false, 1])
      expect(messages.map(({ step, error }) => [step, error instanceof TlsError])).to.deep.equal([['handshake', true]])
      await client(server)
      await until(() => handled === 1)
    })

    it('a client that leaves in the handshake is turned away, and goes to a callback', async () => {
      const reports: unknown[] = []
      const server = await create({ onHandlerError: (_, error) => reports.push(error) }, () => {})
      const stranger = await rawClient(scope, server.listeningOn)
      await until(() => server.numConnections === 1)
      stranger.resetAndDestroy()
      await until(() => reports.length === 1 && server.numConnections === 0)
      expect(reports[0]).to.be.instanceOf(TlsError)
    })

    it('one that never says hello holds up nobody, and is turned away at handshakeTimeout', async () => {
      const reports: [SocketAddress, unknown][] = []
      let handled = 0
      const server = await create({ handshakeTimeout: 300, onHandlerError: (...report) => reports.push(report) }, () => handled++)
      const silent = await rawClient(scope, server.listeningOn)
      const { localPort } = silent
      await client(server)
      await until(() => handled === 1)
      expect(reports).to.deep.equal([])
      await until(() => reports.length === 1)
      expect(reports[0]?.[0]).to.have.property('port', localPort)
      expect(reports[0]?.[1]).to.be.instanceOf(HandshakeTimeoutError)
      expect(server.statistics().turnedAway.handshake).to.equal(1)
    })

    it('a pull gets the client that is ready first', async () => {
      const server = await listen(onPort(0, { host: '127.0.0.1' }), { tls: context })
      scope.defer(() => server.close({ closeExistingConnections: true }))
      const pulled = server.accept()
      await rawClient(scope, server.listeningOn)
      const connection = await client(server)
      const accepted = await pulled
      expect(accepted.remoteAddress).to.deep.equal(connection.localAddress)
      expect(accepted.tls?.version).to.equal(version)
    })

    it('behind a PROXY header: the address is the client’s, and the ClientHello may come with the header', async () => {
      const source: InetAddress = { family: 'IPv4', address: '192.0.2.7', port: 4711 }
      const seen: Connection[] = []
      const server = await create({ proxyProtocol: { from: ['127.0.0.1'] } }, (connection) => {
        seen.push(connection)
        return connection.reader.discard()
      })
      const connection = await connect(toHostAndPort('127.0.0.1', server.listeningOn))
      scope.defer(() => connection.abort())
      connection.writer.write(formatProxyHeader({ source, destination: server.address }))
      await connection.startTls(clientOptions(made))
      connection.writer.write('hello')
      await until(() => seen[0]?.reader.bytesRead === 5)
      expect(seen[0]?.remoteAddress).to.deep.equal(source)
      expect(seen[0]?.tls?.version).to.equal(version)
    })

    it('a server that closes drops a client in the handshake', async () => {
      const server = await create({}, () => {})
      const silent = await rawClient(scope, server.listeningOn)
      await until(() => server.numConnections === 1)
      await server.close()
      await Promise.all([server.finished, closed(silent.resume())])
      expect(server.statistics()).to.deep.include({ accepted: 1, dropped: 1, connections: 0 })
      server.invariant()
    })

    it('a handler whose client breaks the TLS of its connection has not failed', async () => {
      const errors: unknown[] = []
      const server = await Server.create(onPort(0, { host: '127.0.0.1' }), async (connection) => {
        await connection.startTls(context).catch((error) => {
          errors.push(error)
          throw error
        })
      })
      scope.defer(() => server.close({ closeExistingConnections: true }))
      const stranger = await rawClient(scope, server.listeningOn)
      stranger.write('nonsense that is no ClientHello at all\r\n')
      await until(() => errors.length === 1 && server.numConnections === 0)
      await turns()
      expect(errors[0]).to.be.instanceOf(TlsError)
      expect(server.isClosed).to.equal(false)
    })

    it('what is no TlsContext is refused', async () => {
      const error = await rejection(listen(onPort(0), { tls: { cert: '', key: '' } as never }))
      expect(error).to.be.instanceOf(TypeError)
      expect(error).to.have.property('message').that.includes("Cannot listen as 'tls' must be made by TlsContext.create: received")
    })
  })
}
