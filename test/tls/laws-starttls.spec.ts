import { once } from 'node:events'
import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { connect as connectTls, createSecureContext, TLSSocket } from 'node:tls'
import { expect } from 'chai'
import type { Connection } from '../../src/connection.ts'
import { ConnectionClosedError, TlsError } from '../../src/errors.ts'
import { type Certificates, useCertificates } from '../helpers/certificates.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { VERSIONS } from '../helpers/tls-ends.ts'
import { clientOptions, serverContext } from '../helpers/tls-pair.ts'
import { openEnds } from '../helpers/transports.ts'
import { turns, until } from '../helpers/until.ts'

const DIALLED = { name: 'a dialled TCP connection', isTcp: true, isAccepted: false }
const ACCEPTED = { name: 'an accepted TCP connection', isTcp: true, isAccepted: true }

for (const version of VERSIONS) {
  describe(`STARTTLS over ${version}`, () => {
    let made: Certificates

    before(function () {
      made = useCertificates(this)
    })

    const scope = useScope()

    /** Our connection and a foreign peer, in clear. */
    const open = async (side: 'client' | 'server'): Promise<{ ours: Connection; peer: Socket }> => {
      const { connection, peer } = await openEnds(scope, side === 'client' ? DIALLED : ACCEPTED)
      return { ours: connection, peer }
    }
    const start = (ours: Connection, side: 'client' | 'server'): Promise<void> =>
      ours.startTls(side === 'client' ? clientOptions(made) : serverContext(made, { version }))

    for (const side of ['client', 'server'] as const) {
      it(`a plaintext that was injected makes the handshake of a ${side} fail, and is never read`, async () => {
        for (const isEarly of [true, false]) {
          const { ours, peer } = await open(side)
          peer.write('go on\r\n')
          if (isEarly) peer.write('RCPT TO:<evil>\r\n')
          await ours.reader.readLine()
          if (isEarly) await until(() => ours.reader.bytesAvailable > 0)
          const starting = start(ours, side)
          if (!isEarly) peer.write('RCPT TO:<evil>\r\n')
          expect(await rejection(starting)).to.be.instanceOf(TlsError)
          expect(await rejection(ours.reader.readLine())).to.be.instanceOf(ConnectionClosedError)
          expect(ours.reader.bytesAvailable).to.equal(0)
        }
      })
    }

    // The first bytes of the client's hello come with the line in clear, the others later.
    for (const early of [0, 1, 4, 5, 100, 100_000]) {
      it(`${early} bytes of the ClientHello with the line are the handshake's`, async () => {
        const { ours, peer } = await open('server')
        let isFirst = true
        const carrier = new Duplex({
          read() {},
          write(chunk: Buffer, _encoding, callback) {
            if (!isFirst) {
              peer.write(chunk, callback)
              return
            }
            isFirst = false
            peer.write(Buffer.concat([Buffer.from('STARTTLS\n'), chunk.subarray(0, early)]))
            void (async () => {
              await until(() => secured !== undefined)
              await turns(3)
              for (const byte of chunk.subarray(early, early + 50)) peer.write(Uint8Array.of(byte))
              peer.write(chunk.subarray(early + 50), callback)
            })()
          },
          final(callback) {
            peer.end(callback)
          }
        })
        let secured: Promise<void> | undefined
        peer.on('data', (chunk: Buffer) => carrier.push(chunk)).resume()
        const client = connectTls({ socket: carrier, ca: made.ca.cert, servername: 'a.test', maxVersion: version })
        scope.defer(() => client.destroy())
        client.write('hello\n')
        expect(await ours.reader.readLine()).to.equal('STARTTLS')
        await turns(3)
        secured = start(ours, 'server')
        await secured
        expect(await ours.reader.readLine()).to.equal('hello')
        expect(ours.reader.bytesRead).to.equal(15)
        ours.writer.write('welcome')
        expect(String((await once(client, 'data'))[0])).to.equal('welcome')
      })
    }

    it('what was written before leaves in clear, first, and what is written meanwhile is encrypted', async () => {
      const LENGTH = 8_000_000
      const { ours, peer } = await open('client')
      ours.writer.write(new Uint8Array(LENGTH / 2).fill(0x63))
      ours.writer.write(new Uint8Array(LENGTH / 2).fill(0x63))
      const starting = start(ours, 'client')
      ours.writer.write('meanwhile, ')
      const sink = ours.writer.writeAll([Buffer.from('by a sink, ')])
      let clear = 0
      while (clear < LENGTH) {
        const chunk = peer.read(Math.min(LENGTH - clear, peer.readableLength || 1)) as Buffer | null
        if (chunk === null) await once(peer, 'readable')
        else {
          expect(chunk.every((byte) => byte === 0x63)).to.equal(true)
          clear += chunk.length
        }
      }
      const secureContext = createSecureContext({ ...made.a, maxVersion: version })
      const server = new TLSSocket(peer, { isServer: true, secureContext })
      scope.defer(() => server.destroy())
      let text = ''
      server.on('data', (chunk) => {
        text += chunk
      })
      await starting
      await sink
      ours.writer.write('and later')
      await until(() => text.endsWith('later'))
      expect(text).to.equal('meanwhile, by a sink, and later')
      expect(ours.writer.bytesWritten).to.equal(LENGTH + text.length)
    })

    it('what is written meanwhile is never sent to a peer that is not verified', async () => {
      const { ours, peer } = await open('client')
      const sent: Buffer[] = []
      const starting = rejection(ours.startTls({ ca: made.strangersCa.cert, serverName: 'a.test' }))
      ours.writer.write('secret')
      const flushed = rejection(ours.writer.flushed())
      const secureContext = createSecureContext({ ...made.a, maxVersion: version })
      const server = new TLSSocket(peer, { isServer: true, secureContext })
      server.on('data', (chunk) => sent.push(chunk)).on('error', () => {})
      scope.defer(() => server.destroy())
      const error = await starting
      expect(error).to.be.instanceOf(TlsError)
      expect(await flushed).to.be.instanceOf(ConnectionClosedError)
      await until(() => server.destroyed)
      expect(sent).to.deep.equal([])
    })

    it('a write that is closed behind it leaves encrypted, and then the end', async () => {
      const { ours, peer } = await open('client')
      const starting = start(ours, 'client')
      ours.writer.write('last words')
      const closed = ours.writer.close()
      const server = new TLSSocket(peer, { isServer: true, secureContext: createSecureContext({ ...made.a, maxVersion: version }) })
      scope.defer(() => server.destroy())
      let text = ''
      server.on('data', (chunk) => {
        text += chunk
      })
      await starting
      await closed
      await once(server, 'end')
      expect(text).to.equal('last words')
    })
  })
}
