import { join } from 'node:path'
import { expect } from 'chai'
import { type Connection, onFile, onPortChosenByOs, Server, type SocketAddress } from '../../src/index.ts'
import { streamBinding } from '../../src/system/node-internals.ts'
import { rawClient, readToEnd } from '../helpers/raw.ts'
import { type Scope, useScope } from '../helpers/scope.ts'
import { TOO_MUCH } from '../helpers/transports.ts'
import { turns, until } from '../helpers/until.ts'

// The laws of a connection are in connection.spec.ts, over accepted connections too, which have this transport where Node.js has the binding for it.
describe('HandleTransport', () => {
  const scope = useScope()

  before(function () {
    if (streamBinding === undefined) this.skip()
  })

  it('carries bytes both ways, and both ends', async () => {
    const [served, client] = await accepted(scope)
    client.write('abc')
    expect(await served.reader.readExactly(3)).to.deep.equal(new Uint8Array([97, 98, 99]))
    served.writer.write('def')
    client.end()
    expect(await served.reader.read()).to.equal(null)
    await served.close()
    expect((await readToEnd(client)).toString()).to.equal('def')
  })

  it('gives a socket at any moment: bytes stay in their order, both ways', async () => {
    const [served, client] = await accepted(scope)
    const sent = TOO_MUCH
    // In flight: the client does not read yet.
    served.writer.write(sent)
    client.write('one ')
    await turns()
    expect(served.socket.remotePort).to.equal(client.localPort)
    expect(served.socket).to.equal(served.socket)
    served.writer.write('end')
    client.end('two')
    const received = readToEnd(client)
    expect(Buffer.from(await served.reader.readAll()).toString()).to.equal('one two')
    await served.close()
    const all = await received
    expect(all.byteLength).to.equal(sent.byteLength + 3)
    expect(all.subarray(-3).toString()).to.equal('end')
  })

  it('gives a socket after the end of the peer, which is told once', async () => {
    const [served, client] = await accepted(scope)
    client.end('all')
    expect(Buffer.from(await served.reader.readAll()).toString()).to.equal('all')
    expect(served.socket.destroyed).to.equal(false)
    expect(await served.reader.read()).to.equal(null)
    served.writer.write('answer')
    const received = readToEnd(client)
    await served.close()
    expect((await received).toString()).to.equal('answer')
  })

  it('reads no more than there is room for, and goes on when there is', async () => {
    const [served, client] = await accepted(scope)
    client.end(TOO_MUCH)
    await until(() => served.reader.bytesAvailable > 0)
    await turns(100)
    expect(served.reader.bytesAvailable).to.be.below(1024 * 1024)
    expect((await served.reader.readAll()).byteLength).to.equal(TOO_MUCH.byteLength)
  })

  it('sends a short write that has to wait as it was, whatever else is written meanwhile', async () => {
    // Short writes fill the buffers of a unix socket within some hundreds.
    const [served, client] = await accepted(scope, join(scope.tempDir(), 's'))
    const [other] = await accepted(scope)
    const numbered = (number: number): Uint8Array => Buffer.from(String(number).padStart(64))
    let count = 0
    for (; served.writer.bytesPending === 0; count++) {
      served.writer.write(numbered(count))
      await turns()
    }
    other.writer.write(numbered(-1))
    const received = readToEnd(client)
    client.end()
    await served.close()
    expect((await received).toString()).to.equal(Array.from({ length: count }, (_, i) => String(i).padStart(64)).join(''))
  })

  // Each call of useUserBuffer() leaves an object behind that lives as long as the handle does.
  it('names the memory that is read into once, however much is received', async () => {
    const { TCP } = (process as unknown as { binding(name: string): { TCP: { prototype: object } } }).binding('tcp_wrap')
    const stream = Object.getPrototypeOf(TCP.prototype) as { useUserBuffer(buffer: Uint8Array): void }
    const { useUserBuffer } = stream
    let calls = 0
    stream.useUserBuffer = function (buffer) {
      calls++
      useUserBuffer.call(this, buffer)
    }
    try {
      const [served, client] = await accepted(scope)
      client.end(TOO_MUCH)
      const sizes = new Set<number>()
      for await (const chunk of served.reader) sizes.add(chunk.buffer.byteLength)
      // It did read into memory of its own.
      expect(Math.max(...sizes)).to.equal(131_072)
      expect(calls).to.equal(1)
    } finally {
      stream.useUserBuffer = useUserBuffer
    }
  })

  it('gives a destroyed socket once the connection is closed', async () => {
    const [served, client] = await accepted(scope)
    client.end()
    await served.close()
    expect(served.socket.destroyed).to.equal(true)
  })
})

async function accepted(scope: Scope, path?: string): Promise<[served: Connection, client: Awaited<ReturnType<typeof rawClient>>]> {
  let arrived: (connection: Connection) => void = () => {}
  const connection = new Promise<Connection>((resolve) => {
    arrived = resolve
  })
  const where = path === undefined ? onPortChosenByOs({ host: '127.0.0.1' }) : onFile(path)
  const server = await Server.create<SocketAddress, number | string>(where, async (served) => {
    arrived(served)
    await served.closed
  })
  scope.defer(() => server.close({ closeExistingConnections: true }))
  const client = await rawClient(scope, server.listeningOn)
  return [await connection, client]
}
