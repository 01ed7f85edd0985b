import { once } from 'node:events'
import { type TLSSocket, connect as tlsConnect } from 'node:tls'
import { expect } from 'chai'
import {
  type Connection,
  connect,
  type InetAddress,
  onPort,
  Server,
  type ServerOptions,
  TlsContext,
  toHostAndPort
} from '../../src/index.ts'
import { type Certificates, useCertificates } from '../helpers/certificates.ts'
import { descriptors } from '../helpers/descriptors.ts'
import { closeAtEnd, rawClient } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'
import { CAN_GATE_IN_KERNEL, type Handler } from '../helpers/settings.ts'
import { VERSIONS } from '../helpers/tls-ends.ts'
import { clientOptions, serverContext } from '../helpers/tls-pair.ts'
import { startTlsClient } from '../helpers/tls-peer.ts'
import { turns, until } from '../helpers/until.ts'

const HOST = '127.0.0.1'
const BULK = Buffer.alloc(300_000, 'x')
// More than the buffers of two sockets hold.
const TOO_MUCH = Buffer.alloc(16_000_000, 'x')

// What goes wrong over TLS with others, and must not here.
for (const version of VERSIONS) {
  describe(`Faults of others, over ${version}`, function () {
    this.timeout(30_000)
    const scope = useScope()
    let made: Certificates
    let context: TlsContext

    before(function () {
      made = useCertificates(this)
      context = serverContext(made, { version })
    })

    const create = async (options: ServerOptions<InetAddress>, handler: Handler): Promise<Server<InetAddress, number>> => {
      const server = await Server.create(onPort(0, { host: HOST }), { tls: context, ...options }, handler)
      scope.defer(() => server.close({ closeExistingConnections: true }))
      return server
    }
    const dial = async ({ listeningOn }: { readonly listeningOn: number }): Promise<Connection> => {
      const connection = await connect(toHostAndPort(HOST, listeningOn), { tls: clientOptions(made) })
      scope.defer(() => connection.abort())
      return connection
    }
    /** A client of `node:tls`, that is paused. */
    const foreign = async ({ listeningOn }: { readonly listeningOn: number }): Promise<TLSSocket> => {
      const options = { port: listeningOn, host: HOST, ca: made.ca.cert, servername: 'a.test', allowHalfOpen: true }
      const socket = tlsConnect(options)
      closeAtEnd(scope, socket)
      await once(socket, 'secureConnect')
      return socket
    }

    it('100 silent clients at limit 100 keep client 101 out no longer than the deadline', async function () {
      this.timeout(30_000)
      let handled = 0
      const errors: unknown[] = []
      const limits = {
        maxConnections: 100,
        handshakeTimeout: 700,
        warnAtLimit: false,
        onHandlerError: (_: unknown, e: unknown) => errors.push(e)
      }
      const server = await create(limits, async ({ reader, writer }) => {
        handled++
        await writer(reader)
      })
      await Promise.all(Array.from({ length: 100 }, () => rawClient(scope, server.listeningOn)))
      await until(() => server.numConnections === 100, 'all places are taken')
      const before = descriptors()
      const dialled = dial(server)
      await turns(5)
      if (CAN_GATE_IN_KERNEL) expect(descriptors() - before, 'the client’s own').to.be.at.most(1)
      expect(handled).to.equal(0)
      const last = await dialled
      last.writer.write('hello\n')
      expect(await last.reader.readLine({ timeout: 5_000 })).to.equal('hello')
      await until(() => errors.length === 100, 'all others are turned away')
      expect(server.statistics().turnedAway.handshake).to.equal(100)
    })

    it('no more handlers run than maxConnections, however slow handshakes are', async () => {
      let [running, most, total] = [0, 0, 0]
      const server = await create(
        {
          maxConnections: 3,
          warnAtLimit: false,
          tls: TlsContext.create({
            ...made.a,
            minVersion: version,
            secureContext: { maxVersion: version },
            contextFor: async () => {
              await turns(3)
              return undefined
            }
          })
        },
        async ({ reader }) => {
          most = Math.max(most, ++running)
          expect(server.numConnections).to.be.at.most(3)
          await reader.readLine()
          running--
          total++
        }
      )
      await Promise.all(
        Array.from({ length: 20 }, async () => {
          const connection = await dial(server)
          connection.writer.write('bye\n')
          await connection.close()
        })
      )
      await until(() => total === 20, 'all have been served')
      expect(most).to.be.at.most(3)
    })

    it('a thousand clients that break off in the handshake leave no descriptor and no slot', async () => {
      const errors: unknown[] = []
      const server = await create({ onHandlerError: (_, error) => errors.push(error) }, () => {})
      const hello = Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3])
      const before = descriptors()
      for (let round = 0; round < 50; round++) {
        const clients = await Promise.all(Array.from({ length: 20 }, () => rawClient(scope, server.listeningOn)))
        // One that has gone before it is accepted has no address, and is nobody's client.
        await until(() => server.statistics().accepted === 20 * (round + 1), 'all are accepted')
        for (const [index, client] of clients.entries()) {
          client.resume()
          if (index % 4 === 0) client.resetAndDestroy()
          else if (index % 4 === 1) client.end()
          else if (index % 4 === 2) client.end(hello)
          else client.write('GET / HTTP/1.1\r\n\r\n')
        }
        await until(() => errors.length === 20 * (round + 1), 'all are turned away')
        for (const client of clients) client.destroy()
      }
      await until(() => server.numConnections === 0 && descriptors() === before, 'nothing is open')
      expect(server.isClosed).to.equal(false)
    })

    it('the last 300 KB of a client that never reads, and leaves with tickets unread, arrive', async () => {
      const received: number[] = []
      const server = await create({}, async ({ reader, writer }) => {
        writer.write('a greeting that nobody reads')
        received.push((await reader.readAll({ maxLength: Number.POSITIVE_INFINITY })).byteLength)
      })
      const ours = await dial(server)
      ours.writer.write(BULK)
      await ours.close()
      const theirs = await foreign(server)
      theirs.end(BULK)
      await until(() => received.length === 2, 'both are read')
      expect(received).to.deep.equal([BULK.length, BULK.length])
    })

    it('the peer’s end while our write waits does not cost a byte of it', async () => {
      const server = await create({}, async ({ reader, writer }) => {
        writer.write(TOO_MUCH)
        expect(await reader.readAll({ maxLength: 10 })).to.have.length(3)
        expect(writer.bytesPending).to.be.greaterThan(0)
        await writer.close()
      })
      const client = await foreign(server)
      client.end('bye')
      await once(client, 'finish')
      await turns(20)
      let length = 0
      client.on('data', (chunk: Buffer) => {
        length += chunk.length
      })
      await once(client, 'end')
      expect(length).to.equal(TOO_MUCH.length)
    })

    it('what was not read yet when the peer ended is read all the same', async () => {
      const connections: Connection[] = []
      const server = await create({}, async (connection) => {
        connections.push(connection)
        await connection.closed
      })
      const client = await foreign(server)
      client.end(BULK)
      await until(() => connections.length === 1, 'it is served')
      await turns(50)
      const reader = (connections[0] as Connection).reader
      expect((await reader.readAll({ maxLength: 1_000_000 })).byteLength).to.equal(BULK.length)
      expect(await reader.read()).to.equal(null)
    })

    for (const closeNotify of ['required', 'optional'] as const) {
      it(`clients that are gone when their session tickets are sent keep no slot, and no flush waits for them (closeNotify ${closeNotify})`, async () => {
        const tls = serverContext(made, { version, server: { closeNotify } })
        let served = 0
        const server = await create({ tls, maxConnections: 4 }, async ({ reader, writer }) => {
          served++
          // Both a handler that ends with the peer, and one that goes on writing.
          await reader.discard().catch(() => {})
          if (served % 2 === 0) return
          for (let round = 0; round < 5; round++) {
            writer.write('anybody there?')
            await writer.flushed()
          }
        })
        for (let round = 0; round < 40; round++) {
          const socket = await rawClient(scope, server.listeningOn)
          const client = startTlsClient(socket, version)
          await once(client, 'secureConnect')
          if (round % 4 < 2) client.write('x')
          // Node.js 26 has not sent the last of the handshake before.
          if (round % 8 < 4) await turns(1)
          client.resetAndDestroy()
        }
        const client = await foreign(server)
        client.resume().end('the last')
        await once(client, 'close')
        await until(() => server.numConnections === 0, 'no slot is taken')
        expect(served).to.be.greaterThan(10)
        expect(server.isClosed).to.equal(false)
      })
    }

    it('contextFor is asked each time: no answer is kept', async () => {
      const contexts = [made.a, made.a2].map((issued) => serverContext(made, { version, server: issued }))
      let asked = 0
      const tls = TlsContext.create({ ...made.rsa, contextFor: () => contexts[asked++ % 2] })
      const server = await create({ tls }, ({ reader }) => reader.discard())
      const shown: unknown[] = []
      for (let visit = 0; visit < 4; visit++) {
        const client = await foreign(server)
        shown.push(client.getPeerX509Certificate()?.toString())
      }
      expect(shown.map((cert) => [made.a.cert, made.a2.cert].findIndex((one) => one.includes(String(cert).trim())))).to.deep.equal([
        0, 1, 0, 1
      ])
    })
  })
}
