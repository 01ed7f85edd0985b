import { AsyncLocalStorage } from 'node:async_hooks'
import { expect } from 'chai'
import { BufferAgeLimitError, type Connection, ConnectionClosedError, ConnectionResetError } from '../../src/index.ts'
import { connectionSettings } from '../../src/options.ts'
import { openConnection } from '../../src/stream/connection-facade.ts'
import { Wire } from '../../src/testing/wire.ts'
import { connectionPair, MemoryNetwork } from '../../src/testing.ts'
import { descriptors } from '../helpers/descriptors.ts'
import { rejection } from '../helpers/rejection.ts'
import { turns, until } from '../helpers/until.ts'

describe('connectionPair()', () => {
  it('gives two connections that are each other’s peer', async () => {
    const [client, served] = connectionPair()
    client.writer.write('ping\n')
    expect(await served.reader.readLine()).to.equal('ping')
    served.writer.write('pong\n')
    expect(await client.reader.readLine()).to.equal('pong')
    expect(client.remoteAddress).to.deep.equal(served.localAddress)
    expect(served.remoteAddress).to.deep.equal(client.localAddress)
    await Promise.all([client.close(), served.close()])
  })

  it('gives them the addresses that it is told, and chooses what is left open', async () => {
    const server = { family: 'IPv6', address: '::1', port: 25 } as const
    const [client, served] = connectionPair({ addresses: { client: { family: 'IPv4', address: '10.1.2.3', port: 0 }, server } })
    expect(client.remoteAddress).to.deep.equal(server)
    expect(served.remoteAddress).to.deep.equal({ family: 'IPv4', address: '10.1.2.3', port: 49_152 })
    client.abort()
    await served.closed
  })

  it('refuses what is wrong, quoting it', () => {
    expect(() => connectionPair({ capacity: 0 })).to.throw(RangeError, /'capacity' must be .*received 0/)
    expect(() => connectionPair({ settings: { readerBufferSize: -1 } })).to.throw(RangeError, /'readerBufferSize' must be .*received -1/)
    expect(() => connectionPair({ addresses: { client: { family: 'IPv4', address: 'here', port: 1 } } })).to.throw(TypeError, /'here'/)
    expect(() => connectionPair(1 as never)).to.throw(TypeError, /received 1/)
  })

  it('prints as connections do', async () => {
    const [client, served] = connectionPair()
    expect(String((await import('node:util')).inspect(served))).to.match(/^Connection \{ 127\.0\.0\.1:49153 <- 127\.0\.0\.1:49152, open/)
    client.abort()
    await served.closed
  })

  it('has no socket to give up', async () => {
    const [client, served] = connectionPair()
    expect(client.socket).to.equal(undefined)
    expect(await rejection(client.detach())).to.be.instanceOf(TypeError)
    client.abort()
    await served.closed
  })
})

describe('memory models what a kernel does:', () => {
  it('it takes as many bytes as it has room for while nobody reads, and the rest waits', async () => {
    const [client, served] = connectionPair({ capacity: 1000, settings: { readerBufferSize: 1 } })
    client.writer.write(new Uint8Array(5000))
    expect(client.writer.bytesPending).to.equal(4000)
    await turns()
    // One chunk is with the reader, since its buffer was empty.
    expect([client.writer.bytesPending, served.reader.bytesAvailable]).to.deep.equal([3000, 1000])
    const flushed = client.writer.flushed()
    expect((await served.reader.readExactly(4000))?.byteLength).to.equal(4000)
    await flushed
    client.abort()
    served.abort()
    await Promise.all([client.closed, served.closed])
  })

  it('what is written may be changed once it is flushed', async () => {
    const [client, served] = connectionPair()
    const bytes = new Uint8Array([1, 2, 3])
    client.writer.write(bytes)
    await client.writer.flushed()
    bytes.fill(0)
    expect(await served.reader.readExactly(3)).to.deep.equal(new Uint8Array([1, 2, 3]))
    client.abort()
    await served.closed
  })

  it('an end comes behind all bytes, and the other direction stays open', async () => {
    const [client, served] = connectionPair({ capacity: 10 })
    client.writer.write('a long question')
    const closing = client.writer.close()
    expect(Buffer.from(await served.reader.readAll()).toString()).to.equal('a long question')
    await closing
    served.writer.write('answer')
    await served.writer.close()
    expect(Buffer.from(await client.reader.readAll()).toString()).to.equal('answer')
    await Promise.all([client.closed, served.closed])
  })

  it('after a reset what has arrived is read, then comes the error, of the system’s kind', async () => {
    const [client, served] = connectionPair()
    client.writer.write('arrived')
    client.abort()
    expect(Buffer.from((await served.reader.read()) as Uint8Array).toString()).to.equal('arrived')
    const error = (await rejection(served.reader.read())) as ConnectionResetError
    expect(error).to.be.instanceOf(ConnectionResetError)
    expect(error.message).to.match(/connection reset by peer/)
    expect(error.cause).to.include({ code: 'ECONNRESET', syscall: 'read' })
    await served.closed
  })

  it('a reset discards what was not handed over', async () => {
    const [client, served] = connectionPair({ capacity: 10, settings: { readerBufferSize: 1 } })
    client.writer.write(new Uint8Array(100))
    client.abort()
    let received = 0
    const error = await rejection(
      (async () => {
        for await (const chunk of served.reader) received += chunk.byteLength
      })()
    )
    expect(error).to.be.instanceOf(ConnectionResetError)
    expect(received).to.equal(10)
  })

  it('a connection closed with input that was not read is a reset for the peer', async () => {
    const [client, served] = connectionPair()
    served.writer.write(new Uint8Array(400_000))
    await client.close({ linger: 0 })
    await served.closed
    expect(served.signal.reason).to.be.instanceOf(ConnectionResetError)
  })

  it('a socket given up with input that arrived and was not read is a reset, not an end', async () => {
    const { client, server } = new Wire(1000, { endReleased() {} })
    const address = { family: 'IPv4', address: '127.0.0.1', port: 1 } as const
    const init = { remoteAddress: address, localAddress: address, isAccepted: false }
    const connection = openConnection(client, connectionSettings('Cannot open', {}), init).facade
    connection.writer.write('unread')
    await connection.writer.flushed()
    server.destroy()
    expect(await rejection(connection.reader.read())).to.be.instanceOf(ConnectionResetError)
    await connection.closed
  })

  it('a connection closed with nothing unread is an end, and what comes later is answered with a reset', async () => {
    const [client, served] = connectionPair()
    await client.close({ linger: 0 })
    expect(await served.reader.read()).to.equal(null)
    served.writer.write('too late')
    await served.writer.flushed()
    await turns()
    expect(await served.reader.read()).to.equal(null)
    served.writer.write('more')
    expect(await rejection(served.writer.flushed())).to.be.instanceOf(ConnectionResetError)
    await served.closed
  })

  it('a write of a connection that was reset while nobody read fails, and what has arrived can be read', async () => {
    const [client, served] = connectionPair({ settings: { readerBufferSize: 1 } })
    client.writer.write('1')
    await turns()
    client.writer.write('2')
    await client.writer.flushed()
    client.abort()
    served.writer.write('into the void')
    expect(await rejection(served.writer.flushed())).to.be.instanceOf(ConnectionResetError)
    expect(Buffer.from((await served.reader.readExactly(2)) as Uint8Array).toString()).to.equal('12')
    expect(await rejection(served.reader.read())).to.be.instanceOf(ConnectionResetError)
    await served.closed
  })
})

describe('a link', () => {
  const open = (network = new MemoryNetwork(), capacity = 1000): { client: Connection; served: Connection; network: MemoryNetwork } => {
    const [client, served] = network.connectionPair({ capacity })
    return { client, served, network }
  }

  it('is the same from either side, and is found while it is open', async () => {
    const { client, served, network } = open()
    expect(network.link(client)).to.equal(network.link(served))
    client.abort()
    await served.closed
    expect(() => network.link(client)).to.throw(TypeError, /must be open, and of this network: received Connection/)
    expect(() => new MemoryNetwork().link(served)).to.throw(TypeError)
    expect(() => network.link({} as never)).to.throw(TypeError)
  })

  it('holds bytes, of which the sender notices nothing until the capacity is reached', async () => {
    const { client, served, network } = open()
    const link = network.link(client)
    link.hold()
    client.writer.write(new Uint8Array(1000))
    await client.writer.flushed()
    await turns()
    expect(served.reader.bytesRead).to.equal(0)
    client.writer.write('more')
    await turns()
    expect(client.writer.bytesPending).to.equal(4)
    link.release()
    expect((await served.reader.readExactly(1004))?.byteLength).to.equal(1004)
    client.abort()
    await served.closed
  })

  it('lets so many bytes pass, also of those that come later, and holds on', async () => {
    const { client, served, network } = open()
    const link = network.link(served)
    link.hold('toServer')
    link.release(3)
    client.writer.write('ab')
    await turns()
    client.writer.write('cde')
    await turns()
    expect(served.reader.bytesRead).to.equal(3)
    // The other direction is not held.
    served.writer.write('x')
    expect((await client.reader.read())?.byteLength).to.equal(1)
    link.release(1)
    await turns()
    expect(served.reader.bytesRead).to.equal(4)
    link.release()
    await until(() => served.reader.bytesRead === 5)
    client.abort()
    await served.closed
  })

  it('holds ends and resets, too', async () => {
    const { client, served, network } = open()
    const link = network.link(client)
    link.hold()
    client.writer.write('held')
    await client.writer.close()
    await turns()
    expect(served.reader.bytesRead).to.equal(0)
    served.abort()
    await turns()
    expect(client.signal.aborted).to.equal(false)
    link.release()
    await client.closed
    expect(client.signal.reason).to.be.instanceOf(ConnectionResetError)
  })

  it('holds an end that has no bytes before it', async () => {
    const { client, served, network } = open()
    const link = network.link(client)
    link.hold('toServer')
    await client.writer.close()
    let isEnded = false
    void served.reader.ended.then(() => {
      isEnded = true
    })
    await turns()
    expect(isEnded).to.equal(false)
    link.release()
    await served.reader.ended
    served.abort()
    await client.closed
  })

  it('loses what it holds when the sender resets', async () => {
    const { client, served, network } = open()
    const link = network.link(client)
    client.writer.write('arrived')
    link.hold('toServer')
    client.writer.write('lost')
    await turns()
    client.abort()
    link.release()
    expect(Buffer.from((await served.reader.read()) as Uint8Array).toString()).to.equal('arrived')
    expect(await rejection(served.reader.read())).to.be.instanceOf(ConnectionResetError)
  })

  it('cuts into pieces, one for each turn of the event loop', async () => {
    const { client, served, network } = open()
    const link = network.link(client)
    link.cutInto(2)
    client.writer.write('abcde')
    const pieces: string[] = []
    for await (const chunk of served.reader) {
      pieces.push(Buffer.from(chunk).toString())
      if (pieces.length === 3) break
    }
    expect(pieces).to.deep.equal(['ab', 'cd', 'e'])
    link.cutInto(Number.POSITIVE_INFINITY)
    client.writer.write('fghij')
    expect((await served.reader.read())?.byteLength).to.equal(5)
    client.abort()
    await served.closed
  })

  it('ends one direction behind what was sent, of which the sender notices nothing', async () => {
    const { client, served, network } = open()
    client.writer.write('half a mess')
    await turns()
    network.link(client).end('toServer')
    expect(Buffer.from(await served.reader.readAll()).toString()).to.equal('half a mess')
    client.writer.write('age')
    await client.writer.flushed()
    served.writer.write('x')
    expect((await client.reader.read())?.byteLength).to.equal(1)
    expect(await served.reader.read()).to.equal(null)
    client.abort()
    served.abort()
    await Promise.all([client.closed, served.closed])
  })

  it('resets both sides, also where it holds', async () => {
    const { client, served, network } = open()
    const link = network.link(client)
    link.hold()
    client.writer.write('lost')
    link.reset()
    expect(await rejection(client.reader.read())).to.be.instanceOf(ConnectionResetError)
    expect(await rejection(served.reader.read())).to.be.instanceOf(ConnectionResetError)
    await Promise.all([client.closed, served.closed])
    expect(network.open).to.deep.equal([])
  })

  it('refuses what is no direction and no size, quoting it', async () => {
    const { client, network } = open()
    const link = network.link(client)
    expect(() => link.hold('up' as never)).to.throw(
      TypeError,
      `Cannot hold as 'direction' must be 'both', 'toServer' or 'toClient': received 'up'`
    )
    expect(() => link.end('both' as never)).to.throw(
      TypeError,
      `Cannot end as 'direction' must be 'toServer' or 'toClient': received 'both'`
    )
    expect(() => link.release(0)).to.throw(RangeError, /'bytes' must be .*received 0/)
    expect(() => link.cutInto(1.5)).to.throw(RangeError, /'size' must be .*received 1.5/)
    link.reset()
    await client.closed
  })
})

describe('a network in memory', () => {
  it('tells by name what is open', async () => {
    const network = new MemoryNetwork()
    const [client, served] = network.connectionPair()
    expect(network.open).to.deep.equal([
      "client's side of 127.0.0.1:49152 -> 127.0.0.1:49153",
      "server's side of 127.0.0.1:49152 -> 127.0.0.1:49153"
    ])
    await client.close({ linger: 0 })
    expect(network.open).to.deep.equal(["server's side of 127.0.0.1:49152 -> 127.0.0.1:49153"])
    await served.close()
    expect(network.open).to.deep.equal([])
  })

  it('has no descriptor, no timer and no handle of its own', async () => {
    await turns()
    const before = descriptors()
    const resources = process.getActiveResourcesInfo().sort()
    const [client, served] = connectionPair({ settings: { idleTimeout: Number.POSITIVE_INFINITY } })
    client.writer.write(new Uint8Array(10))
    await served.reader.readExactly(10)
    expect(descriptors()).to.equal(before)
    expect(
      process
        .getActiveResourcesInfo()
        .sort()
        .filter((name) => name !== 'Immediate')
    ).to.deep.equal(resources.filter((name) => name !== 'Immediate'))
    client.abort()
    await served.closed
  })

  it('does the same in the same order, every time', async () => {
    const run = async (): Promise<string[]> => {
      const log: string[] = []
      const network = new MemoryNetwork({ capacity: 100 })
      const pairs = Array.from({ length: 5 }, () => network.connectionPair())
      network.link((pairs[1] as [Connection, Connection])[0]).cutInto(7)
      await Promise.all(
        pairs.map(async ([client, served], index) => {
          const sending = client.writer([new Uint8Array(333), 'x'.repeat(50)])
          for await (const chunk of served.reader) {
            log.push(`${index} got ${chunk.byteLength}`)
            served.writer.write(chunk)
          }
          log.push(`${index} ended`)
          if (index === 3) client.abort()
          else await Promise.all([client.close(), served.close()])
          await sending.catch(() => {})
          await client.closed
          log.push(`${index} closed`)
          served.abort()
        })
      )
      return log
    }
    const first = await run()
    expect(first.length).to.be.greaterThan(70)
    for (let again = 0; again < 20; again++) expect(await run()).to.deep.equal(first)
  })

  it('tells its news in the async context of whoever opened the connection, not of its peer', async () => {
    const storage = new AsyncLocalStorage<string>()
    const [client, served] = storage.run('the maker', () => connectionPair())
    let seen: string | undefined
    served.signal.addEventListener('abort', () => {
      seen = storage.getStore()
    })
    await turns()
    storage.run('somebody else', () => client.abort())
    await served.closed
    expect(seen).to.equal('the maker')
  })

  it('has limits that hold: of age, for one', async () => {
    const [client, served] = connectionPair({ capacity: 1, settings: { bufferAgeLimit: 20, readerBufferSize: 1 } })
    client.writer.write('abc')
    expect(await rejection(client.writer.flushed())).to.be.instanceOf(BufferAgeLimitError)
    await Promise.all([client.closed, served.close().catch(() => {})])
    expect(() => client.writer.write('more')).to.throw(BufferAgeLimitError)
    expect(await rejection(served.reader.read())).to.be.instanceOf(ConnectionClosedError)
  })
})
