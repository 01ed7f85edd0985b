import { once } from 'node:events'
import type { Socket } from 'node:net'
import { expect } from 'chai'
import { pipe } from 'it-pipe'
import { pushable } from 'it-pushable'
import { Uint8ArrayList } from 'uint8arraylist'
import { type Chunk, type Connection, ConnectionClosedError, type ConnectionOptions, ConnectionResetError } from '../../src/index.ts'
import { rawPair, readToEnd } from '../helpers/raw.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { type Ends, openEnds, TOO_MUCH, TRANSPORTS } from '../helpers/transports.ts'
import { turns, until } from '../helpers/until.ts'

describe('it-pipe', () => {
  for (const transport of TRANSPORTS) {
    describe(`with ${transport.name}`, () => {
      const scope = useScope()
      const open = (options?: ConnectionOptions): Promise<Ends> => openEnds(scope, transport, options)

      describe('a connection first, in the middle and last', () => {
        it('pipe(reader, transform, writer) answers, and half-closes at the end', async () => {
          const { connection, peer } = await open()
          const { reader, writer } = connection
          const arrived = readToEnd(peer)
          peer.write('some ')
          peer.end('text')
          await pipe(reader, upperCase, writer)
          expect(`${await arrived}`).to.equal('SOME TEXT')
          await connection.closed
        })

        it('pipe(connection, transform, connection) is the same', async () => {
          const { connection, peer } = await open()
          const arrived = readToEnd(peer)
          peer.end('some text')
          await pipe(connection, upperCase, upperCase, connection)
          expect(`${await arrived}`).to.equal('SOME TEXT')
          await connection.closed
        })

        it('pipe(connection, connection) is an echo, also of much', async () => {
          const { connection, peer } = await open()
          const arrived = readToEnd(peer)
          peer.end(Buffer.alloc(5_000_000, 'echo'))
          await pipe(connection, connection)
          expect((await arrived).equals(Buffer.alloc(5_000_000, 'echo'))).to.equal(true)
        })

        it('a connection first: pipe(connection, collect) takes all that it receives', async () => {
          const { connection, peer } = await open()
          peer.end('all of it')
          expect(await pipe(connection, upperCase, collect)).to.equal('ALL OF IT')
          // Nothing was written: the writer is still open.
          connection.writer.write('bye')
          const arrived = readToEnd(peer)
          await connection.close()
          expect(`${await arrived}`).to.equal('bye')
        })

        it('a connection in the middle: pipe(source, connection, collect) sends and takes the answer', async () => {
          const { connection, peer } = await open()
          const serve = readToEnd(peer).then((question) => peer.end(`answer to ${question}`))
          const answer = await pipe(chunks('the ', 'question'), connection, collect)
          expect(answer).to.equal('answer to the question')
          await serve
          await connection.closed
        })

        it('two connections in the middle: what the one answers is sent to the other', async () => {
          const [one, other] = [await open(), await open()]
          const serve = async ({ peer }: Ends, name: string): Promise<void> => {
            peer.end(`${name}(${await readToEnd(peer)})`)
          }
          const answer = pipe(chunks('x'), one.connection, other.connection, collect)
          await Promise.all([serve(one, 'f'), serve(other, 'g')])
          expect(await answer).to.equal('g(f(x))')
        })

        it('a connection last: pipe(source, connection) sends and half-closes', async () => {
          const { connection, peer } = await open()
          const arrived = readToEnd(peer)
          await pipe(chunks('one way'), upperCase, connection)
          expect(`${await arrived}`).to.equal('ONE WAY')
          peer.end('reply')
          expect(await connection.reader.readLine()).to.equal('reply')
        })

        it('two connections make a proxy, in both directions at once', async () => {
          const [left, right] = [await open(), await open()]
          const atLeft = readToEnd(left.peer)
          const atRight = readToEnd(right.peer)
          left.peer.end(Buffer.alloc(1_000_000, 'request'))
          right.peer.end(Buffer.alloc(1_000_000, 'response'))
          await Promise.all([pipe(left.connection, right.connection), pipe(right.connection, left.connection)])
          expect((await atRight).equals(Buffer.alloc(1_000_000, 'request'))).to.equal(true)
          expect((await atLeft).equals(Buffer.alloc(1_000_000, 'response'))).to.equal(true)
          await Promise.all([left.connection.closed, right.connection.closed])
        })
      })

      describe('sources', () => {
        const bytes = (): Uint8Array[] => ['a', 'b', 'c'].map((name) => Buffer.from(name))

        for (const [kind, make] of Object.entries({
          'an array': () => bytes(),
          'a sync generator': function* () {
            yield* bytes()
          },
          'an async generator': async function* () {
            yield* bytes()
          },
          'an array of Uint8ArrayLists': () => [new Uint8ArrayList(...bytes())],
          'a Uint8ArrayList': () => new Uint8ArrayList(...bytes()),
          'a set': () => new Set(bytes()),
          'a function': () => () => bytes()
        })) {
          it(`pipe(${kind}, writer) sends it`, async () => {
            const { connection, peer } = await open()
            await pipe(make() as AsyncIterable<Chunk> | Iterable<Chunk>, connection.writer)
            expect(`${await readToEnd(peer)}`).to.equal('abc')
          })
        }

        it('pipe(pushable(), writer) sends what is pushed as it is pushed, and half-closes at its end', async () => {
          const { connection, peer } = await open()
          const queue = pushable<Uint8Array>()
          const arrived: string[] = []
          peer.on('data', (chunk) => arrived.push(`${chunk}`)).resume()
          const sink = pipe(queue, connection.writer)
          for (const name of ['a', 'b', 'c']) {
            queue.push(Buffer.from(name))
            await until(() => arrived.at(-1) === name)
          }
          const end = once(peer, 'end')
          queue.end()
          await sink
          await end
          expect(arrived).to.deep.equal(['a', 'b', 'c'])
        })

        it('pipe(pushable(), writer) lets go of the queue when the connection breaks, though nothing is pushed', async () => {
          const { connection, peer } = await open()
          let ended = 0
          const queue = pushable<Uint8Array>({ onEnd: () => ended++ })
          const sink = rejection(pipe(queue, connection.writer))
          await breakOff(connection, peer)
          expect(await sink).to.be.instanceOf(ConnectionResetError)
          await until(() => ended === 1)
        })

        it('a pushable() that ends with an error aborts the connection with it', async () => {
          const { connection } = await open()
          const queue = pushable<Uint8Array>()
          const sink = rejection(pipe(queue, connection.writer))
          const error = new Error('no more')
          queue.end(error)
          expect(await sink).to.equal(error)
          await connection.closed
          expect(connection.signal.reason).to.equal(error)
        })
      })

      describe('errors', () => {
        it('a transform that throws rejects the pipeline with that error and aborts the connection', async () => {
          const { connection, peer } = await open()
          const error = new Error('cannot transform')
          const seen = peerSees(peer)
          peer.write('some text')
          const pipeline = pipe(connection, failing(error), connection)
          expect(await rejection(pipeline)).to.equal(error)
          await connection.closed
          expect(connection.signal.reason).to.equal(error)
          expect(await seen).to.equal(transport.isTcp ? 'ECONNRESET' : 'end')
        })

        it('a transform may yield strings, which the sink takes as write() does', async () => {
          const { connection, peer } = await open()
          peer.end('some text')
          await pipe(connection, texts as never, connection)
          expect(`${await readToEnd(peer)}`).to.equal('some text')
        })

        it('a reset rejects the pipeline with ConnectionResetError, also with a transform in between', async () => {
          for (const pipeline of [
            ({ reader, writer }: Connection) => pipe(reader, writer),
            (connection: Connection) => pipe(connection, upperCase, connection),
            (connection: Connection) => pipe(connection, upperCase, upperCase, collect)
          ]) {
            const { connection, peer } = await open()
            const end = rejection(pipeline(connection))
            peer.write('some text')
            await until(() => connection.reader.bytesRead === 9)
            await breakOff(connection, peer)
            const error = await end
            expect(error).to.be.instanceOf(ConnectionResetError)
            await connection.closed
            expect(connection.signal.reason).to.equal(error)
          }
        })

        it('a source that throws before a connection in the middle rejects the pipeline with that error', async () => {
          const { connection, peer } = await open()
          const error = new Error('no source')
          const pipeline = pipe(failing(error)(chunks('x')), connection, collect)
          peer.resume()
          // it-pipe tells the first error: of the sink, or of the reader that the sink has aborted.
          const told = (await rejection(pipeline)) as Error
          expect(told === error || told.cause === error, `${told}`).to.equal(true)
          await connection.closed
          expect(connection.signal.reason).to.equal(error)
        })

        it('abort(reason) rejects the pipeline; the pipeline lets go of the reader', async () => {
          const { connection } = await open()
          const pipeline = rejection(pipe(connection, upperCase, connection))
          await turns(2)
          connection.abort('mine')
          expect(await pipeline)
            .to.be.instanceOf(ConnectionClosedError)
            .with.property('cause', 'mine')
        })

        it('a pipeline out of a connection that stops early leaves the reader open', async () => {
          const { connection, peer } = await open()
          peer.write('first')
          const first = await pipe(connection, async (source) => {
            for await (const chunk of source) return `${Buffer.from(chunk)}`
            return ''
          })
          expect(first).to.equal('first')
          peer.write('second\n')
          expect(await connection.reader.readLine()).to.equal('second')
        })

        it('a proxy whose one side resets aborts the other side, which sees no whole stream', async () => {
          const [left, right] = [await open(), await open()]
          const seen = peerSees(right.peer)
          const pipeline = rejection(pipe(left.connection, right.connection))
          left.peer.write('truncated')
          await until(() => right.peer.bytesRead === 9)
          await breakOff(left.connection, left.peer)
          const error = await pipeline
          expect(error).to.be.instanceOf(ConnectionResetError)
          await right.connection.closed
          expect(right.connection.signal.reason).to.equal(error)
          expect(await seen).to.equal(transport.isTcp ? 'ECONNRESET' : 'end')
        })
      })

      describe('backpressure', () => {
        it('a pipeline reads no faster than its end is read', async () => {
          const { connection, peer } = await open()
          const end = new Promise((resolve) => peer.write(TOO_MUCH, resolve))
          const pipeline = pipe(connection, connection)
          const { reader, writer } = connection
          let last = -1
          await until(async () => {
            if (reader.bytesRead === last && last > 0) return true
            last = reader.bytesRead
            await turns(50)
            return false
          })
          expect(reader.bytesRead).to.be.lessThan(TOO_MUCH.byteLength)
          expect(writer.bytesPending).to.be.within(1, 512 * 1024 + 131_072)
          peer.resume()
          await end
          peer.end()
          await pipeline
          expect(writer.bytesWritten).to.equal(TOO_MUCH.byteLength)
        })
      })

      async function breakOff(connection: Connection, peer: Socket): Promise<void> {
        if (transport.isTcp) {
          peer.resetAndDestroy()
          return
        }
        // A unix peer breaks a connection by going with something unread.
        peer.pause()
        await until(() => !peer.readableFlowing)
        connection.writer.write('unread')
        await connection.writer.flushed()
        peer.destroy()
      }
    })
  }

  describe('between plain sockets', () => {
    const scope = useScope()

    it('the raw peers of these tests do see a reset', async () => {
      const [client, server] = await rawPair(scope)
      const seen = peerSees(client)
      server.resetAndDestroy()
      expect(await seen).to.equal('ECONNRESET')
    })
  })
})

