import { once } from 'node:events'
import { inspect } from 'node:util'
import { expect } from 'chai'
import {
  type ConnectionCloseMessage,
  type ConnectionOpenMessage,
  type ConnectionTls,
  connect,
  onPortChosenByOs,
  Server,
  type ServerGateMessage,
  type ServerHandlerEndMessage,
  type ServerHandlerErrorMessage,
  type ServerLimitMessage,
  TlsContext,
  toHostAndPort
} from '../src/index.ts'
import { useCertificates } from './helpers/certificates.ts'
import { collect } from './helpers/channels.ts'
import { turns, until } from './helpers/until.ts'

const LOCAL = { host: '127.0.0.1' }

describe('diagnostics channels', () => {
  it('it-tcp.connection.open tells of each end of a connection', async () => {
    using opened = collect<ConnectionOpenMessage>('it-tcp.connection.open')
    await using server = await Server.create(onPortChosenByOs(LOCAL), ({ reader, writer }) => writer(reader))
    const connection = await connect(toHostAndPort('127.0.0.1', server.listeningOn))
    connection.writer.write('x')
    await connection.reader.read()
    await connection.close()
    expect(opened.map(({ isAccepted }) => isAccepted)).to.have.members([true, false])
    const dialled = opened.find(({ isAccepted }) => !isAccepted)
    expect(dialled?.remoteAddress).to.deep.equal(server.address)
    expect(dialled?.socket).to.equal(connection.socket)
  })

  it('it-tcp.connection.close tells bytes, duration and the reason', async () => {
    using closed = collect<ConnectionCloseMessage>('it-tcp.connection.close')
    const server = await Server.create(onPortChosenByOs(LOCAL), ({ reader, writer }) => writer(reader))
    const connection = await connect(toHostAndPort('127.0.0.1', server.listeningOn))
    connection.writer.write('hello')
    await connection.reader.readExactly(5)
    await connection.close()
    await server.close()
    await server.finished
    expect(closed).to.have.lengthOf(2)
    for (const message of closed) {
      expect(message).to.include({ bytesRead: 5, bytesWritten: 5 })
      expect(message.duration).to.be.at.least(0)
    }
    expect(closed.find(({ isAccepted }) => !isAccepted)?.reason).to.equal(connection.signal.reason)
  })

  it('it-tcp.connection.close and console.log tell what TLS has agreed on, and no keys', async function () {
    const made = useCertificates(this)
    using closed = collect<ConnectionCloseMessage>('it-tcp.connection.close')
    const tls = TlsContext.create({ ...made.a, alpn: ['imap'] })
    await using server = await Server.create(onPortChosenByOs(LOCAL), { tls }, ({ reader }) => reader.discard())
    const options = { ca: made.ca.cert, serverName: 'a.test', alpn: ['imap'] }
    const connection = await connect(toHostAndPort('127.0.0.1', server.listeningOn), { tls: options })
    const { cipher } = connection.tls as ConnectionTls
    expect(inspect(connection)).to.match(new RegExp(`, open, TLSv1\\.3 to a\\.test with ${cipher} for imap, read: 0, `))
    await connection.close()
    await until(() => closed.length === 2)
    for (const message of closed) {
      expect(message.tls).to.include({ version: 'TLSv1.3', cipher, alpn: 'imap', serverName: 'a.test', isAuthorized: !message.isAccepted })
      expect(message.tls).to.not.have.any.keys('exportKeyingMaterial')
    }
    expect(closed.find(({ isAccepted }) => !isAccepted)?.tls?.peerCertificate?.subject).to.equal('CN=a.test')
    await using plain = await Server.create(onPortChosenByOs(LOCAL), ({ reader }) => reader.discard())
    await (await connect(toHostAndPort('127.0.0.1', plain.listeningOn))).close()
    await until(() => closed.length === 4)
    expect(closed.slice(2).map((message) => message.tls)).to.deep.equal([null, null])
  })

  it('it-tcp.connection.close knows no duration of a connection opened before anyone subscribed', async () => {
    await using server = await Server.create(onPortChosenByOs(LOCAL), ({ reader }) => reader.discard())
    const connection = await connect(toHostAndPort('127.0.0.1', server.listeningOn))
    using closed = collect<ConnectionCloseMessage>('it-tcp.connection.close')
    await connection.close()
    expect(closed.find(({ isAccepted }) => !isAccepted)?.duration).to.equal(undefined)
  })

  it('it-tcp.server.limit tells each time the last slot is taken', async () => {
    using limits = collect<ServerLimitMessage>('it-tcp.server.limit')
    await using server = await Server.create(onPortChosenByOs(LOCAL), { maxConnections: 1 }, ({ reader }) => reader.discard())
    for (let i = 0; i < 2; i++) {
      const connection = await connect(toHostAndPort('127.0.0.1', server.listeningOn))
      await connection.close()
    }
    expect(limits).to.deep.equal([
      { server, address: server.address, maxConnections: 1 },
      { server, address: server.address, maxConnections: 1 }
    ])
  })

  it('it-tcp.server.handler-error tells of errors that the policy ignores', async () => {
    using errors = collect<ServerHandlerErrorMessage>('it-tcp.server.handler-error')
    const error = new Error('told')
    await using server = await Server.create(onPortChosenByOs(LOCAL), { onHandlerError: 'ignore' }, () => {
      throw error
    })
    const connection = await connect(toHostAndPort('127.0.0.1', server.listeningOn))
    await connection.reader.discard()
    await connection.close()
    expect(errors).to.deep.equal([{ server, address: server.address, remoteAddress: connection.localAddress, error }])
  })

  it('it-tcp.connection.open and .close tell which server accepted it', async () => {
    using opened = collect<ConnectionOpenMessage>('it-tcp.connection.open')
    using closed = collect<ConnectionCloseMessage>('it-tcp.connection.close')
    await using server = await Server.create(onPortChosenByOs(LOCAL), ({ reader }) => reader.discard())
    const connection = await connect(toHostAndPort('127.0.0.1', server.listeningOn))
    await connection.close()
    await server.close()
    await server.finished
    for (const messages of [opened, closed]) {
      expect(messages.find(({ isAccepted }) => isAccepted)?.server).to.equal(server)
      expect(messages.find(({ isAccepted }) => !isAccepted)?.server).to.equal(null)
    }
  })

  it('it-tcp.server.gate tells when clients are accepted and when they wait', async () => {
    using gates = collect<ServerGateMessage>('it-tcp.server.gate')
    const states = (): boolean[] => gates.map(({ isOpen }) => isOpen)
    const server = await Server.create(onPortChosenByOs(LOCAL), { maxConnections: 1 }, ({ reader }) => reader.discard())
    expect(gates).to.deep.equal([{ server, address: server.address, isOpen: true }])
    const connection = await connect(toHostAndPort('127.0.0.1', server.listeningOn))
    await until(() => server.numConnections === 1)
    expect(states()).to.deep.equal([true, false])
    await connection.close()
    await until(() => server.numConnections === 0)
    expect(states()).to.deep.equal([true, false, true])
    await server.close()
    expect(states()).to.deep.equal([true, false, true, false])
  })

  it('it-tcp.server.handler-end tells of handlers that ended well and of those that failed', async () => {
    using ends = collect<ServerHandlerEndMessage>('it-tcp.server.handler-end')
    await using server = await Server.create(onPortChosenByOs(LOCAL), { onHandlerError: 'ignore' }, async ({ reader }) => {
      if ((await reader.readLine()) === 'fail') throw new Error('failed')
    })
    const addresses: unknown[] = []
    for (const line of ['end\n', 'fail\n']) {
      const connection = await connect(toHostAndPort('127.0.0.1', server.listeningOn))
      addresses.push(connection.localAddress)
      connection.writer.write(line)
      await connection.close()
    }
    await until(() => ends.length === 2)
    expect(ends).to.deep.equal([
      { server, address: server.address, remoteAddress: addresses[0], hasFailed: false },
      { server, address: server.address, remoteAddress: addresses[1], hasFailed: true }
    ])
  })

  for (const maxConnections of [1, 2]) {
    it(`a warning names the server and its limit, and claims no clients that nobody has seen: ${maxConnections}`, async () => {
      const warned = once(process, 'warning')
      await using server = await Server.create(onPortChosenByOs(LOCAL), { maxConnections }, ({ reader }) => reader.discard())
      const where = toHostAndPort('127.0.0.1', server.listeningOn)
      const connections = await Promise.all(Array.from({ length: maxConnections }, () => connect(where)))
      const [warning] = await warned
      const limit = maxConnections === 1 ? '1 connection' : '2 connections'
      expect(warning).to.have.property('code', 'IT_TCP_AT_LIMIT')
      expect(warning.message).to.equal(`Server on 127.0.0.1:${server.listeningOn} has reached its limit of ${limit}; further clients wait`)
      for (const connection of connections) await connection.close()
    })
  }

  it('warnAtLimit: false leaves the warning out, and the channel as it is', async () => {
    using limits = collect<ServerLimitMessage>('it-tcp.server.limit')
    const warnings: Error[] = []
    const note = (warning: Error): void => void warnings.push(warning)
    process.on('warning', note)
    const options = { maxConnections: 1, warnAtLimit: false }
    await using server = await Server.create(onPortChosenByOs(LOCAL), options, ({ reader }) => reader.discard())
    const connection = await connect(toHostAndPort('127.0.0.1', server.listeningOn))
    await until(() => limits.length === 1)
    await connection.close()
    await turns(3)
    process.off('warning', note)
    expect(warnings).to.deep.equal([])
  })
})
