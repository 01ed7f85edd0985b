import type { Socket } from 'node:net'
import { expect } from 'chai'
import type { Connection } from '../../src/connection.ts'
import { ConnectionClosedError, ConnectionResetError, TlsError, TruncatedError } from '../../src/errors.ts'
import { type Certificates, useCertificates } from '../helpers/certificates.ts'
import { readToEnd } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { VERSIONS } from '../helpers/tls-ends.ts'
import { type PairOptions, plainPair, secure } from '../helpers/tls-pair.ts'
import { turns, until } from '../helpers/until.ts'

interface Sides {
  readonly ours: Connection
  readonly theirs: Connection
  /** What is under the TLS of the peer, for what TLS does not do. */
  readonly theirCarrier: Socket
}

for (const version of VERSIONS) {
  for (const side of ['client', 'server'] as const) {
    describe(`over ${version}, as ${side}`, () => {
      let made: Certificates

      before(function () {
        made = useCertificates(this)
      })

      const scope = useScope()

      const open = async (options: PairOptions = {}): Promise<Sides> => {
        const pair = await plainPair(scope, options)
        const [ours, theirs] = side === 'client' ? [pair.client, pair.server] : [pair.server, pair.client]
        const { socket: theirCarrier } = theirs
        await secure(pair, made, { ...options, version })
        return { ours, theirs, theirCarrier }
      }

      describe('truthful end', () => {
        it('a reader ends after a close_notify', async () => {
          const { ours, theirs } = await open()
          theirs.writer.write('all')
          await theirs.writer.close()
          expect(Buffer.from(await ours.reader.readAll()).toString()).to.equal('all')
          expect(await ours.reader.read()).to.equal(null)
        })

        it('FIN without it: all that was decrypted is delivered, then TruncatedError, again and again', async () => {
          const { ours, theirs, theirCarrier } = await open()
          theirs.writer.write('one\ntwo')
          await theirs.writer.flushed()
          theirCarrier.end()
          expect(await ours.reader.readLine()).to.equal('one')
          expect(await rejection(ours.reader.readLine()))
            .to.be.instanceOf(TruncatedError)
            .with.property('code', 'ERR_TRUNCATED')
          expect(Buffer.from((await ours.reader.read()) as Uint8Array).toString()).to.equal('two')
          for (const read of [
            () => ours.reader.read(),
            () => ours.reader.readLine(),
            () => ours.reader.readAll(),
            () => ours.reader.discard(),
            () => ours.reader.readExactly(1),
            () => ours.reader[Symbol.asyncIterator]().next()
          ]) {
            expect(await rejection(read())).to.be.instanceOf(TruncatedError)
          }
          await ours.reader.ended
        })

        it('a readExactly that comes short is told the truncation', async () => {
          const { ours, theirs, theirCarrier } = await open()
          const read = rejection(ours.reader.readExactly(100))
          theirs.writer.write('short')
          await theirs.writer.flushed()
          theirCarrier.end()
          expect(await read).to.be.instanceOf(TruncatedError)
        })

        it('the writer lives on after a truncation until it is closed', async () => {
          const { ours, theirs, theirCarrier } = await open()
          theirCarrier.end()
          await ours.reader.ended
          expect(ours.signal.aborted).to.equal(false)
          ours.writer.write('still here\n')
          expect(await theirs.reader.readLine()).to.equal('still here')
          await ours.close()
          expect(await theirs.reader.read()).to.equal(null)
        })

        it('a FIN inside a record is a truncation', async () => {
          for (const closeNotify of ['required', 'optional'] as const) {
            const { ours, theirs, theirCarrier } = await open({ [side]: { closeNotify } })
            theirs.writer.write('whole\n')
            await theirs.writer.flushed()
            theirCarrier.write(Buffer.from([23, 3, 3, 0, 100, 1, 2, 3]))
            theirCarrier.end()
            expect(await ours.reader.readLine()).to.equal('whole')
            expect(await rejection(ours.reader.readLine())).to.be.instanceOf(TruncatedError)
          }
        })

        it("closeNotify: 'optional' reads a FIN between records as an end, and a close_notify too", async () => {
          for (const isCut of [true, false]) {
            const { ours, theirs, theirCarrier } = await open({ [side]: { closeNotify: 'optional' } })
            theirs.writer.write('all')
            await theirs.writer.flushed()
            if (isCut) theirCarrier.end()
            else await theirs.writer.close()
            expect(Buffer.from(await ours.reader.readAll()).toString()).to.equal('all')
            expect(await ours.reader.read()).to.equal(null)
            ours.writer.write('still here\n')
            expect(await theirs.reader.readLine()).to.equal('still here')
            await ours.close()
            expect(await theirs.reader.read()).to.equal(null)
          }
        })

        it('a reset is told as a reset or a truncation, never as an end', async () => {
          const { ours, theirs } = await open()
          theirs.writer.write('x')
          await theirs.writer.flushed()
          theirs.abort()
          const error = await rejection(ours.reader.readAll())
          expect(error instanceof ConnectionResetError || error instanceof TruncatedError, String(error)).to.equal(true)
        })

        it('a forged record is a TlsError', async () => {
          const { ours, theirCarrier } = await open()
          theirCarrier.write(Buffer.from([23, 3, 3, 0, 30, ...new Uint8Array(30)]))
          const error = await rejection(ours.reader.read())
          expect(error)
            .to.be.instanceOf(TlsError)
            .with.property('message')
            .that.matches(/^The connection with 127\.0\.0\.1:\d+ broke: /)
          expect((error as Error).cause)
            .to.have.property('code')
            .that.matches(/^ERR_SSL_/)
          await ours.closed
          expect(ours.signal.reason).to.equal(error)
        })
      })

      describe('half-close', () => {
        it('writer.close() leaves the reader open to the very end of the peer', async () => {
          const { ours, theirs } = await open()
          await ours.writer.close()
          expect(await theirs.reader.read()).to.equal(null)
          theirs.writer.write(new Uint8Array(1_000_000).fill(7))
          void theirs.close()
          const all = await ours.reader.readAll()
          expect(all.byteLength).to.equal(1_000_000)
          expect(all.every((byte) => byte === 7)).to.equal(true)
        })

        it("the peer's close_notify leaves our writer open", async () => {
          const { ours, theirs } = await open()
          await theirs.writer.close()
          expect(await ours.reader.read()).to.equal(null)
          ours.writer.write(new Uint8Array(1_000_000))
          await ours.writer.close()
          expect((await theirs.reader.readAll()).byteLength).to.equal(1_000_000)
        })

        it("the peer's close_notify loses nothing of a write that waits", async () => {
          for (const closeNotify of ['required', 'optional'] as const) {
            const { ours, theirs } = await open({ [side]: { closeNotify } })
            ours.writer.write(new Uint8Array(16_000_000))
            await theirs.writer.close()
            expect(await ours.reader.read()).to.equal(null)
            expect(ours.writer.bytesPending).to.be.greaterThan(0)
            const closed = ours.writer.close()
            expect((await theirs.reader.readAll()).byteLength).to.equal(16_000_000)
            await closed
          }
        })

        it('sends all that waits before it', async () => {
          const { ours, theirs } = await open()
          for (let index = 0; index < 200; index++) ours.writer.write(new Uint8Array(20_000))
          const closed = ours.writer.close()
          expect((await theirs.reader.readAll()).byteLength).to.equal(4_000_000)
          await closed
        })
      })

      describe('closing', () => {
        it('close() loses nothing although session tickets and a greeting were not read', async () => {
          for (let round = 0; round < 10; round++) {
            const { ours, theirs } = await open()
            theirs.writer.write('a greeting that nobody reads')
            ours.writer.write(new Uint8Array(300_000))
            const closed = ours.close()
            expect((await theirs.reader.readAll()).byteLength).to.equal(300_000)
            await theirs.close()
            await closed
          }
        })

        it('close() waits for a silent peer no longer than linger says', async () => {
          const { ours } = await open()
          const start = performance.now()
          await ours.close({ linger: 100 })
          // 2 s are the default.
          expect(performance.now() - start).to.be.within(90, 1_900)
        })

        it('abort() sends no close_notify, and resets', async () => {
          const { ours, theirs } = await open()
          ours.writer.write('x')
          expect(await theirs.reader.read()).to.have.length(1)
          ours.abort()
          expect(await rejection(theirs.reader.read())).to.be.instanceOf(ConnectionResetError)
          expect(await rejection(ours.reader.read())).to.be.instanceOf(ConnectionClosedError)
        })

        it('abort() releases the descriptor, also while the end is on its way', async () => {
          for (let later = 0; later < 5; later++) {
            const { ours, theirs } = await open()
            void ours.writer.close()
            await turns(later)
            ours.abort()
            await ours.closed
            await theirs.reader.ended
          }
        })

        it('when both have ended, the descriptor is released by itself', async () => {
          const { ours, theirs } = await open()
          await Promise.all([ours.writer.close(), theirs.writer.close()])
          await Promise.all([ours.closed, theirs.closed])
          expect(ours.signal.reason).to.be.instanceOf(ConnectionClosedError)
          await until(() => ours.socket.destroyed)
        })
      })

      it('detach() gives an ordinary TLSSocket, with what was not read first', async () => {
        const { ours, theirs } = await open()
        theirs.writer.write('unread ')
        await until(() => ours.reader.bytesAvailable === 7)
        const socket = await ours.detach()
        theirs.writer.write('and more')
        await theirs.writer.close()
        expect((await readToEnd(socket)).toString()).to.equal('unread and more')
        socket.end('bye')
        expect(Buffer.from(await theirs.reader.readAll()).toString()).to.equal('bye')
        socket.destroy()
        await ours.closed
      })
    })
  }
}
