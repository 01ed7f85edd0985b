// A connection as a pair of web streams.

import type { UnderlyingByteSource } from 'node:stream/web'
import { doNothing } from '../async/do-nothing.ts'
import type { ByteStream } from '../connection.ts'
import type { Bytes, Reader } from '../reader.ts'
import type { WebStreams } from '../web-streams.ts'

/** Bytes that a writable lets wait before it says that it is full. */
const HIGH_WATER_MARK = 65_536

/** See `toWebStreams`. */
export function webStreamsOver(stream: ByteStream): WebStreams {
  const ends = new Ends(stream)
  return { readable: readableOf(stream.reader, ends), writable: writableOf(stream, ends), closed: stream.closed }
}

// A connection whose readable is cancelled has nobody left to read to the peer's end: it is closed once its writable is, too.
class Ends {
  readonly #stream: ByteStream
  #isCancelled = false
  #isClosed = false

  constructor(stream: ByteStream) {
    this.#stream = stream
  }

  cancelled(): void {
    this.#isCancelled = true
    this.#closeIfBoth()
  }

  closed(): void {
    this.#isClosed = true
    this.#closeIfBoth()
  }

  #closeIfBoth(): void {
    // What could fail has been told to the writable.
    if (this.#isCancelled && this.#isClosed) this.#stream.close().catch(doNothing)
  }
}

function readableOf(reader: Reader, ends: Ends): ReadableStream<Bytes> {
  const chunks = reader[Symbol.asyncIterator]()
  let isCancelled = false
  const source: UnderlyingByteSource = {
    type: 'bytes',
    async pull(controller): Promise<void> {
      const { value, done } = await chunks.next()
      if (isCancelled) return
      if (done !== true) {
        // Who reads into a buffer of its own is given that filled; the rest waits for the next one.
        controller.enqueue(value)
        return
      }
      controller.close()
      controller.byobRequest?.respond(0)
    },
    cancel() {
      isCancelled = true
      // A read that is pending takes nothing any more.
      void chunks.return?.()
      ends.cancelled()
    }
  }
  // Its chunks are what the reader gave.
  return new ReadableStream(source) as ReadableStream<Bytes>
}

function writableOf(stream: ByteStream, ends: Ends): WritableStream<Uint8Array> {
  const { writer, signal } = stream
  return new WritableStream<Uint8Array>(
    {
      start(controller) {
        const onReleased = (): void => controller.error(signal.reason)
        if (signal.aborted) onReleased()
        else signal.addEventListener('abort', onReleased, { once: true })
      },
      async write(chunk) {
        try {
          writer.write(chunk)
        } catch (error) {
          // What was sent is not the whole.
          stream.abort(error)
          throw error
        }
        await writer.flushed()
      },
      async close() {
        await writer.close()
        ends.closed()
      },
      abort(reason) {
        stream.abort(reason)
      }
    },
    { highWaterMark: HIGH_WATER_MARK, size: (chunk) => chunk?.byteLength ?? 1 }
  )
}
