import { createServer as createHttpServer } from 'node:http'
import type { Socket } from 'node:net'
import { PassThrough, Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createSecureContext, TLSSocket, connect as tlsConnect } from 'node:tls'
import { inspect } from 'node:util'
import { expect } from 'chai'
import { BusyError } from '../../src/index.ts'
import { readToEnd } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { openEnds, TRANSPORTS } from '../helpers/transports.ts'
import { until } from '../helpers/until.ts'

const ignore = (): void => {}

/** Whatever would take bytes of the connection, or put some among them. */
const MISUSES: Readonly<Record<string, (socket: Socket) => unknown>> = {
  'write()': (socket) => socket.write('x'),
  'end()': (socket) => socket.end(),
  'read()': (socket) => socket.read(),
  'resume()': (socket) => socket.resume(),
  'setEncoding()': (socket) => socket.setEncoding('utf8'),
  'unshift()': (socket) => socket.unshift('x'),
  'pipe() from it': (socket) => socket.pipe(new PassThrough()),
  'pipe() into it': (socket) => new PassThrough().pipe(socket),
  "on('data')": (socket) => socket.on('data', ignore),
  "on('readable')": (socket) => socket.on('readable', ignore),
  "once('data')": (socket) => socket.once('data', ignore),
  "addListener('data')": (socket) => socket.addListener('data', ignore),
  "prependListener('readable')": (socket) => socket.prependListener('readable', ignore),
  "prependOnceListener('data')": (socket) => socket.prependOnceListener('data', ignore),
  'iterating over it': (socket) => socket[Symbol.asyncIterator](),
  'wrapping it in a TLSSocket': (socket) => new TLSSocket(socket, { isServer: true, secureContext: createSecureContext() }),
  'tls.connect() over it': (socket) => tlsConnect({ socket }),
  'giving it to node:http': (socket) => createHttpServer().emit('connection', socket)
}

describe('connection.socket', () => {
  for (const transport of TRANSPORTS) {
    describe(`of ${transport.name}`, () => {
      const scope = useScope()

      for (const [name, misuse] of Object.entries(MISUSES)) {
        it(`${name} is noticed at once, by an error that names detach(), and harms nothing`, async () => {
          const { connection, peer } = await openEnds(scope, transport)
          expect(() => misuse(connection.socket)).to.throw(BusyError, /^Cannot [\s\S]* connection\.socket as .*connection\.detach\(\)$/)
          connection.writer.write('out')
          peer.end('in')
          expect(await connection.reader.readLine()).to.equal('in')
          await connection.writer.close()
          expect((await readToEnd(peer)).toString()).to.equal('out')
        })
      }

      it('what is set on a socket can be set, and what it tells it tells', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        const { socket } = connection
        expect(socket.setNoDelay(false).setKeepAlive(true, 1000).ref().unref().ref()).to.equal(socket)
        socket.setTimeout(1000, ignore).setTimeout(0)
        expect(socket.address()).to.be.an('object')
        if (transport.isTcp) expect(socket.remotePort).to.equal(peer.localPort)
        expect([socket.destroyed, socket.connecting, socket.readyState]).to.deep.equal([false, false, 'open'])
        expect(inspect(socket)).to.not.contain('readableLength')
        let isClosed = false
        socket.once('close', () => {
          isClosed = true
        })
        await connection.close({ linger: 0 })
        await until(() => isClosed)
      })

      it('costs nothing until somebody looks at it, and is the same each time', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        peer.write('a')
        await connection.reader.read()
        const { socket } = connection
        expect(connection.socket).to.equal(socket)
        peer.end('b')
        expect(await connection.reader.readAll()).to.deep.equal(new TextEncoder().encode('b'))
        connection.writer.write('c')
        connection.abort()
        await connection.closed
        expect(connection.socket).to.equal(socket)
      })

      it('a source that goes into it by pipeline() fails, and the connection lives', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        const { socket } = connection
        expect(await rejection(pipeline(Readable.from(['x']), socket))).to.be.instanceOf(BusyError)
        peer.end('in')
        expect(await connection.reader.readLine()).to.equal('in')
      })
    })
  }
})
