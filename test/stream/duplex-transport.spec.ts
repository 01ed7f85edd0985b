import { once } from 'node:events'
import { type AddressInfo, createServer, connect as netConnect, type Socket } from 'node:net'
import { Duplex, PassThrough, Readable, Writable } from 'node:stream'
import { inspect } from 'node:util'
import { expect } from 'chai'
import {
  BufferAgeLimitError,
  BusyError,
  ConnectionClosedError,
  type ConnectionOptions,
  ConnectionResetError,
  fromDuplex,
  IdleTimeoutError,
  toDuplex
} from '../../src/index.ts'
import { checkConnection, connectionPair } from '../../src/testing.ts'
import { expectRefusal } from '../helpers/bad-input.ts'
import { rejection } from '../helpers/rejection.ts'
import { useScope } from '../helpers/scope.ts'
import { turns, until } from '../helpers/until.ts'

/** A Duplex whose other end is in the test's hands. */
class Line extends Duplex {
  readonly sent: Buffer[] = []
  hasFinished = false
  /** What takes a write only when called. */
  held: (() => void) | undefined
  isHeld = false
  reads = 0

  override _read(): void {
    this.reads++
  }

  override _write(chunk: Buffer, _encoding: string, callback: (error?: Error | null) => void): void {
    this.sent.push(chunk)
    if (this.isHeld) this.held = callback
    else callback()
  }

  override _final(callback: () => void): void {
    this.hasFinished = true
    callback()
  }

  get text(): string {
    return Buffer.concat(this.sent).toString()
  }
}

