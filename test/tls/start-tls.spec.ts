import { inspect } from 'node:util'
import { expect } from 'chai'
import { BusyError, ConnectionClosedError, HandshakeTimeoutError, TlsError } from '../../src/errors.ts'
import { TlsContext } from '../../src/tls-context.ts'
import { expectRefusal } from '../helpers/bad-input.ts'
import { type Certificates, useCertificates } from '../helpers/certificates.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { VERSIONS } from '../helpers/tls-ends.ts'
import { clientOptions, longHello, plainPair, secure, serverContext, tlsPair } from '../helpers/tls-pair.ts'
import { turns, until } from '../helpers/until.ts'

const ACTION = 'Cannot start TLS'

describe('startTls', () => {
  let made: Certificates

  before(function () {
    made = useCertificates(this)
  })

  const scope = useScope()

  for (const version of VERSIONS) {
    it(`goes on in ${version} with the same connection, reader and writer`, async () => {
      const pair = await plainPair(scope)
      const { client, server } = pair
      const { reader, writer, signal } = client
      expect(client.tls).to.equal(null)
      writer.write('STARTTLS\n')
      expect(await server.reader.readLine()).to.equal('STARTTLS')
      server.writer.write('go on\n')
      expect(await reader.readLine()).to.equal('go on')
      await secure(pair, made, { version, client: { alpn: ['x', 'imap'] }, server: { alpn: ['imap'] } })
      writer.write('encrypted\n')
      expect(await server.reader.readLine()).to.equal('encrypted')
      server.writer.write('likewise\n')
      expect(await reader.readLine()).to.equal('likewise')
      expect([client.reader, client.writer, client.signal]).to.deep.equal([reader, writer, signal])
      for (const end of [client, server]) {
        expect(end.tls).to.include({ version, alpn: 'imap', serverName: 'a.test', isResumed: false })
        expect(end.tls?.cipher).to.match(/^TLS_[A-Z0-9_]+$/)
        expect(end.reader.bytesRead).to.be.lessThan(40)
      }
      expect(client.tls).to.include({ isAuthorized: true })
      expect(client.tls?.peerCertificate?.subject).to.equal('CN=a.test')
      expect(server.tls).to.include({ isAuthorized: false, peerCertificate: null })
      const [one, other] = [client, server].map(({ tls }) => tls?.exportKeyingMaterial(32, 'EXPERIMENTAL-x'))
      expect(one).to.have.length(32)
      expect(one).to.deep.equal(other)
      client.abort()
      await client.closed
      expect(() => client.tls?.exportKeyingMaterial(32, 'EXPERIMENTAL-x')).to.throw(ConnectionClosedError)
    })
  }

  it('counts what was encrypted, not what encrypts it', async () => {
    const { client, server } = await tlsPair(scope, made)
    client.writer.write(new Uint8Array(1_000))
    await client.writer.flushed()
    expect(await server.reader.readExactly(1_000)).to.have.length(1_000)
    expect(client.writer.bytesWritten).to.equal(1_000)
    expect(server.reader.bytesRead).to.equal(1_000)
  })

  describe('refuses', () => {
    it('a connection that speaks TLS already, or is about to', async () => {
      const pair = await plainPair(scope)
      const first = secure(pair, made)
      for (const end of [pair.client, pair.server]) {
        expect(await rejection(end.startTls(clientOptions(made)))).to.be.instanceOf(BusyError)
        expect(await rejection(end.reader.read())).to.be.instanceOf(BusyError)
        expect(await rejection(end.detach())).to.be.instanceOf(BusyError)
      }
      await first
      for (const end of [pair.client, pair.server]) {
        expect(await rejection(end.startTls(clientOptions(made))))
          .to.be.instanceOf(BusyError)
          .with.property('message', `${ACTION} as the connection speaks TLS already`)
      }
      pair.client.writer.write('still there\n')
      expect(await pair.server.reader.readLine()).to.equal('still there')
    })

    it('a connection that is being read, and aborts nothing', async () => {
      const pair = await plainPair(scope)
      const line = pair.client.reader.readLine()
      expect(await rejection(pair.client.startTls(true))).to.be.instanceOf(BusyError)
      pair.server.writer.write('a line\n')
      expect(await line).to.equal('a line')
      await secure(pair, made)
    })

    it('a connection whose sink is at work, and aborts nothing', async () => {
      const pair = await plainPair(scope)
      let goOn = (): void => {}
      const wait = new Promise<void>((resolve) => {
        goOn = resolve
      })
      const source = (async function* () {
        yield Buffer.from('one\n')
        await wait
      })()
      const written = pair.client.writer.writeAll(source)
      expect(await rejection(pair.client.startTls(true))).to.be.instanceOf(BusyError)
      goOn()
      await written
      expect(await pair.server.reader.readLine()).to.equal('one')
      await secure(pair, made)
    })

    it('a connection that is closed, aborted or detached, whose writer is closed, or whose peer has ended', async () => {
      const closed = await plainPair(scope)
      const closing = closed.client.close({ linger: 0 })
      expect(await rejection(closed.client.startTls(true))).to.be.instanceOf(ConnectionClosedError)
      await closing
      expect(await rejection(closed.client.startTls(true))).to.be.instanceOf(ConnectionClosedError)

      const { client: aborted, server: detached } = await plainPair(scope)
      const socket = await detached.detach()
      expect(await rejection(detached.startTls(serverContext(made)))).to.be.instanceOf(ConnectionClosedError)
      expect(socket.destroyed).to.equal(false)
      socket.destroy()
      aborted.abort()
      expect(await rejection(aborted.startTls(true))).to.be.instanceOf(ConnectionClosedError)

      const halfClosed = await plainPair(scope)
      await halfClosed.client.writer.close()
      expect(await rejection(halfClosed.client.startTls(true))).to.be.instanceOf(ConnectionClosedError)
      await halfClosed.server.reader.ended
      expect(await rejection(halfClosed.server.startTls(serverContext(made)))).to.be.instanceOf(ConnectionClosedError)
      expect(halfClosed.server.signal.aborted).to.equal(false)
    })

    for (const [name, options, value] of [
      ['options', 'yes', 'yes'],
      ['options', undefined, undefined],
      ['serverName', { serverName: 'a.test..' }, 'a.test..'],
      ['serverName', { serverName: '127.0.0.1' }, '127.0.0.1'],
      ['serverName', { serverName: 'a\0.test' }, 'a\0.test'],
      ['minVersion', { minVersion: 'TLSv1.1' }, 'TLSv1.1'],
      ['verify', { verify: 'no' }, 'no']
    ] as const) {
      it(`${inspect(options)}, before anything happens`, async () => {
        const pair = await plainPair(scope)
        expectRefusal(await rejection(pair.client.startTls(options as never)), name, ACTION, value)
        pair.client.writer.write('in clear\n')
        expect(await pair.server.reader.readLine()).to.equal('in clear')
      })
    }

    for (const [name, limits, value] of [
      ['options', null, null],
      ['timeout', { timeout: 0 }, 0],
      ['timeout', { timeout: '1s' }, '1s'],
      ['signal', { signal: 'stop' }, 'stop']
    ] as const) {
      it(`${inspect(limits)} as its limits`, async () => {
        const { client } = await plainPair(scope)
        expectRefusal(await rejection(client.startTls(true, limits as never)), name, ACTION, value)
        expect(client.signal.aborted).to.equal(false)
      })
    }

    it('a signal that has aborted, and aborts nothing', async () => {
      const { client } = await plainPair(scope)
      const reason = new Error('too late')
      expect(await rejection(client.startTls(true, { signal: AbortSignal.abort(reason) }))).to.equal(reason)
      expect(client.signal.aborted).to.equal(false)
    })

    it('a client without a name where none was dialled', async () => {
      const { server } = await plainPair(scope)
      expect(await rejection(server.startTls(true)))
        .to.be.instanceOf(TypeError)
        .with.property('message')
        .that.includes("'serverName'")
    })
  })

  describe('rejects and aborts', () => {
    it('when the peer speaks no TLS, and nothing is read of what it said', async () => {
      for (const side of ['client', 'server'] as const) {
        const pair = await plainPair(scope)
        const [ours, theirs] = side === 'client' ? [pair.client, pair.server] : [pair.server, pair.client]
        theirs.writer.write('GET / HTTP/1.0\r\n\r\n')
        await until(() => ours.reader.bytesAvailable > 0)
        const error = await rejection(ours.startTls(side === 'client' ? clientOptions(made) : serverContext(made)))
        expect(error)
          .to.be.instanceOf(TlsError)
          .with.property('cause')
          .that.has.property('code')
          .that.matches(/^ERR_SSL_/)
        expect((error as Error).message).to.match(/^Cannot secure the connection with 127\.0\.0\.1:\d+: \S/)
        expect(await rejection(ours.reader.read()))
          .to.be.instanceOf(ConnectionClosedError)
          .with.property('cause', error)
        expect(() => ours.writer.write('x')).to.throw(ConnectionClosedError)
        await ours.closed
        expect(ours.signal.reason).to.equal(error)
      }
    })

    it('when the peer ends or resets', async () => {
      for (const how of ['ends', 'resets'] as const) {
        for (const side of ['client', 'server'] as const) {
          const pair = await plainPair(scope)
          const [ours, theirs] = side === 'client' ? [pair.client, pair.server] : [pair.server, pair.client]
          const starting = rejection(ours.startTls(side === 'client' ? clientOptions(made) : serverContext(made)))
          await turns(3)
          if (how === 'ends') void theirs.writer.close()
          else theirs.abort()
          expect(await starting, `${side} ${how}`)
            .to.be.instanceOf(TlsError)
            .with.property('cause')
            .that.is.instanceOf(Error)
          await ours.closed
        }
      }
    })

    it('when its time is over, however many bytes come meanwhile', async () => {
      const pair = await plainPair(scope)
      const hello = longHello()
      const starting = rejection(pair.server.startTls(serverContext(made), { timeout: 50 }))
      let isOver = false
      void starting.then(() => {
        isOver = true
      })
      const start = performance.now()
      for (let sent = 0; !isOver; ) {
        if (sent < performance.now() - start && !pair.client.writer.isClosed) pair.client.writer.write(hello.subarray(sent, ++sent))
        await turns(1)
      }
      const error = await starting
      expect(error)
        .to.be.instanceOf(HandshakeTimeoutError)
        .with.property('message')
        .that.matches(/took longer than 50 ms$/)
      await pair.server.closed
      expect(pair.server.signal.reason).to.equal(error)
    })

    it('when its signal aborts', async () => {
      const pair = await plainPair(scope)
      const controller = new AbortController()
      const starting = rejection(pair.client.startTls(clientOptions(made), { signal: controller.signal }))
      await turns(3)
      const reason = new Error('enough')
      controller.abort(reason)
      expect(await starting).to.equal(reason)
      await pair.client.closed
      expect(pair.client.signal.reason).to.equal(reason)
    })

    it('when the connection is aborted meanwhile', async () => {
      for (const after of [0, 3]) {
        for (const side of ['client', 'server'] as const) {
          const { [side]: ours } = await plainPair(scope)
          const starting = rejection(ours.startTls(side === 'client' ? clientOptions(made) : serverContext(made)))
          await turns(after)
          ours.abort('no more')
          expect(await starting).to.be.instanceOf(Error)
          await ours.closed
          expect(ours.signal.reason).to.equal('no more')
        }
      }
    })
  })

  it('lets a context be used by any number of connections', async () => {
    const context = TlsContext.create(made.a)
    for (let round = 0; round < 3; round++) {
      const { client, server } = await plainPair(scope)
      await Promise.all([server.startTls(context), client.startTls(clientOptions(made))])
    }
  })
})
