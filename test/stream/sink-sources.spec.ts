import { AsyncLocalStorage } from 'node:async_hooks'
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { Readable } from 'node:stream'
import { expect } from 'chai'
import { ConnectionClosedError } from '../../src/index.ts'
import { readToEnd } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { openEnds, openPair, TRANSPORTS } from '../helpers/transports.ts'
import { turns } from '../helpers/until.ts'

const MINE = new Error('mine')
const throws = (): never => {
  throw MINE
}

let pulls = 0
const from = (next: () => unknown): AsyncIterable<Uint8Array> => ({ [Symbol.asyncIterator]: () => ({ next: next as never }) })
const goodOnce = (then: () => unknown) => () => (++pulls < 2 ? Promise.resolve({ value: new Uint8Array(1) }) : then())

/** Sources that `for await` copes with, and that throw when they are looked at. */
const HOSTILE: Record<string, () => AsyncIterable<Uint8Array> | Iterable<Uint8Array>> = {
  // biome-ignore lint/suspicious/noThenProperty: it is what is tested
  'then() throws': () => from(() => ({ then: throws })),
  // biome-ignore lint/suspicious/noThenProperty: it is what is tested
  'then() throws, the second time': () => from(goodOnce(() => ({ then: throws }))),
  'looking at then throws': () => from(() => Object.defineProperty({}, 'then', { get: throws })),
  'looking at done throws': () => from(async () => Object.defineProperty({}, 'done', { get: throws })),
  'looking at value throws': () => from(async () => Object.defineProperty({ done: false }, 'value', { get: throws })),
  'looking at done throws, the second time': () => from(goodOnce(async () => Object.defineProperty({}, 'done', { get: throws }))),
  'looking at done throws, in a sync source': () => ({
    [Symbol.iterator]: () => ({ next: () => Object.defineProperty({}, 'done', { get: throws }) as never })
  })
}

describe('Sources of a sink', () => {
  beforeEach(() => {
    pulls = 0
  })

  for (const kind of TRANSPORTS) {
    describe(`into ${kind.name}`, () => {
      const scope = useScope()

      for (const [what, source] of Object.entries(HOSTILE)) {
        it(`one where ${what} fails the sink with what was thrown, and leaves no writer busy`, async () => {
          const { connection } = await openEnds(scope, kind)
          expect(await rejection(connection.writer.writeAll(source()))).to.equal(MINE)
          expect(await rejection(connection.writer.writeAll([])))
            .to.be.instanceOf(ConnectionClosedError)
            .with.property('cause', MINE)
        })
      }

      it('`done: 1` is an end, as it is for `for await`', async () => {
        const { connection, peer } = await openEnds(scope, kind)
        await connection.writer(from(goodOnce(async () => ({ done: 1 }))))
        expect((await readToEnd(peer)).byteLength).to.equal(1)
      })

      it('one that is refused since the connection is closed is let go: a file that has not been opened yet', async () => {
        const { connection } = await openEnds(scope, kind)
        connection.abort()
        for (const method of ['writer', 'writeAll'] as const) {
          const file = createReadStream(import.meta.filename)
          const refused = method === 'writer' ? connection.writer(file) : connection.writer.writeAll(file)
          expect(await rejection(refused)).to.be.instanceOf(ConnectionClosedError)
          if (!file.closed) await once(file, 'close')
          expect(file.destroyed).to.equal(true)
        }
      })

      it('strings may be among what they yield, as write() takes them', async () => {
        const { connection, peer } = await openEnds(scope, kind)
        await connection.writer(['grüße', new Uint8Array([0x20]), '', '€'])
        expect(`${await readToEnd(peer)}`).to.equal('grüße €')
      })

      it('run in the async context of who called the sink, whoever lets them go on', async () => {
        const { client, server } = await openPair(scope, kind.isTcp)
        const storage = new AsyncLocalStorage<string>()
        const seen = new Set<string | undefined>()
        const source = function* (): Generator<Uint8Array> {
          try {
            // More than the system takes at once, so that the sink has to wait for it.
            for (let count = 0; count < 200; count++) {
              seen.add(storage.getStore())
              yield new Uint8Array(65_536)
            }
          } finally {
            seen.add(storage.getStore())
          }
        }
        const sink = storage.run('mine', () => client.writer.writeAll(source()))
        expect(await server.reader.readExactly(200 * 65_536)).to.have.length(200 * 65_536)
        await sink
        const stopped = storage.run('mine', () => client.writer.writeAll(source()))
        await turns()
        server.abort()
        await rejection(stopped)
        expect([...seen]).to.deep.equal(['mine'])
      })
    })
  }

  const scope = useScope()

  it('a string or bytes are no source: refused with what was received, and nothing happens', async () => {
    const { connection, peer } = await openEnds(scope, TRANSPORTS[0] as (typeof TRANSPORTS)[0])
    expect(await rejection(connection.writer('hello' as never)))
      .to.be.instanceOf(TypeError)
      .with.property('message', "Cannot write as 'source' must be an iterable or async iterable of chunks: received 'hello'")
    expect(await rejection(connection.writer.writeAll(new Uint8Array(2) as never))).to.be.instanceOf(TypeError)
    await connection.writer(Readable.from([Buffer.from('still open')]))
    expect(`${await readToEnd(peer)}`).to.equal('still open')
  })
})
