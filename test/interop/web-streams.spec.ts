import { expect } from 'chai'
import { BusyError, ConnectionClosedError, ConnectionResetError, toWebStreams } from '../../src/index.ts'
import { expectRefusal } from '../helpers/bad-input.ts'
import { readToEnd } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { openEnds, TOO_MUCH, TRANSPORTS } from '../helpers/transports.ts'
import { turns, until } from '../helpers/until.ts'

const bytes = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text)

describe('toWebStreams()', () => {
  for (const transport of TRANSPORTS) {
    describe(`of ${transport.name}`, () => {
      const scope = useScope()

      it('reads, writes and half-closes', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        peer.write('unread, ')
        await connection.reader.peek(1)
        const { readable, writable, closed } = toWebStreams(connection)
        const writer = writable.getWriter()
        await writer.write(bytes('question'))
        await writer.close()
        expect((await readToEnd(peer)).toString()).to.equal('question')
        peer.end('answer')
        expect(await new Response(readable).text()).to.equal('unread, answer')
        await closed
        expect(connection.signal.reason).to.be.instanceOf(ConnectionClosedError)
      })

      it('reads into buffers of the caller (BYOB), and what does not fit waits for the next', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        peer.end('0123456789')
        await connection.reader.ended
        const reader = toWebStreams(connection).readable.getReader({ mode: 'byob' })
        const parts: string[] = []
        for (;;) {
          const { value, done } = await reader.read(new Uint8Array(4))
          if (done) break
          parts.push(new TextDecoder().decode(value))
        }
        expect(parts).to.deep.equal(['0123', '4567', '89'])
        expect(await reader.closed).to.equal(undefined)
      })

      it('backpressure: nothing is read ahead, and a peer that does not read holds the writer back', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        const { readable, writable } = toWebStreams(connection)
        peer.write(TOO_MUCH)
        await turns(50)
        expect(peer.writableLength).to.be.greaterThan(0)
        const held = connection.reader.bytesAvailable
        await turns()
        expect(connection.reader.bytesAvailable).to.equal(held)
        const writer = writable.getWriter()
        void writer.write(TOO_MUCH).catch(() => {})
        let isReady = false
        void writer.ready.then(
          () => {
            isReady = true
          },
          () => {}
        )
        await turns(50)
        expect(isReady).to.equal(false)
        await readable.cancel()
        connection.abort()
        await rejection(writer.closed)
      })

      it('a cancelled readable takes no byte more and lets the writable go on; once that is closed too, the connection is', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        const { readable, writable, closed } = toWebStreams(connection)
        const reader = readable.getReader()
        const pending = reader.read()
        await turns()
        await reader.cancel(new Error('not interested'))
        expect(await pending).to.deep.equal({ value: undefined, done: true })
        peer.write(TOO_MUCH)
        await turns(50)
        expect(peer.writableLength).to.be.greaterThan(0)
        expect(connection.reader.bytesAvailable).to.equal(connection.reader.bytesRead)
        const writer = writable.getWriter()
        await writer.write(bytes('still here'))
        await writer.close()
        peer.end()
        expect((await readToEnd(peer)).toString()).to.equal('still here')
        await closed
      })

      it('an aborted writable is connection.abort(reason), which reaches both', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        const { readable, writable, closed } = toWebStreams(connection)
        const reason = new Error('mine')
        peer.resume()
        const read = rejection(readable.getReader().read())
        await writable.abort(reason)
        expect(((await read) as Error).cause).to.equal(reason)
        await closed
        expect(connection.signal.reason).to.equal(reason)
      })

      it('connection.close() by another hand reaches both', async () => {
        const { connection } = await openEnds(scope, transport)
        const { readable, writable } = toWebStreams(connection)
        const writer = writable.getWriter()
        const outcomes = [rejection(readable.getReader().read()), rejection(writer.closed)]
        await connection.close({ linger: 0 })
        for (const error of await Promise.all(outcomes)) expect(error).to.be.instanceOf(ConnectionClosedError)
      })

      it('a chunk that is no bytes aborts the connection: what was sent is not the whole', async () => {
        const { connection } = await openEnds(scope, transport)
        const writer = toWebStreams(connection).writable.getWriter()
        writer.closed.catch(() => {})
        expect(await rejection(writer.write(42 as never))).to.be.instanceOf(TypeError)
        await connection.closed
        expect(connection.signal.reason).to.be.instanceOf(TypeError)
      })

      if (transport.isTcp) {
        it('a reset reaches both, and what had arrived comes before it', async () => {
          const { connection, peer } = await openEnds(scope, transport)
          const { readable, writable } = toWebStreams(connection)
          const writer = writable.getWriter()
          const reader = readable.getReader()
          peer.write('arrived')
          await until(() => connection.reader.bytesAvailable === 7)
          peer.resetAndDestroy()
          expect(await rejection(writer.closed)).to.be.instanceOf(ConnectionResetError)
          expect((await reader.read()).value).to.deep.equal(bytes('arrived'))
          expect(await rejection(reader.read())).to.be.instanceOf(ConnectionResetError)
        })
      }

      it('pipes through TextDecoderStream and CompressionStream, and from what ReadableStream.from() makes of a reader', async () => {
        const first = await openEnds(scope, transport)
        first.peer.end('zwölf Boxkämpfer')
        let decoded = ''
        for await (const part of toWebStreams(first.connection).readable.pipeThrough(new TextDecoderStream())) decoded += part
        expect(decoded).to.equal('zwölf Boxkämpfer')

        const second = await openEnds(scope, transport)
        const { readable, writable } = toWebStreams(second.connection)
        second.peer.end('compress me')
        const received = readToEnd(second.peer)
        await readable.pipeThrough(new CompressionStream('gzip')).pipeTo(writable)
        const unpacked = new Response(await received).body?.pipeThrough(new DecompressionStream('gzip'))
        expect(await new Response(unpacked).text()).to.equal('compress me')

        const third = await openEnds(scope, transport)
        third.peer.end('from')
        expect(await new Response(ReadableStream.from(third.connection.reader)).text()).to.equal('from')
      })
    })
  }

  const scope = useScope()

  it('refuses what is no connection, or a closed or busy one', async () => {
    for (const value of [undefined, null, 42, {}]) {
      try {
        toWebStreams(value as never)
        expect.fail('accepted')
      } catch (error) {
        expectRefusal(error, 'connection', 'Cannot make web streams', value)
      }
    }
    const { connection } = await openEnds(scope, { name: '', isTcp: true, isAccepted: false })
    const read = rejection(connection.reader.read())
    expect(() => toWebStreams(connection)).to.throw(BusyError)
    connection.abort()
    await read
    expect(() => toWebStreams(connection)).to.throw(ConnectionClosedError)
  })
})
