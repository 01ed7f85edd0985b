import type { Socket } from 'node:net'
import { inspect } from 'node:util'
import { expect } from 'chai'
import type { InetAddress, SocketAddress } from '../../src/address.ts'
import type { Connection } from '../../src/connection.ts'
import type { ConnectionOpenMessage, ServerTurnedAwayMessage } from '../../src/diagnostics.ts'
import { HandshakeTimeoutError, ProxyHeaderError } from '../../src/errors.ts'
import { listen } from '../../src/listen.ts'
import type { ServerOptions } from '../../src/options.ts'
import { formatProxyHeader } from '../../src/proxy-header.ts'
import { Server } from '../../src/server.ts'
import { onFile, onPort } from '../../src/where-to-listen.ts'
import { collect } from '../helpers/channels.ts'
import { rawClient } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { closed, type Handler } from '../helpers/settings.ts'
import { turns, until } from '../helpers/until.ts'

const SOURCE: InetAddress = { family: 'IPv4', address: '192.0.2.7', port: 4711 }
const DESTINATION: InetAddress = { family: 'IPv4', address: '198.51.100.1', port: 443 }
const HEADERS = [1, 2].map((version) => formatProxyHeader({ source: SOURCE, destination: DESTINATION, version: version as 1 | 2 }))
const FROM_HERE = { from: ['127.0.0.0/8'] }

