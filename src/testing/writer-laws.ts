// The laws of a writer and its sink, each with a program that finds out whether it is kept.

import type { ByteStream } from '../connection.ts'
import {
  CLOSED,
  isSettled,
  type Law,
  noise,
  PIECE,
  quiet,
  RESET_CODES,
  stall,
  TOO_MUCH,
  text,
  turns,
  verify,
  verifyBytes,
  verifyIs,
  verifyRejects,
  verifyThrows
} from './law.ts'

export const WRITER_LAWS: readonly Law[] = [
  {
    name: 'bytes leave in the order of the calls',
    async check(near, far) {
      let sent = ''
      for (let number = 0; number < 300; number++) {
        const piece = `${number},`
        sent += piece
        near.writer.write(number % 2 === 0 ? piece : Buffer.from(piece))
        if (number % 20 === 0) await turns(1)
      }
      const closing = quiet(near.writer.close())
      verifyBytes(await far.reader.readAll(), Buffer.from(sent))
      await closing
    }
  },
  {
    name: 'flushed() resolves when what was written before it is handed over, and not earlier',
    async check(near, far) {
      near.writer.write('little')
      await near.writer.flushed()
      verifyIs(near.writer.bytesPending, 0, 'what waits after flushed()')
      verifyIs(near.writer.bytesWritten, 6, 'what is written after flushed()')
      const written = 6 + (await stall(near))
      const flushed = near.writer.flushed()
      verify(!(await isSettled(flushed)), `flushed() settled while ${near.writer.bytesPending} bytes waited`)
      const reading = quiet(far.reader.readExactly(written))
      await flushed
      verifyIs(near.writer.bytesPending, 0, 'what waits after flushed()')
      await reading
    }
  },
  {
    name: 'bytesWritten, bytesPending and bytesRead count every byte once',
    async check(near, far) {
      const bytes = noise(100_000)
      near.writer.write(bytes)
      const { bytesWritten, bytesPending } = near.writer
      verifyIs(bytesWritten + bytesPending, bytes.byteLength, 'what is written and what waits')
      verifyBytes((await far.reader.readExactly(bytes.byteLength)) as Uint8Array, bytes)
      await near.writer.flushed()
      verifyIs(near.writer.bytesWritten, bytes.byteLength, 'what is written in the end')
      verifyIs(far.reader.bytesRead, bytes.byteLength, 'what is read in the end')
    }
  },
  {
    name: 'closing the writer leaves the reader open',
    async check(near, far) {
      near.writer.write('question')
      await near.writer.close()
      verifyIs(text(await far.reader.readAll()), 'question', 'the question')
      await turns(5)
      far.writer.write('answer')
      verifyIs(text(await near.reader.readExactly(6)), 'answer', 'the answer')
      const pending = near.reader.read()
      verify(!(await isSettled(pending)), 'the reader of the closed writer ended by itself')
      await far.writer.close()
      verifyIs(await pending, null, 'the end of the answer')
    }
  },
  {
    name: 'after close() a write throws',
    async check(near, far) {
      near.writer.write('last')
      const closing = near.writer.close()
      verifyThrows(() => near.writer.write('more'), 'a write after close()', CLOSED)
      await closing
      verifyIs(near.writer.isClosed, true, '`isClosed`')
      await verifyRejects(near.writer(['more']), 'a sink after close()', CLOSED)
      verifyIs(text(await far.reader.readAll()), 'last', 'what was received')
    }
  },
  {
    name: 'a sink pulls from its source only as fast as the peer takes the bytes',
    async check(near, far) {
      let pulled = 0
      let isEnough = false
      const source = function* (): Generator<Uint8Array> {
        for (; pulled < TOO_MUCH && !isEnough; pulled += PIECE.byteLength) yield PIECE
      }
      const sending = quiet(near.writer(source()))
      let seen = -1
      while (pulled !== seen) {
        seen = pulled
        await turns(50)
      }
      verify(pulled < TOO_MUCH, `${pulled} bytes were pulled although nobody read`)
      isEnough = true
      let received = 0
      for await (const chunk of far.reader) received += chunk.byteLength
      await sending
      verifyIs(received, pulled, 'the count of bytes received')
    }
  },
  {
    name: 'a source that fails resets the connection, and its error is the sink’s',
    isOfResets: true,
    async check(near, far) {
      const failure = new Error('the source failed')
      const source = function* (): Generator<string> {
        yield 'part'
        throw failure
      }
      const told = await near.writer(source()).then(
        () => 'nothing',
        (error: unknown) => error
      )
      verifyIs(told, failure, 'what the sink was told')
      await verifyRejects(toEnd(far), 'reading what the source gave', ...RESET_CODES)
    }
  },
  {
    name: 'a second sink at once is refused',
    async check(near, far) {
      const { promise, resolve } = gate()
      const source = async function* (): AsyncGenerator<string> {
        yield 'first'
        await promise
      }
      const sending = quiet(near.writer(source()))
      await verifyRejects(near.writer(['second']), 'the second sink', 'ERR_BUSY')
      resolve()
      await sending
      verifyIs(text(await far.reader.readAll()), 'first', 'what was received')
    }
  },
  {
    name: 'what breaks the connection is told to whoever writes',
    isOfResets: true,
    async check(near, far) {
      await stall(near)
      const flushed = quiet(near.writer.flushed())
      far.abort()
      await verifyRejects(flushed, 'flushed()', 'ERR_CONNECTION_RESET')
      verifyThrows(() => near.writer.write('more'), 'a later write', 'ERR_CONNECTION_RESET')
    }
  }
]

async function toEnd(stream: ByteStream): Promise<number> {
  let received = 0
  for await (const chunk of stream.reader) received += chunk.byteLength
  return received
}

function gate(): { promise: Promise<void>; resolve: () => void } {
  let resolve!: () => void
  const promise = new Promise<void>((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}
