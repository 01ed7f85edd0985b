import { PassThrough } from 'node:stream'
import { expect } from 'chai'
import { doNothing } from '../../src/async/do-nothing.ts'
import {
  BusyError,
  type Connection,
  ConnectionClosedError,
  ConnectionResetError,
  fromDuplex,
  ReadTimeoutError,
  relay,
  toDuplex,
  toWebStreams
} from '../../src/index.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { type Ends, openEnds, TRANSPORTS } from '../helpers/transports.ts'
import { turns } from '../helpers/until.ts'

type Refusal = typeof BusyError | typeof ConnectionClosedError | typeof ConnectionResetError | typeof ReadTimeoutError

/** In which a connection may be when it is called. */
const STATES: Readonly<Record<string, (ends: Ends) => unknown>> = {
  closed: ({ connection }) => connection.close({ linger: 0 }),
  aborted: ({ connection }) => connection.abort(new Error('mine')),
  broken: async ({ connection, peer }) => {
    connection.writer.write('unread')
    await connection.writer.flushed()
    peer.resetAndDestroy()
    await connection.closed
  },
  detached: async ({ connection }) => {
    ;(await connection.detach()).destroy()
    await connection.closed
  },
  'being read': ({ connection }) => void connection.reader.read().catch(doNothing),
  'being written to': async ({ connection }) => {
    connection.writer(silence()).catch(doNothing)
    await turns()
  },
  'another stream': ({ connection }) => toDuplex(connection).on('error', doNothing)
}

async function* silence(): AsyncGenerator<Uint8Array> {
  yield new Uint8Array(1)
  await new Promise(doNothing)
}

const GONE = { closed: ConnectionClosedError, aborted: ConnectionClosedError, detached: ConnectionClosedError }
const BUSY = { 'being read': BusyError, 'being written to': BusyError }

/** What is called, and what of it is refused in which state. What had arrived on a broken connection can be read of its streams, too. */
const CALLS: Readonly<Record<string, { call(connection: Connection): unknown; refused: Readonly<Record<string, Refusal>> }>> = {
  'detach()': { call: (connection) => connection.detach(), refused: { ...GONE, ...BUSY, broken: ConnectionResetError } },
  'toDuplex()': { call: (connection) => toDuplex(connection), refused: { ...GONE, ...BUSY, 'another stream': BusyError } },
  'toWebStreams()': { call: (connection) => toWebStreams(connection), refused: { ...GONE, ...BUSY, 'another stream': BusyError } },
  'relay(it, …)': {
    call: (connection) => relay(connection, fromDuplex(new PassThrough())),
    refused: { ...GONE, ...BUSY, broken: ConnectionResetError, 'another stream': BusyError }
  },
  'relay(…, it)': {
    call: (connection) => relay(fromDuplex(new PassThrough()), connection),
    refused: { ...GONE, ...BUSY, broken: ConnectionResetError, 'another stream': BusyError }
  },
  'startTls()': {
    call: (connection) => connection.startTls({ serverName: 'localhost' }),
    refused: { ...GONE, ...BUSY, broken: ConnectionResetError }
  },
  'readLine({ timeout, ending, encoding })': {
    call: (connection) => connection.reader.readLine({ timeout: 1, ending: 'crlf', encoding: 'latin1' }),
    refused: { ...GONE, broken: ConnectionResetError, 'being read': BusyError, 'being written to': ReadTimeoutError }
  },
  'chunks({ timeout })': {
    call: (connection) => connection.reader.chunks({ timeout: 1 }).next(),
    refused: { ...GONE, broken: ConnectionResetError, 'being read': BusyError, 'being written to': ReadTimeoutError }
  }
}

describe('A call at the wrong moment', () => {
  for (const transport of TRANSPORTS) {
    describe(`on ${transport.name}`, () => {
      const scope = useScope()

      for (const [name, { call, refused }] of Object.entries(CALLS)) {
        for (const [state, Refused] of Object.entries(refused)) {
          if (state === 'broken' && !transport.isTcp) continue
          it(`${name} on a connection that is ${state}: ${Refused.name}, and nothing is left open`, async () => {
            const ends = await openEnds(scope, transport)
            await STATES[state]?.(ends)
            const error = await rejection(Promise.resolve().then(() => call(ends.connection)))
            expect(error).to.be.instanceOf(Refused)
            ends.connection.abort()
          })
        }
      }

      for (const state of Object.keys(STATES)) {
        if (state === 'broken' && !transport.isTcp) continue
        it(`close({ linger }) of a connection that is ${state} refuses what is no time, and otherwise resolves`, async () => {
          const ends = await openEnds(scope, transport)
          await STATES[state]?.(ends)
          const { connection } = ends
          expect(await rejection(connection.close({ linger: -1 }))).to.be.instanceOf(RangeError)
          expect(await rejection(connection.close({ linger: '5' as never }))).to.be.instanceOf(TypeError)
          ends.peer.destroy()
          // A source that never ends is not waited for; what it should still have said is lost.
          await connection.close({ linger: 0, forceAfter: 0 }).catch((error: unknown) => {
            expect([state, (error as Error).name]).to.deep.equal(['being written to', 'ConnectionClosedError'])
          })
          await connection.closed
        })
      }
    })
  }
})
