import type { Socket } from 'node:net'
import { PassThrough } from 'node:stream'
import { expect } from 'chai'
import {
  BusyError,
  type Connection,
  ConnectionClosedError,
  ConnectionResetError,
  fromDuplex,
  IdleTimeoutError,
  relay
} from '../../src/index.ts'
import { expectRefusal } from '../helpers/bad-input.ts'
import { readToEnd } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { openEnds, TOO_MUCH, TRANSPORTS } from '../helpers/transports.ts'
import { turns, until } from '../helpers/until.ts'

interface Joined {
  readonly a: Connection
  readonly b: Connection
  readonly left: Socket
  readonly right: Socket
}

describe('relay()', () => {
  for (const transport of TRANSPORTS) {
    describe(`of ${transport.name} and another one`, () => {
      const scope = useScope()

      async function open(options = {}): Promise<Joined> {
        const { connection: a, peer: left } = await openEnds(scope, transport, options)
        const { connection: b, peer: right } = await openEnds(scope, transport, options)
        return { a, b, left, right }
      }

      it('sends each what the other receives, with what had arrived first, counts it, and has closed both', async () => {
        const { a, b, left, right } = await open()
        left.write('header\nbody')
        expect(await a.reader.readLine()).to.equal('header')
        const relayed = relay(a, b)
        left.end(' and more')
        right.end('answer')
        expect((await readToEnd(right)).toString()).to.equal('body and more')
        expect((await readToEnd(left)).toString()).to.equal('answer')
        expect(await relayed).to.deep.equal({ aToB: 13, bToA: 6 })
        expect([a.signal.aborted, b.signal.aborted]).to.deep.equal([true, true])
      })

      it('carries a half-close through, and the other direction goes on', async () => {
        const { a, b, left, right } = await open()
        const relayed = relay(a, b)
        left.end('question')
        expect((await readToEnd(right)).toString()).to.equal('question')
        await turns()
        right.write('late ')
        await turns()
        right.end('answer')
        expect((await readToEnd(left)).toString()).to.equal('late answer')
        await relayed
      })

      it('goes as fast as the receiver takes it', async () => {
        const { a, b, left, right } = await open()
        const relayed = relay(a, b)
        left.end(TOO_MUCH)
        await turns(100)
        expect(left.writableLength).to.be.greaterThan(0)
        expect(b.writer.bytesPending).to.be.lessThan(1_000_000)
        right.end()
        left.resume()
        expect((await readToEnd(right)).length).to.equal(TOO_MUCH.length)
        expect((await relayed).aToB).to.equal(TOO_MUCH.length)
      })

      if (transport.isTcp) {
        for (const who of ['left', 'right'] as const) {
          for (const isHalfClosed of [false, true]) {
            it(`a reset of ${who}${isHalfClosed ? ' after a half-close of the other' : ''} resets the other and rejects with that error`, async () => {
              const ends = await open()
              const relayed = rejection(relay(ends.a, ends.b))
              const other = ends[who === 'left' ? 'right' : 'left']
              const told = new Promise((resolve) => other.once('error', resolve))
              other.resume()
              if (isHalfClosed) {
                other.end()
                await new Promise((resolve) => ends[who].resume().once('end', resolve))
              }
              ends[who].write('x')
              await turns(5)
              ends[who].resetAndDestroy()
              const error = (await relayed) as Error
              expect(error).to.be.instanceOf(ConnectionResetError)
              expect(error).to.equal((who === 'left' ? ends.a : ends.b).signal.reason)
              expect(await told).to.have.property('code', 'ECONNRESET')
              expect([ends.a.signal.aborted, ends.b.signal.aborted]).to.deep.equal([true, true])
            })
          }
        }

        for (const who of ['left', 'right'] as const) {
          it(`a ${who} that ends, and resets while it is sent something, resets the other`, async () => {
            const ends = await open()
            const relayed = rejection(relay(ends.a, ends.b))
            const other = ends[who === 'left' ? 'right' : 'left']
            const told = new Promise((resolve) => other.once('error', resolve))
            ends[who].end()
            await new Promise((resolve) => other.resume().once('end', resolve))
            ends[who].resetAndDestroy()
            other.write('into the void')
            expect(await relayed).to.be.instanceOf(ConnectionResetError)
            // It has read to the end, so only a write notices.
            other.write('again')
            expect((await told) as NodeJS.ErrnoException)
              .to.have.property('code')
              .that.is.oneOf(['ECONNRESET', 'EPIPE'])
          })
        }

        it('a peer that resets while the other does not read does not leave anything behind', async () => {
          const { a, b, left } = await open()
          const relayed = rejection(relay(a, b))
          left.write(TOO_MUCH)
          await turns(50)
          left.resetAndDestroy()
          b.abort()
          await relayed
          await Promise.all([a.closed, b.closed])
        })
      }

      it('abort(reason) of either ends it, and the limits of a stream do', async () => {
        const first = await open()
        const relayed = rejection(relay(first.a, first.b))
        const reason = new Error('enough')
        first.a.abort(reason)
        const error = (await relayed) as Error
        expect(error).to.be.instanceOf(ConnectionClosedError)
        expect(error.cause).to.equal(reason)
        await first.b.closed
        const second = await open({ idleTimeout: 50 })
        expect(await rejection(relay(second.a, second.b))).to.be.instanceOf(IdleTimeoutError)
      })
    })
  }

  const scope = useScope()

  it('joins streams of any kind', async () => {
    const { connection, peer } = await openEnds(scope, { name: '', isTcp: true, isAccepted: true })
    const relayed = relay(connection, fromDuplex(new PassThrough()))
    peer.end('echo')
    expect((await readToEnd(peer)).toString()).to.equal('echo')
    expect(await relayed).to.deep.equal({ aToB: 4, bToA: 4 })
  })

  it('refuses what is no stream, the same twice, and a closed, busy or detached one, and nothing has happened to either', async () => {
    const { connection, peer } = await openEnds(scope, { name: '', isTcp: true, isAccepted: true })
    for (const value of [undefined, null, 42, {}]) {
      expectRefusal(await rejection(relay(value as never, connection)), 'a', 'Cannot relay', value)
      expectRefusal(await rejection(relay(connection, value as never)), 'b', 'Cannot relay', value)
    }
    expect(await rejection(relay(connection, connection))).to.have.property(
      'message',
      "Cannot relay as 'b' must be another stream than 'a': received the same"
    )
    const { connection: busy } = await openEnds(scope, { name: '', isTcp: true, isAccepted: true })
    const read = rejection(busy.reader.read())
    expect(await rejection(relay(connection, busy))).to.be.instanceOf(BusyError)
    busy.abort()
    await read
    expect(await rejection(relay(connection, busy))).to.be.instanceOf(ConnectionClosedError)
    expect(await rejection(relay(busy, connection))).to.be.instanceOf(ConnectionClosedError)
    const { connection: given } = await openEnds(scope, { name: '', isTcp: true, isAccepted: true })
    const socket = await given.detach()
    expect(await rejection(relay(connection, given))).to.be.instanceOf(ConnectionClosedError)
    socket.destroy()
    await until(() => socket.closed)
    peer.end('alive')
    expect(await connection.reader.readLine()).to.equal('alive')
  })
})
