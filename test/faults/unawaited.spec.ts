import type { Socket } from 'node:net'
import { expect } from 'chai'
import {
  BusyError,
  type Connection,
  ConnectionClosedError,
  ConnectionResetError,
  connect,
  ServerClosedError,
  toHostAndPort,
  UnexpectedEndError
} from '../../src/index.ts'
import { rawServer } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { inEverySetting } from '../helpers/settings.ts'
import { openEnds, openPair, TOO_MUCH, TRANSPORTS } from '../helpers/transports.ts'
import { refuseUnhandled } from '../helpers/unhandled.ts'
import { turns, until } from '../helpers/until.ts'

/** Every call that may be begun ahead and waited for later, as a promise. */
const READS: Record<string, (connection: Connection) => Promise<unknown>> = {
  'read()': ({ reader }) => reader.read(),
  'readExactly()': ({ reader }) => reader.readExactly(10),
  'readUntil()': ({ reader }) => reader.readUntil('\n'),
  'peek()': ({ reader }) => reader.peek(10),
  'readLine()': ({ reader }) => reader.readLine(),
  'readAll()': ({ reader }) => reader.readAll(),
  'readInto()': ({ reader }) => reader.readInto(new Uint8Array(10)),
  'discard()': ({ reader }) => reader.discard(),
  'next() of the chunks': ({ reader }) => reader[Symbol.asyncIterator]().next(),
  'next() of the lines': ({ reader }) => reader.lines().next(),
  'next() of batches of lines': ({ reader }) => reader.lineBatches().next()
}

const hanging = (): AsyncIterable<Uint8Array> => ({ [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}) }) })

const SENDING: Record<string, (connection: Connection) => Promise<unknown>> = {
  'flushed()': ({ writer }) => writer.flushed(),
  'writer.close()': ({ writer }) => writer.close(),
  'the sink': ({ writer }) => writer(hanging()),
  'writeAll()': ({ writer }) => writer.writeAll(hanging()),
  'close()': (connection) => connection.close()
}

/** Lets an unhandled rejection come about, and fails if one has. */
async function expectNothingUnhandled(): Promise<void> {
  await turns(3)
  await refuseUnhandled()
}

describe('What nobody awaits is told at the next call, and never fatal', () => {
  for (const kind of TRANSPORTS) {
    describe(`on ${kind.name}`, () => {
      const scope = useScope()

      for (const [name, start] of Object.entries(READS)) {
        it(`${name} that is begun ahead of a reset, or of an end amid what it wants`, async () => {
          const { connection, peer } = await openEnds(scope, kind)
          const ahead = start(connection)
          await breakOff(peer, kind.isTcp)
          await connection.reader.ended
          await expectNothingUnhandled()
          if (!kind.isTcp) return
          expect(await rejection(ahead)).to.be.instanceOf(ConnectionResetError)
          expect(await rejection(connection.reader.read())).to.be.instanceOf(ConnectionResetError)
        })

        it(`${name} that is begun when the connection has broken, is closed, or whose signal aborts`, async () => {
          const { connection, peer } = await openEnds(scope, kind)
          await breakOff(peer, kind.isTcp)
          await connection.reader.ended
          const late = start(connection)
          connection.abort()
          const later = start(connection)
          await expectNothingUnhandled()
          if (kind.isTcp) expect(await rejection(late)).to.be.instanceOf(ConnectionResetError)
          expect(await rejection(later)).to.be.instanceOf(kind.isTcp ? Error : ConnectionClosedError)
        })

        it(`${name} that is begun ahead of abort()`, async () => {
          const { connection } = await openEnds(scope, kind)
          const ahead = start(connection)
          connection.abort()
          await expectNothingUnhandled()
          expect(await rejection(ahead)).to.be.instanceOf(ConnectionClosedError)
        })
      }

      it('a read that is ended by its signal, or by its time', async () => {
        const { connection } = await openEnds(scope, kind)
        const controller = new AbortController()
        const ahead = connection.reader.read({ signal: controller.signal })
        controller.abort(new Error('mine'))
        await expectNothingUnhandled()
        expect(await rejection(ahead)).to.have.property('message', 'mine')
        const timed = connection.reader.read({ timeout: 1 })
        const state = { settled: false }
        timed
          .finally(() => {
            state.settled = true
          })
          .catch(() => {})
        await until(() => state.settled)
        await expectNothingUnhandled()
      })

      for (const [name, start] of Object.entries(SENDING)) {
        it(`${name} while the peer does not read, when the connection is aborted`, async () => {
          const { connection } = await openEnds(scope, kind)
          connection.writer.write(TOO_MUCH)
          const sending = start(connection)
          await turns(2)
          connection.abort()
          const late = start(connection)
          await expectNothingUnhandled()
          expect(await rejection(sending)).to.be.instanceOf(ConnectionClosedError)
          await Promise.allSettled([late])
        })
      }

      it('an end amid what is wanted', async () => {
        const { connection, peer } = await openEnds(scope, kind)
        const ahead = connection.reader.readExactly(10)
        peer.end('five')
        await connection.reader.ended
        await expectNothingUnhandled()
        expect(await rejection(ahead)).to.be.instanceOf(UnexpectedEndError)
      })
    })
  }

  describe('of a sink beside reads, whose own failure comes first', () => {
    const scope = useScope()

    it('a sink that reads from another connection, which breaks', async () => {
      const { client, server } = await openPair(scope, true)
      const raw = await rawServer(scope)
      const upstream = await connect(toHostAndPort('127.0.0.1', raw.target as number))
      scope.defer(() => upstream.abort())
      const up = upstream.writer(server.reader)
      const through = upstream.writer.isClosed
      client.abort()
      await upstream.closed
      await expectNothingUnhandled()
      expect(through).to.equal(false)
      expect(await rejection(up)).to.be.instanceOf(ConnectionResetError)
    })

    it('a sink that is a second one stays loud', async () => {
      const { client } = await openPair(scope, true)
      void client.writer(hanging())
      void client.writer([])
      await turns(3)
      expect(await rejection(refuseUnhandled()))
        .to.be.instanceOf(AggregateError)
        .with.nested.property('errors[0]')
        .that.is.instanceOf(BusyError)
    })

    it('a source that throws an error of the program stays loud', async () => {
      const { client } = await openPair(scope, true)
      const mine = new Error('mine')
      void client.writer(
        (function* () {
          yield 'x'
          throw mine
        })() as Iterable<never>
      )
      await turns(3)
      expect(await rejection(refuseUnhandled()))
        .to.be.instanceOf(AggregateError)
        .with.property('errors')
        .that.deep.equals([mine])
    })
  })

  inEverySetting((setting) => {
    it('an accept() that is begun ahead of the end of the server', async () => {
      const server = await setting.listen()
      const ahead = server.accept()
      const abortable = server.accept({ signal: new AbortController().signal })
      await server.close()
      await expectNothingUnhandled()
      expect(await rejection(ahead)).to.be.instanceOf(ServerClosedError)
      expect(await rejection(abortable)).to.be.instanceOf(ServerClosedError)
    })
  })
})

async function breakOff(peer: Socket, isTcp: boolean): Promise<void> {
  if (isTcp) peer.resetAndDestroy()
  else peer.destroy()
  await new Promise((resolve) => peer.once('close', resolve))
}