async function* upperCase(source: AsyncIterable<Chunk> | Iterable<Chunk>): AsyncGenerator<Uint8Array> {
  for await (const chunk of source) yield Buffer.from(`${Buffer.from(chunk.subarray())}`.toUpperCase())
}

function failing(error: unknown): (source: AsyncIterable<Chunk>) => AsyncGenerator<Uint8Array> {
  return async function* (source) {
    for await (const chunk of source) {
      if (chunk.byteLength > 0) throw error
      yield new Uint8Array(0)
    }
  }
}

async function* texts(source: AsyncIterable<Chunk>): AsyncGenerator<string> {
  for await (const chunk of source) yield `${Buffer.from(chunk.subarray())}`
}

async function* chunks(...names: string[]): AsyncGenerator<Uint8Array> {
  for (const name of names) yield Buffer.from(name)
}

async function collect(source: AsyncIterable<Chunk>): Promise<string> {
  let text = ''
  for await (const chunk of source) text += `${Buffer.from(chunk.subarray())}`
  return text
}

/** Reads on; resolves with 'end' at the FIN, or with the code of the error. */
async function peerSees(peer: Socket): Promise<string> {
  const end = once(peer, 'end').then(
    () => 'end',
    (error: NodeJS.ErrnoException) => error.code ?? error.message
  )
  peer.resume()
  return await end
}
