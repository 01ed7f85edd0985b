import diagnosticsChannel from 'node:diagnostics_channel'
import { expect } from 'chai'
import {
  type ConnectionCloseMessage,
  type ConnectionOpenMessage,
  connect,
  onPortChosenByOs,
  Server,
  type ServerHandlerErrorMessage,
  type ServerLimitMessage,
  toHostAndPort
} from '../src/index.ts'

const LOCAL = { host: '127.0.0.1' }

/** Collects what is published on `name` until it is disposed. */
function collect<T>(name: string): { messages: T[] } & Disposable {
  const messages: T[] = []
  const listener = (message: unknown): void => void messages.push(message as T)
  diagnosticsChannel.subscribe(name, listener)
  return { messages, [Symbol.dispose]: () => void diagnosticsChannel.unsubscribe(name, listener) }
}

describe('diagnostics channels', () => {
  it('it-tcp.connection.open tells of each end of a connection', async () => {
    using opened = collect<ConnectionOpenMessage>('it-tcp.connection.open')
    await using server = await Server.create(onPortChosenByOs(LOCAL), ({ reader, writer }) => writer(reader))
    const connection = await connect(toHostAndPort('127.0.0.1', server.listeningOn))
    connection.writer.write('x')
    await connection.reader.read()
    await connection.close()
    expect(opened.messages.map(({ isAccepted }) => isAccepted)).to.have.members([true, false])
    const dialled = opened.messages.find(({ isAccepted }) => !isAccepted)
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
    expect(closed.messages).to.have.lengthOf(2)
    for (const message of closed.messages) {
      expect(message).to.include({ bytesRead: 5, bytesWritten: 5 })
      expect(message.duration).to.be.at.least(0)
    }
    expect(closed.messages.find(({ isAccepted }) => !isAccepted)?.reason).to.equal(connection.signal.reason)
  })

  it('it-tcp.connection.close knows no duration of a connection opened before anyone subscribed', async () => {
    await using server = await Server.create(onPortChosenByOs(LOCAL), ({ reader }) => reader.discard())
    const connection = await connect(toHostAndPort('127.0.0.1', server.listeningOn))
    using closed = collect<ConnectionCloseMessage>('it-tcp.connection.close')
    await connection.close()
    expect(closed.messages.find(({ isAccepted }) => !isAccepted)?.duration).to.equal(undefined)
  })

  it('it-tcp.server.limit tells each time the last slot is taken', async () => {
    using limits = collect<ServerLimitMessage>('it-tcp.server.limit')
    await using server = await Server.create(onPortChosenByOs(LOCAL), { maxConnections: 1 }, ({ reader }) => reader.discard())
    for (let i = 0; i < 2; i++) {
      const connection = await connect(toHostAndPort('127.0.0.1', server.listeningOn))
      await connection.close()
    }
    expect(limits.messages).to.deep.equal([
      { address: server.address, maxConnections: 1 },
      { address: server.address, maxConnections: 1 }
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
    expect(errors.messages).to.deep.equal([{ address: server.address, remoteAddress: connection.localAddress, error }])
  })
})
