import type { TLSSocket } from 'node:tls'
import { expect } from 'chai'
import { type Certificates, useCertificates } from '../helpers/certificates.ts'
import { useScope } from '../helpers/scope.ts'
import { type Kind, relayed, VERSIONS, type Version } from '../helpers/tls-ends.ts'
import { turns, until } from '../helpers/until.ts'

const RECORDS = 50

describe('TlsTransport', () => {
  let made: Certificates

  before(function () {
    made = useCertificates(this)
  })

  const scope = useScope()

  const sides = (['client', 'server'] as const).flatMap((to) => (['handle', 'bare'] as const).map((kind) => [to, kind] as const))

  const losesNothing = (version: Version, to: 'client' | 'server', kind: Kind): void => {
    // Where SSL_shutdown meets records that are not decrypted, they are lost without a word.
    for (const [when, later] of Object.entries({
      'from the news of the first bytes': (then: () => void) => then(),
      'in a microtask of it': (then: () => void) => queueMicrotask(then),
      'in a tick of it': (then: () => void) => process.nextTick(then),
      'in a turn of its own': (then: () => void) => setImmediate(then),
      'before any byte': undefined
    })) {
      it(`end() loses nothing of ${RECORDS} records in one packet when called ${when}`, async () => {
        const relay = await relayed(scope, made, version, to, kind)
        const { receiver, sender } = relay
        relay.hold()
        for (let record = 0; record < RECORDS; record++) await sender.write(`record ${record}\n`)
        const bytes = await relay.held()
        receiver.onReceived = () => {
          receiver.onReceived = undefined
          later?.(() => receiver.transport.end())
        }
        if (later === undefined) receiver.transport.end()
        await relay.deliver(bytes)
        await until(() => sender.end === 'orderly', 'the sender is told of our end')
        sender.transport.end()
        await relay.deliver(await relay.heldToFin())
        await until(() => receiver.end, 'the end is told')
        expect(receiver.end).to.equal('orderly')
        expect(receiver.text).to.equal(Array.from({ length: RECORDS }, (_, record) => `record ${record}\n`).join(''))
      })
    }
  }

  for (const version of VERSIONS) {
    for (const to of ['client', 'server'] as const) {
      describe(`over ${version}, as ${to}, over a stream`, () => losesNothing(version, to, 'stream'))
    }
    for (const [to, kind] of sides) {
      describe(`over ${version}, as ${to}${kind === 'bare' ? ', the server without a socket' : ''}`, () => {
        losesNothing(version, to, kind)

        it('end() comes behind all that was written, however much that is', async () => {
          const relay = await relayed(scope, made, version, to, kind)
          const { receiver, sender } = relay
          const chunk = new Uint8Array(16_000_000)
          relay.stall()
          sender.transport.write([{ chunk, encoding: 'buffer', byteLength: chunk.byteLength }])
          sender.transport.end()
          await turns(20)
          expect(sender.isFinished).to.equal(false)
          relay.flow()
          await until(() => receiver.end, 'the end is told')
          expect(receiver.end).to.equal('orderly')
          expect(receiver.length).to.equal(chunk.byteLength + 1)
          expect(sender.isFinished).to.equal(true)
        })

        it('reset() releases the descriptor also while the end is on its way', async () => {
          const { receiver } = await relayed(scope, made, version, to, kind)
          receiver.transport.end()
          setImmediate(() => receiver.transport.reset())
          await until(() => receiver.isClosed, 'it is released')
        })

        it('counts what the carrier took, and never backwards', async () => {
          const relay = await relayed(scope, made, version, to, kind)
          const { sender, receiver } = relay
          relay.hold()
          const before = sender.transport.taken as number
          await sender.write(new Uint8Array(100_000))
          await relay.held()
          const after = sender.transport.taken as number
          expect(after - before).to.be.within(100_000, 101_000)
          // Short enough to be handed over in one go, and nothing of it is left.
          expect(sender.transport).to.include({ unsent: 0, mustEnd: true, gatherSize: 16_384, isDestroyed: false })
          receiver.transport.destroy()
          expect(receiver.transport.isDestroyed).to.equal(true)
        })

        it('does not say that nothing is left of a write of which TLSWrap has something', async () => {
          const { sender, receiver } = await relayed(scope, made, version, to, kind)
          const chunk = new Uint8Array(400_000)
          sender.transport.write([{ chunk, encoding: 'buffer', byteLength: chunk.byteLength }])
          expect(sender.transport.unsent).to.equal(undefined)
          await until(() => receiver.length === 1 + chunk.byteLength, 'all has arrived')
        })

        it('carries on over the socket that somebody asks for, and tells when that is closed', async () => {
          const { sender, receiver } = await relayed(scope, made, version, to, kind)
          for (const { transport } of [sender, receiver]) expect(transport.socket).to.include({ destroyed: false, encrypted: true })
          await sender.write(new Uint8Array(100_000))
          await until(() => receiver.length === 100_001, 'all has arrived')
          await receiver.write('answer')
          await until(() => sender.text === 'answer', 'the answer has arrived')
          const socket = sender.transport.socket as TLSSocket
          expect(socket.getProtocol()).to.equal(version)
          expect(socket.exportKeyingMaterial(32, 'EXPERIMENTAL', Buffer.of())).to.have.length(32)
          expect(sender.transport.tls?.exportKeyingMaterial(32, 'EXPERIMENTAL')).to.deep.equal(
            receiver.transport.tls?.exportKeyingMaterial(32, 'EXPERIMENTAL')
          )
          sender.transport.end()
          await until(() => receiver.end === 'orderly', 'the end is told')
          receiver.transport.socket?.destroy()
          await until(() => receiver.isClosed && sender.end)
          expect(sender.end).to.equal('cut')
          expect(() => receiver.transport.tls?.exportKeyingMaterial(32, 'EXPERIMENTAL')).to.throw('the connection is closed')
        })

        if (kind === 'bare' && to === 'server')
          it('a FIN is told as a cut, though the socket was asked for while nothing was read', async () => {
            const relay = await relayed(scope, made, version, to, kind)
            const { receiver, sender } = relay
            relay.hold()
            await sender.write('x')
            receiver.isStopping = true
            Object.assign(receiver.transport, { resume() {} })
            await relay.deliver(await relay.held())
            await until(() => receiver.length === 2, 'it has stopped')
            expect(receiver.transport.socket).to.include({ destroyed: false })
            await relay.fin()
            await until(() => receiver.end, 'the end is told')
            expect(receiver.end).to.equal('cut')
          })

        it('reset() is a RST, and tells the owner that it is released', async () => {
          const { receiver, sender } = await relayed(scope, made, version, to, kind)
          sender.transport.reset()
          await until(() => sender.isClosed && receiver.end)
          expect(receiver.end).to.be.instanceOf(Error)
        })
      })
    }
  }
})