describe('Server: proxyProtocol', () => {
  const scope = useScope()

  const create = async (options: ServerOptions<InetAddress>, handler: Handler): Promise<Server<InetAddress, number>> => {
    const server = await Server.create(onPort(0, { host: '127.0.0.1' }), { proxyProtocol: FROM_HERE, ...options }, handler)
    scope.defer(() => server.close({ closeExistingConnections: true }))
    return server
  }
  const client = async (server: { readonly listeningOn: number }, said: Uint8Array | string = ''): Promise<Socket> => {
    const socket = await rawClient(scope, server.listeningOn)
    if (said.length > 0) socket.write(said)
    return socket
  }

  describe('the addresses are the client’s and what it dialled, and via is who delivered it', () => {
    for (const [index, header] of HEADERS.entries()) {
      it(`version ${index + 1}: in handlers, and what follows is the first of the stream`, async () => {
        const seen: { connection: Connection; line: string | null; bytesRead: number }[] = []
        const server = await create({}, async (connection) => {
          const line = await connection.reader.readLine()
          seen.push({ connection, line, bytesRead: connection.reader.bytesRead })
          await connection.reader.discard()
        })
        const socket = await client(server, Buffer.concat([header, Buffer.from('hello\n')]))
        await until(() => seen.length === 1)
        const { connection, line, bytesRead } = seen[0] as (typeof seen)[number]
        expect(connection.remoteAddress).to.deep.equal(SOURCE)
        expect(connection.localAddress).to.deep.equal(DESTINATION)
        expect(connection.proxy).to.deep.include({ version: index + 1, command: 'proxy', source: SOURCE, destination: DESTINATION })
        expect(connection.proxy?.via).to.deep.equal({ family: 'IPv4', address: '127.0.0.1', port: socket.localPort })
        expect([line, bytesRead]).to.deep.equal(['hello', 6])
        server.invariant()
      })
    }

    it('byte by byte, over accept() too', async () => {
      const server = await listen(onPort(0, { host: '127.0.0.1' }), { proxyProtocol: FROM_HERE })
      scope.defer(() => server.close({ closeExistingConnections: true }))
      const pulled = server.accept()
      const socket = await client(server)
      socket.setNoDelay(true)
      for (const byte of HEADERS[1] as Uint8Array) {
        socket.write(Buffer.of(byte))
        await turns(1)
      }
      const connection = await pulled
      expect(connection.remoteAddress).to.deep.equal(SOURCE)
      expect(connection.reader.bytesRead).to.equal(0)
    })

    it('in errors’ reports and on the channels: the sender’s before the header is read, the client’s after', async () => {
      using opened = collect<ConnectionOpenMessage>('it-tcp.connection.open')
      using ended = collect<{ remoteAddress: SocketAddress }>('it-tcp.server.handler-end')
      const reports: SocketAddress[] = []
      const server = await create({ onHandlerError: (address) => reports.push(address) }, () => {
        throw new Error('failed')
      })
      const socket = await client(server, HEADERS[0])
      const { localPort } = socket
      await until(() => reports.length === 1)
      expect(reports).to.deep.equal([SOURCE])
      expect(ended.map(({ remoteAddress }) => remoteAddress)).to.deep.equal([SOURCE])
      expect(opened.map(({ remoteAddress }) => remoteAddress)).to.deep.equal([{ family: 'IPv4', address: '127.0.0.1', port: localPort }])
    })

    it('admit and the limit per address go by the client’s', async () => {
      const asked: SocketAddress[] = []
      const server = await create(
        {
          maxConnectionsPerAddress: 1,
          admit: (address) => asked.push(address) > 0
        },
        ({ reader }) => reader.discard()
      )
      const other = formatProxyHeader({ source: { ...SOURCE, address: '192.0.2.8' }, destination: DESTINATION })
      await client(server, HEADERS[0])
      await until(() => server.statistics().served === 1)
      const second = await client(server, HEADERS[1])
      await closed(second.resume())
      await client(server, other)
      await until(() => server.statistics().served === 2)
      expect(asked.map((address) => (address as InetAddress).address)).to.deep.equal(['192.0.2.7', '192.0.2.8'])
      expect(server.statistics().turnedAway).to.deep.equal({ admit: 0, perAddress: 1, proxyHeader: 0, handshake: 0 })
    })

    it('LOCAL gives the real endpoints', async () => {
      const seen: Connection[] = []
      const server = await create({}, (connection) => seen.push(connection))
      const socket = await client(server, formatProxyHeader({ command: 'local' }))
      await until(() => seen.length === 1)
      expect(seen[0]?.remoteAddress).to.deep.equal({ family: 'IPv4', address: '127.0.0.1', port: socket.localPort })
      expect(seen[0]?.localAddress).to.deep.equal(server.address)
      expect(seen[0]?.proxy?.command).to.equal('local')
    })

    it('without the option no byte is looked at, and proxy is null', async () => {
      const seen: [string | null, unknown][] = []
      const server = await Server.create(onPort(0, { host: '127.0.0.1' }), async (connection) => {
        seen.push([await connection.reader.readLine(), connection.proxy])
      })
      scope.defer(() => server.close({ closeExistingConnections: true }))
      await client(server, HEADERS[0])
      await until(() => seen.length === 1)
      expect(seen).to.deep.equal([['PROXY TCP4 192.0.2.7 198.51.100.1 4711 443', null]])
    })
  })

  describe('whoever does not start with a valid header is turned away', () => {
    for (const [what, said, message] of [
      ['another protocol', 'GET / HTTP/1.1\r\n', /must start with one/],
      ['an end before it', null, /the stream ended before it/]
    ] as const) {
      it(what, async () => {
        using messages = collect<ServerTurnedAwayMessage>('it-tcp.server.turned-away')
        const reports: [SocketAddress, unknown][] = []
        let handled = 0
        const server = await create({ onHandlerError: (...report) => reports.push(report) }, () => handled++)
        const socket = await client(server, said ?? '')
        if (said === null) socket.resume().end()
        await until(() => reports.length === 1)
        expect(reports[0]?.[1]).to.be.instanceOf(ProxyHeaderError)
        expect(reports[0]?.[1]).to.have.property('message').that.matches(message)
        expect(messages.map(({ step, error }) => [step, error])).to.deep.equal([['proxyHeader', reports[0]?.[1]]])
        expect([handled, server.statistics().turnedAway.proxyHeader, server.isClosed]).to.deep.equal([0, 1, false])
      })
    }

    it('a sender outside `from`, before a byte is read', async () => {
      const reports: unknown[] = []
      const server = await create({ proxyProtocol: { from: ['10.0.0.0/8'] }, onHandlerError: (_, error) => reports.push(error) }, () => {})
      // It may see the reset before it has connected.
      await client(server).catch(() => {})
      await until(() => reports.length === 1)
      expect(reports[0]).to.be.instanceOf(ProxyHeaderError)
      expect(reports[0]).to.have.property('message').that.includes("the sender must be one of 'from'")
    })

    it('one that is late, with HandshakeTimeoutError', async () => {
      const reports: unknown[] = []
      const server = await create({ handshakeTimeout: 30, onHandlerError: (_, error) => reports.push(error) }, () => {})
      await client(server, 'PROXY ')
      await until(() => reports.length === 1)
      expect(reports[0]).to.be.instanceOf(HandshakeTimeoutError)
      expect(server.statistics().turnedAway.proxyHeader).to.equal(1)
    })

    it('under raise nothing is raised', async () => {
      let handled = 0
      const server = await create({}, () => handled++)
      const socket = await client(server, 'nonsense\r\n')
      await closed(socket.resume())
      await client(server, HEADERS[0])
      await until(() => handled === 1)
      expect(server.isClosed).to.equal(false)
    })
  })

  it('over a unix socket an inet header leaves the real endpoints', async () => {
    const seen: Connection[] = []
    const server = await Server.create(onFile(`${scope.tempDir()}/s`), { proxyProtocol: { from: ['unix'] } }, (connection) =>
      seen.push(connection)
    )
    scope.defer(() => server.close({ closeExistingConnections: true }))
    const socket = await rawClient(scope, server.listeningOn)
    socket.write(HEADERS[1] as Uint8Array)
    await until(() => seen.length === 1)
    expect(seen[0]?.remoteAddress).to.deep.equal({ family: 'unix', path: '' })
    expect(seen[0]?.proxy?.source).to.deep.equal(SOURCE)
  })

  describe('wrong options are refused before anything happens', () => {
    for (const [value, message] of [
      [true, "Cannot listen as 'proxyProtocol' must be an object: received true"],
      [{}, "Cannot listen as 'from' must be an array of addresses and CIDR ranges, or 'anybody': received undefined"],
      [{ from: 'anybody', maxLength: -1 }, "Cannot listen as 'maxLength' must be a whole number, 1 or more: received -1"]
    ] as const) {
      it(inspect(value), async () => {
        const error = await rejection(listen(onPort(0), { proxyProtocol: value as never }))
        expect(error).to.have.property('message', message)
      })
    }
  })
})