describe('fromDuplex()', () => {
  const scope = useScope()

  function open<D extends Duplex>(duplex: D, options?: ConnectionOptions) {
    const stream = fromDuplex(duplex, options)
    scope.defer(async () => {
      stream.abort()
      await stream.closed
    })
    return { stream, duplex, ...stream, reader: stream.reader, writer: stream.writer }
  }

  it('reads what the stream gives, writes what it takes, and half-closes both ways', async () => {
    const { stream, reader, writer, duplex } = open(new Line())
    duplex.push('hello\nwor')
    expect(await reader.readLine()).to.equal('hello')
    duplex.push('ld')
    duplex.push(null)
    expect(Buffer.from(await reader.readAll()).toString()).to.equal('world')
    expect(await reader.read()).to.equal(null)
    writer.write('still ')
    writer.write(new TextEncoder().encode('open é'))
    await writer.flushed()
    expect(duplex.text).to.equal('still open é')
    expect(duplex.hasFinished).to.equal(false)
    await writer.close()
    expect(duplex.hasFinished).to.equal(true)
    await stream.closed
    expect(duplex.destroyed).to.equal(true)
    expect(writer.bytesWritten).to.equal(13)
    expect(reader.bytesRead).to.equal(11)
  })

  it('the reader goes on after writer.close()', async () => {
    const { reader, writer, duplex, stream } = open(new Line())
    await writer.close()
    await turns()
    duplex.push('late')
    duplex.push(null)
    expect(Buffer.from(await reader.readAll()).toString()).to.equal('late')
    await stream.closed
  })

  it('the writer lives on after the end of a stream that would not allow it: allowHalfOpen is turned on', async () => {
    const { reader, writer, duplex } = open(new Line({ allowHalfOpen: false }))
    duplex.push(null)
    expect(await reader.read()).to.equal(null)
    await turns()
    await writer([new TextEncoder().encode('answer')])
    expect(duplex.text).to.equal('answer')
  })

  it('backpressure: while nobody reads, at most readerBufferSize and what the stream buffers is taken from it', async () => {
    let given = 0
    const endless = new Duplex({
      read() {
        given += 1000
        this.push(Buffer.alloc(1000))
      },
      write: (_chunk, _encoding, callback) => callback()
    })
    const { reader } = open(endless, { readerBufferSize: 10_000 })
    await turns(50)
    expect(reader.bytesAvailable).to.be.within(10_000, 11_000)
    expect(given).to.be.lessThan(10_000 + endless.readableHighWaterMark + 3000)
    const before = given
    await turns()
    expect(given).to.equal(before)
    await reader.readExactly(200_000)
    expect(given).to.be.at.least(200_000)
  })

  it('backpressure: flushed() and the sink wait until the stream has called back', async () => {
    const { writer, duplex } = open(new Line())
    duplex.isHeld = true
    writer.write('a')
    let isFlushed = false
    const flushed = writer.flushed().then(() => {
      isFlushed = true
    })
    await turns()
    expect([isFlushed, writer.bytesPending]).to.deep.equal([false, 1])
    duplex.held?.()
    await flushed
    duplex.isHeld = true
    let pulled = 0
    const sink = writer.writeAll(
      (function* () {
        for (; pulled < 100; pulled++) yield new Uint8Array(65_536)
      })()
    )
    await turns()
    expect(pulled).to.be.lessThan(20)
    duplex.isHeld = false
    duplex.held?.()
    await sink
    expect(duplex.text.length).to.equal(1 + 100 * 65_536)
  })

  it('many writes of a turn go in order, large and small, bytes and strings', async () => {
    const { writer, duplex } = open(new Line())
    let expected = ''
    for (let i = 0; i < 5000; i++) {
      const part = i % 7 === 0 ? 'ü'.repeat(i % 300) : `${i},`
      expected += part
      writer.write(i % 2 === 0 ? part : new TextEncoder().encode(part))
    }
    await writer.flushed()
    expect(duplex.text).to.equal(expected)
  })

  it('streams that want strings as they are get Buffers all the same', async () => {
    const seen: unknown[] = []
    const { writer } = open(
      new Duplex({
        decodeStrings: false,
        read() {},
        write(chunk, _encoding, callback) {
          seen.push(chunk)
          callback()
        }
      })
    )
    writer.write('latin')
    writer.write('é')
    await writer.flushed()
    expect(seen.every(Buffer.isBuffer)).to.equal(true)
  })

  it('chunks share their memory with nothing else: a pool, another chunk, or the Buffer of whoever wrote', async () => {
    const { reader, duplex } = open(new PassThrough())
    const slab = Buffer.alloc(100_000, 'a')
    for (const [from, to] of [
      [0, 60_000],
      [60_000, 99_000],
      [99_000, 100_000]
    ] as const)
      duplex.write(slab.subarray(from, to))
    duplex.write(Buffer.from('small and pooled'))
    duplex.end(slab)
    const buffers = new Set<ArrayBuffer>()
    const lengths: number[] = []
    for await (const chunk of reader) {
      expect(Buffer.isBuffer(chunk)).to.equal(false)
      expect(chunk.buffer).to.not.equal(slab.buffer)
      expect(buffers.has(chunk.buffer)).to.equal(false)
      buffers.add(chunk.buffer)
      lengths.push(chunk.byteLength)
      structuredClone(chunk, { transfer: [chunk.buffer] })
    }
    expect(lengths.reduce((a, b) => a + b)).to.equal(200_016)
    expect(slab.every((byte) => byte === 97)).to.equal(true)
  })

  it('no chunk has more than 128 KiB, whatever the stream gives at once', async () => {
    const { reader, duplex } = open(new PassThrough())
    const data = Buffer.from(Array.from({ length: 1_000_000 }, (_, i) => i % 251))
    duplex.end(data)
    const chunks: Uint8Array[] = []
    for await (const chunk of reader) chunks.push(chunk)
    expect(Math.max(...chunks.map(({ byteLength }) => byteLength))).to.be.at.most(131_072)
    expect(Buffer.concat(chunks).equals(data)).to.equal(true)
  })

  it('a stream that is destroyed before its end is a ConnectionResetError, behind what had arrived', async () => {
    for (const cause of [undefined, new Error('the cable is out')]) {
      const { stream, reader, writer, duplex } = open(new Line(), { readerBufferSize: 4 })
      duplex.push('arrived ')
      await turns()
      duplex.push('and buffered')
      await turns()
      duplex.destroy(cause)
      expect(Buffer.from((await reader.readExactly(20)) as Uint8Array).toString()).to.equal('arrived and buffered')
      const error = (await rejection(reader.read())) as Error
      expect(error).to.be.instanceOf(ConnectionResetError)
      expect(error.message).to.equal(
        `The connection with a stream of Node.js broke: ${cause === undefined ? 'it was destroyed before its end' : cause.message}`
      )
      if (cause !== undefined) expect(error.cause).to.equal(cause)
      expect(() => writer.write('x')).to.throw(ConnectionResetError)
      expect(await rejection(writer.flushed())).to.equal(error)
      await stream.closed
      expect(stream.signal.reason).to.equal(error)
    }
  })

  it('one that is destroyed while a read, a flush and a sink wait fails each of them', async () => {
    const { reader, writer, duplex } = open(new Line())
    duplex.isHeld = true
    const outcomes = [rejection(reader.read()), rejection(writer([new Uint8Array(1)]))]
    outcomes.push(rejection(writer.flushed()))
    duplex.destroy()
    const errors = await Promise.all(outcomes)
    expect(
      errors.every((error) => error instanceof ConnectionResetError),
      inspect(errors)
    ).to.equal(true)
  })

  it('one that is destroyed after its end has ended well for the reader, and breaks the writer', async () => {
    const { reader, writer, duplex } = open(new Line())
    duplex.push('all')
    duplex.push(null)
    expect(Buffer.from(await reader.readAll()).toString()).to.equal('all')
    duplex.destroy()
    await turns()
    expect(await reader.read()).to.equal(null)
    expect(await rejection(writer.flushed())).to.be.instanceOf(ConnectionResetError)
  })

  it('a write that fails, by callback or by throwing, breaks it, and nothing is thrown out of write()', async () => {
    for (const write of [
      (_chunk: unknown, _encoding: string, callback: (error?: Error) => void) => callback(new Error('no')),
      () => {
        throw new Error('no')
      }
    ]) {
      const { reader, writer } = open(new Duplex({ read() {}, write }))
      writer.write('x')
      expect(await rejection(reader.read())).to.be.instanceOf(ConnectionResetError)
      expect(await rejection(writer.flushed())).to.be.instanceOf(ConnectionResetError)
    }
  })

  it('what is destroyed, ended or one-sided already reads and writes as such', async () => {
    const gone = new Line()
    gone.destroy()
    await once(gone, 'close')
    expect(await rejection(open(gone).reader.read())).to.be.instanceOf(ConnectionResetError)
    const going = new Line()
    going.destroy()
    expect(await rejection(open(going).reader.read())).to.be.instanceOf(ConnectionResetError)
    const finished = new Line()
    finished.end('bye')
    const { writer, reader } = open(finished)
    expect(() => writer.write('x')).to.throw(ConnectionClosedError)
    finished.push('hello')
    finished.push(null)
    expect(Buffer.from(await reader.readAll()).toString()).to.equal('hello')
    const ended = new Line()
    ended.push(null)
    await once(ended.resume(), 'end')
    expect(await open(ended).reader.read()).to.equal(null)
    const readOnly = open(Duplex.from(Readable.from([Buffer.from('r')], { objectMode: false })))
    expect(Buffer.from(await readOnly.reader.readAll()).toString()).to.equal('r')
    expect(readOnly.writer.isClosed).to.equal(true)
    const sent: string[] = []
    const sink = new Writable({
      write(chunk, _encoding, callback) {
        sent.push(String(chunk))
        callback()
      }
    })
    const writeOnly = open(Duplex.from(sink))
    expect(await writeOnly.reader.read()).to.equal(null)
    await writeOnly.writer(['w'])
    expect(sent).to.deep.equal(['w'])
  })

  it('close() flushes, ends and destroys; abort() destroys with an error, so that nobody takes a part for the whole', async () => {
    const closing = open(new Line())
    closing.writer.write('all')
    await closing.stream.close({ linger: 0 })
    expect([closing.duplex.text, closing.duplex.hasFinished, closing.duplex.destroyed, closing.duplex.errored]).to.deep.equal([
      'all',
      true,
      true,
      null
    ])
    const aborted = open(new Line())
    aborted.stream.abort(new Error('mine'))
    await aborted.stream.closed
    expect(aborted.duplex.errored).to.be.instanceOf(ConnectionClosedError)
    expect(((await rejection(aborted.reader.read())) as Error).cause).to.have.property('message', 'mine')
    const stuck = open(new Line())
    stuck.duplex.isHeld = true
    stuck.writer.write('never taken')
    expect(await rejection(stuck.stream.close({ forceAfter: 0 }))).to.be.instanceOf(ConnectionClosedError)
  })

  it("closes also where the stream never emits 'close'", async () => {
    const { stream, duplex } = open(new Line({ emitClose: false }))
    await stream.close({ linger: 0 })
    expect(duplex.destroyed).to.equal(true)
  })

  it('bufferAgeLimit and idleTimeout hold', async () => {
    const stuck = open(new Line(), { bufferAgeLimit: 40 })
    stuck.duplex.isHeld = true
    stuck.writer.write('x')
    expect(await rejection(stuck.writer.flushed())).to.be.instanceOf(BufferAgeLimitError)
    const silent = open(new Line(), { idleTimeout: 40 })
    const error = (await rejection(silent.reader.read())) as Error
    expect(error).to.be.instanceOf(IdleTimeoutError)
    expect(error.message).to.equal('No byte was sent to or received from a stream of Node.js for 40 ms')
    await until(() => silent.duplex.destroyed)
  })

  it('over a TCP socket abort() is a reset', async () => {
    const server = createServer((socket) => sockets.push(socket.on('error', (error) => errors.push(error)))).listen(0, '127.0.0.1')
    const sockets: Socket[] = []
    const errors: Error[] = []
    scope.defer(() => server.close())
    await once(server, 'listening')
    const { stream, writer } = open(netConnect((server.address() as AddressInfo).port, '127.0.0.1'))
    writer.write('before it is connected')
    await writer.flushed()
    await until(() => sockets.length === 1)
    await once((sockets[0] as Socket).resume(), 'data')
    stream.abort()
    await until(() => errors.length === 1)
    expect(errors[0]).to.have.property('code', 'ECONNRESET')
  })

  it('a stream whose encoding is set later breaks with words', async () => {
    const { reader, duplex } = open(new Line())
    duplex.setEncoding('utf8')
    duplex.push('text')
    const error = (await rejection(reader.read())) as Error
    expect(error.message).to.contain("received 'text'")
  })

  it('keeps all laws of a connection, over what toDuplex() makes of one', async () => {
    await checkConnection(() => {
      const [a, b] = connectionPair()
      return [fromDuplex(toDuplex(a)), fromDuplex(toDuplex(b))]
    })
  })

  it('says what it is', async () => {
    const { stream } = open(new Line())
    expect(inspect(stream)).to.equal('ByteStream { a stream of Node.js, open, read: 0, written: 0, pending: 0 }')
  })

  it('refuses what is no Duplex of bytes, by its name', () => {
    for (const value of [undefined, null, 42, 'x', {}, new Uint8Array(1)]) {
      try {
        fromDuplex(value as never)
        expect.fail('accepted')
      } catch (error) {
        expectRefusal(error, 'duplex', 'Cannot make a ByteStream', value)
      }
    }
    expect(() => fromDuplex(new Readable({ read() {} }) as never)).to.throw(TypeError, "'duplex' must be a Duplex")
    expect(() => fromDuplex(new PassThrough({ objectMode: true }))).to.throw(TypeError, 'received one in object mode')
    expect(() => fromDuplex(new PassThrough({ readableObjectMode: true }))).to.throw(TypeError, 'received one in object mode')
    expect(() => fromDuplex(new PassThrough({ writableObjectMode: true }))).to.throw(TypeError, 'received one in object mode')
    expect(() => fromDuplex(new PassThrough().setEncoding('hex'))).to.throw(TypeError, "received one with setEncoding('hex')")
    expect(() => fromDuplex(new PassThrough(), 5 as never)).to.throw(TypeError, "'options' must be an object: received 5")
    expect(() => fromDuplex(new PassThrough(), { readerBufferSize: 0 })).to.throw(RangeError, "'readerBufferSize' must be")
  })

  it('refuses a stream that somebody else reads, and leaves one that it refused alone', async () => {
    const { duplex } = open(new Line())
    expect(() => fromDuplex(duplex)).to.throw(BusyError)
    expect(() => fromDuplex(new PassThrough().on('readable', () => {}))).to.throw(BusyError)
    const later = new Line()
    expect(() => fromDuplex(later, { idleTimeout: -1 })).to.throw(RangeError)
    open(later)
  })
})
