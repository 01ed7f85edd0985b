import { once } from 'node:events'
import { Socket } from 'node:net'
import { expect } from 'chai'
import { sendFirst } from '../../src/client/send-first.ts'
import { connect, connectSocket, withConnection } from '../../src/connect.ts'
import { ConnectError } from '../../src/errors.ts'
import { formatProxyHeader, type ProxyHeaderInit } from '../../src/proxy-header.ts'
import { toFile } from '../../src/where-to-connect.ts'
import { descriptors } from '../helpers/descriptors.ts'
import { to, WAYS } from '../helpers/dialling.ts'
import { rawServer, readToEnd } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { turns } from '../helpers/until.ts'

const header: ProxyHeaderInit = {
  source: { family: 'IPv4', address: '192.0.2.1', port: 1_234 },
  destination: { family: 'IPv4', address: '192.0.2.2', port: 80 }
}
const bytes = Buffer.from(formatProxyHeader(header))

describe('Clients: a proxyHeader is sent at connect, before anything else', () => {
  const scope = useScope()

  it('never waits for the first write', async () => {
    const { target, accept } = await rawServer(scope)
    const connection = scope.open(await connect(to(target), { proxyHeader: header }))
    const peer = await accept()
    const [received] = (await once(peer.resume(), 'data')) as [Buffer]
    expect(received).to.deep.equal(bytes)
    peer.destroy()
    connection.abort()
  })

  for (const version of [1, 2] as const) {
    it(`is in front of what is written, over TCP and unix sockets, in version ${version}`, async () => {
      const proxyHeader = { ...header, version }
      for (const path of [undefined, `${scope.tempDir()}/s`]) {
        const { target, accept } = await rawServer(scope, path)
        const writing = withConnection(to(target), { proxyHeader, linger: 0 }, ({ writer }) => writer.write('hello'))
        expect(String(await readToEnd(await accept()))).to.equal(`${Buffer.from(formatProxyHeader(proxyHeader))}hello`)
        await writing
      }
    })
  }

  it('counts in neither bytesWritten nor bytesPending', async () => {
    const { target, accept } = await rawServer(scope)
    const connection = scope.open(await connect(to(target), { proxyHeader: header }))
    expect([connection.writer.bytesWritten, connection.writer.bytesPending]).to.deep.equal([0, 0])
    connection.writer.write('hello')
    await connection.writer.flushed()
    expect([connection.writer.bytesWritten, connection.writer.bytesPending]).to.deep.equal([5, 0])
    ;(await accept()).destroy()
    connection.abort()
  })

  it('goes ahead on the socket of connectSocket(), too', async () => {
    const { target, accept } = await rawServer(scope)
    const socket = await connectSocket(to(target), { proxyHeader: header })
    socket.end('hello')
    expect(String(await readToEnd(await accept()))).to.equal(`${bytes}hello`)
    socket.destroy()
    await once(socket, 'close')
  })

  for (const [name, open] of WAYS) {
    it(`${name}() refuses a bad one before anything is opened`, async () => {
      const before = descriptors()
      const refused = open(toFile('/nowhere/to/be/found'), { proxyHeader: 42 as unknown as ProxyHeaderInit })
      expect(descriptors()).to.equal(before)
      expect(await rejection(refused)).to.have.property('message', "Cannot connect as 'proxyHeader' must be an object: received 42")
    })
  }

  it('a peer that breaks off before it has the header is a ConnectError, and nothing stays open', async () => {
    const { target, server } = await rawServer(scope)
    server.on('connection', (socket) => socket.resetAndDestroy())
    const before = descriptors()
    // More than the system takes at once.
    const tlvs = Array.from({ length: 5 }, (_, i): [number, Uint8Array] => [0xe0 + i, new Uint8Array(12_000)])
    for (let i = 0; i < 20; i++) {
      const error = await connect(to(target), { proxyHeader: { ...header, tlvs } }).then(
        (connection) => {
          connection.abort()
          return connection.closed
        },
        (reason) => reason
      )
      if (error !== undefined) expect(error).to.be.instanceOf(ConnectError)
    }
    expect(descriptors()).to.equal(before)
  })

  it('a write that fails does not hand the socket out: its closing is the error', async () => {
    const socket = new Socket()
    socket.write = (_: unknown, callback: unknown) => {
      ;(callback as (error: Error) => void)(new Error('broken pipe'))
      return false
    }
    let isOver = false
    void sendFirst(bytes)(socket).finally(() => {
      isOver = true
    })
    await turns()
    expect(isOver).to.equal(false)
  })
})
