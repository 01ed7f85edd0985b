// The laws of a reader, each with a program that finds out whether it is kept.

import type { Reader } from '../reader.ts'
import {
  CLOSED,
  concat,
  isSettled,
  type Law,
  noise,
  PIECE,
  quiet,
  RESET_CODES,
  stall,
  text,
  turns,
  verify,
  verifyBytes,
  verifyIs,
  verifyRejects
} from './law.ts'

const MUCH = noise(300_000)

export const READER_LAWS: readonly Law[] = [
  {
    name: 'every byte arrives once, in the order of sending',
    async check(near, far) {
      const sending = quiet(near.writer(pieces(MUCH)))
      verifyBytes(concat(await take(far.reader, MUCH.byteLength)), MUCH)
      await sending
    }
  },
  {
    name: 'there is no end before the peer has sent one',
    async check(near, far) {
      near.writer.write('a')
      verifyIs(text(await far.reader.read()), 'a', 'the first read')
      const pending = far.reader.read()
      verify(!(await isSettled(pending)), 'a read settled although nothing was sent')
      near.writer.write('b')
      verifyIs(text(await pending), 'b', 'the second read')
    }
  },
  {
    name: 'the end comes behind all bytes, again and again',
    async check(near, far) {
      near.writer.write(MUCH)
      await Promise.all([far.reader.readAll().then((bytes) => verifyBytes(bytes, MUCH)), near.writer.close()])
      for (let again = 0; again < 3; again++) verifyIs(await far.reader.read(), null, 'a read at the end')
      verify(await isSettled(far.reader.ended), '`ended` did not resolve')
    }
  },
  {
    name: 'chunks are never empty',
    async check(near, far) {
      const sending = quiet(near.writer(pieces(MUCH)))
      for await (const chunk of far.reader) verify(chunk.byteLength > 0, 'an iteration gave an empty chunk')
      await sending
    }
  },
  {
    name: 'a chunk is its receiver’s to keep, and shares its memory with nothing else',
    async check(near, far) {
      const sending = quiet(near.writer(pieces(MUCH)))
      const chunks: Uint8Array[] = []
      const copies: Uint8Array[] = []
      const buffers = new Set<ArrayBufferLike>()
      for await (const chunk of far.reader) {
        verify(!buffers.has(chunk.buffer), 'two chunks are in one ArrayBuffer')
        buffers.add(chunk.buffer)
        copies.push(Uint8Array.from(chunk))
        chunks.push(chunk)
        // Whoever keeps a chunk may write to all of its memory.
        if (chunks.length % 2 === 0) new Uint8Array(chunk.buffer).fill(0)
      }
      await sending
      verifyBytes(concat(copies), MUCH)
      chunks.forEach((chunk, index) => {
        if (index % 2 === 0) verifyBytes(chunk, copies[index] as Uint8Array)
      })
    }
  },
  {
    name: 'iterating and all reads share one position',
    async check(near, far) {
      const { reader } = far
      near.writer.write('one\r\ntwo\nthree;45678')
      verifyIs(await reader.readLine(), 'one', 'the first line')
      verifyIs(text(await reader.peek(3)), 'two', 'a peek')
      verifyIs(text(await reader.readExactly(4)), 'two\n', 'what was peeked at')
      verifyIs(text(await reader.readUntil(';')), 'three;', 'what comes up to a delimiter')
      const two = new Uint8Array(2)
      verifyIs(await reader.readInto(two), 2, 'the count of bytes put into a buffer of two')
      verifyIs(text(two), '45', 'what was put into the buffer')
      near.writer.write('\nlast')
      await near.writer.close()
      verifyIs(await nextOf(reader.lines()), '678', 'the line of an iterator')
      verifyIs(text(await reader.readAll()), 'last', 'the rest')
    }
  },
  {
    name: 'leaving a loop leaves the reader open, where the loop stopped',
    async check(near, far) {
      near.writer.write('first')
      let seen: string | null = null
      for await (const chunk of far.reader) {
        seen = text(chunk)
        break
      }
      near.writer.write('second')
      const rest = 'firstsecond'.slice((seen ?? '').length)
      verifyIs(text(await far.reader.readExactly(rest.length)), rest, 'what comes after the loop')
    }
  },
  {
    name: 'a reset is an error and never an end, again and again',
    isOfResets: true,
    async check(near, far) {
      near.writer.write('part')
      verifyIs(text(await far.reader.readExactly(4)), 'part', 'what came before the reset')
      near.abort()
      for (let again = 0; again < 3; again++) await verifyRejects(far.reader.read(), 'a read after the reset', ...RESET_CODES)
    }
  },
  {
    name: 'a second read at once is refused, and takes nothing',
    async check(near, far) {
      const first = far.reader.readLine()
      await verifyRejects(far.reader.read(), 'the second read', 'ERR_BUSY')
      near.writer.write('line\n')
      verifyIs(await first, 'line', 'the first read')
    }
  },
  {
    name: 'a read that is aborted by its signal rejects with the reason, and loses no byte',
    async check(near, far) {
      const controller = new AbortController()
      const reason = new Error('enough')
      const pending = quiet(far.reader.readExactly(8, { signal: controller.signal }))
      near.writer.write('1234')
      await turns(5)
      controller.abort(reason)
      const told = await pending.then(
        () => 'nothing',
        (error: unknown) => error
      )
      verifyIs(told, reason, 'what the read was told')
      near.writer.write('5678')
      verifyIs(text(await far.reader.readExactly(8)), '12345678', 'the next read')
    }
  },
  {
    name: 'a read that can’t have what it asks for leaves the bytes',
    async check(near, far) {
      near.writer.write('12345678')
      await near.writer.close()
      await verifyRejects(far.reader.readLine({ maxLength: 4 }), 'a line beyond its limit', 'ERR_DELIMITER_NOT_FOUND')
      await verifyRejects(far.reader.readAll({ maxLength: 4 }), 'reading more than the limit', 'ERR_LIMIT_EXCEEDED')
      await verifyRejects(far.reader.readExactly(9), 'a read of more than there is', 'ERR_UNEXPECTED_END')
      verifyIs(text(await far.reader.readAll()), '12345678', 'what was left')
    }
  },
  {
    name: 'while nobody reads, the peer is held back',
    async check(near, far) {
      const written = await stall(near)
      const { bytesPending } = near.writer
      await turns(50)
      verifyIs(near.writer.bytesPending, bytesPending, 'what waits some turns later')
      const closing = quiet(near.writer.close())
      let received = 0
      for await (const chunk of far.reader) {
        verify(chunk.every(isOfPiece), 'other bytes came than were sent')
        received += chunk.byteLength
      }
      await closing
      verifyIs(received, written, 'the count of bytes received')
    }
  },
  {
    name: 'after its own close() a reader rejects, and does not end',
    async check(_near, far) {
      const pending = quiet(far.reader.read())
      const closing = quiet(far.close({ linger: 0 }))
      await verifyRejects(pending, 'the pending read', CLOSED)
      await verifyRejects(far.reader.read(), 'a later read', CLOSED)
      await closing
    }
  }
]

/** The chunks that make so many bytes. */
async function take(reader: Reader, length: number): Promise<Uint8Array[]> {
  const chunks: Uint8Array[] = []
  for (let taken = 0; taken < length; ) {
    const chunk = await reader.read()
    verify(chunk !== null, `the end came behind ${taken} bytes of ${length} that were sent`)
    chunks.push(chunk)
    taken += chunk.byteLength
  }
  return chunks
}

function isOfPiece(byte: number): boolean {
  return byte === PIECE[0]
}

async function nextOf<T>(iterator: AsyncIterableIterator<T>): Promise<T | undefined> {
  for await (const value of iterator) return value
  return undefined
}

function* pieces(bytes: Uint8Array): Generator<Uint8Array> {
  for (let from = 0, size = 1; from < bytes.byteLength; from += size, size = (size * 7) % 20_011) yield bytes.subarray(from, from + size)
}
