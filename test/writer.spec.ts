import { createHash } from 'node:crypto'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { inspect } from 'node:util'
import { expect } from 'chai'
import { Uint8ArrayList } from 'uint8arraylist'
import {
  BufferAgeLimitError,
  BusyError,
  type Chunk,
  type Connection,
  ConnectionClosedError,
  ConnectionResetError
} from '../src/index.ts'
import { BAD_DURATIONS, expectRefusal } from './helpers/bad-input.ts'
import { readToEnd } from './helpers/raw.ts'
import { rejection } from './helpers/rejection.ts'
import { useScope } from './helpers/scope.ts'
import { transcript } from './helpers/transcript.ts'
import { type Ends, open as openEnds, TOO_MUCH, TRANSPORTS } from './helpers/transports.ts'
import { turns, until } from './helpers/until.ts'

const KIB = 1024
const MIB = 1024 * KIB

describe('Writer', () => {
  for (const transport of TRANSPORTS) {
    describe(`of ${transport.name}`, () => {
      const scope = useScope()
      const open = (options?: Parameters<typeof openEnds>[2]): Promise<Ends> => openEnds(scope, transport, options)

      describe('law 1: Bytes leave in the order of the calls. write never blocks; the data must not be changed until flushed()', () => {
        it('write() sends strings, Uint8Arrays and Uint8ArrayLists in the order of the calls', async () => {
          const { connection, peer } = await open()
          const { writer } = connection
          writer.write('one ')
          writer.write(ascii('two '))
          writer.write(new Uint8ArrayList(ascii('three '), ascii('four ')))
          writer.write('five ')
          const all = writer.writeAll([ascii('six '), new Uint8ArrayList(ascii('seven '))])
          writer.write('eight ')
          await all
          writer.write('nine ')
          await writer(chunks('ten ', 'eleven '))
          expect(`${await readToEnd(peer)}`).to.equal('one two three four five six seven eight nine ten eleven ')
        })

        it('write() keeps the order of thousands of pieces of all kinds and sizes, over many turns, to a peer that stutters', async () => {
          const { connection, peer } = await open()
          const { writer } = connection
          const sent = createHash('sha256')
          const arrived = stutteringDigest(peer)
          for (let i = 0; i < 3_000; i++) {
            const length = (i * 7919) % 3_001
            const piece = patterned(length, i)
            sent.update(piece)
            if (i % 3 === 0) writer.write(piece)
            else if (i % 3 === 1) writer.write(new Uint8ArrayList(piece.subarray(0, length >> 1), piece.subarray(length >> 1)))
            else writer.write(Buffer.from(piece).toString('latin1').replace(/[^\0-\x7f]/g, '?')), sent.update('')
            if (i % 3 === 2) resent(sent)
            if (i % 50 === 0) await turns(1)
            if (i % 701 === 0) await writer.flushed()
          }
          await writer.close()
          expect(await arrived).to.equal(sent.digest('hex'))
        })
      })
    })
  }
})
