// The laws of a connection as a whole, each with a program that finds out whether it is kept.

import {
  CLOSED,
  isSettled,
  type Law,
  noise,
  quiet,
  RESET_CODES,
  stall,
  turns,
  verify,
  verifyBytes,
  verifyIs,
  verifyRejects
} from './law.ts'

const MUCH = noise(300_000)

export const CONNECTION_LAWS: readonly Law[] = [
  {
    name: 'close() hands over what was written, and resolves when the connection is closed',
    async check(near, far) {
      near.writer.write(MUCH)
      const closing = quiet(near.close())
      const again = quiet(near.close())
      await turns(5)
      verify(!near.signal.aborted, '`signal` was aborted before the peer had read')
      verifyBytes(await far.reader.readAll(), MUCH)
      await far.close()
      await closing
      verify(near.signal.aborted, '`signal` was not aborted when close() resolved')
      await again
      verifyIs((near.signal.reason as { code?: string } | undefined)?.code, CLOSED, 'the code of `signal.reason`')
      verify(await isSettled(near.closed), '`closed` did not resolve with close()')
      verify(await isSettled(far.closed), '`closed` of the peer did not resolve with its close()')
    }
  },
  {
    name: 'close() does not lose the answer of a peer that is still writing',
    async check(near, far) {
      far.writer.write(MUCH)
      near.writer.write('thank you')
      const closing = quiet(near.close())
      verifyIs(Buffer.from(await far.reader.readAll()).toString(), 'thank you', 'what the peer received')
      await far.close()
      await closing
    }
  },
  {
    name: 'a connection closes by itself when both sides have ended, and not before',
    async check(near, far) {
      near.writer.write('a')
      await near.writer.close()
      verifyIs((await far.reader.readAll()).byteLength, 1, 'what came one way')
      verify(!(await isSettled(near.closed)) && !near.signal.aborted, 'it was closed while the peer could still write')
      far.writer.write('b')
      await far.writer.close()
      verifyIs((await near.reader.readAll()).byteLength, 1, 'what came the other way')
      await Promise.all([near.closed, far.closed])
      verify(near.signal.aborted && far.signal.aborted, '`signal` was not aborted with `closed`')
    }
  },
  {
    name: 'abort() ends at once what is pending, and says why',
    async check(near, far) {
      await stall(near)
      const flushed = quiet(near.writer.flushed())
      const reading = quiet(near.reader.read())
      const reason = new Error('enough')
      near.abort(reason)
      const later = quiet(near.reader.read())
      for (const [what, promise] of [
        ['flushed()', flushed],
        ['the pending read', reading],
        ['a later read', later]
      ] as const) {
        const error = await verifyRejects(promise, what, CLOSED)
        verifyIs(error.cause, reason, `the cause of what ${what} was told`)
      }
      await near.closed
      verifyIs(near.signal.reason, reason, '`signal.reason`')
      far.abort()
    }
  },
  {
    name: 'abort() closes both sides, and leaves nothing open',
    async check(near, far) {
      near.writer.write('part')
      await far.reader.readExactly(4)
      near.abort()
      await near.closed
      verify(near.signal.aborted, '`signal` was not aborted')
      // Of a peer that only closed there is an end to be seen, and then it is this side's turn.
      const rest = await far.reader.readAll().then(
        (bytes) => bytes.byteLength,
        () => 0
      )
      verifyIs(rest, 0, 'the count of bytes that came after abort()')
      await far.close().catch(() => {})
      await far.closed
      verify(far.signal.aborted, '`signal` of the peer was not aborted')
    }
  },
  {
    name: 'the peer’s abort() breaks the connection, which `signal` tells',
    isOfResets: true,
    async check(near, far) {
      const reading = quiet(far.reader.read())
      near.abort()
      const { code } = (await verifyRejects(reading, 'the pending read', ...RESET_CODES)) as { code?: string }
      // A reset that is told as a truncation leaves the writer open, as every truncation does.
      if (code === 'ERR_TRUNCATED') return
      await far.closed
      verify(RESET_CODES.includes((far.signal.reason as { code?: never } | undefined)?.code as never), '`signal.reason` is no reset')
    }
  },
  {
    name: 'close({ forceAfter: 0 }) aborts what the peer does not take',
    async check(near, far) {
      await stall(near)
      await verifyRejects(near.close({ forceAfter: 0 }), 'close()', CLOSED)
      verify(near.signal.aborted, '`signal` was not aborted')
      far.abort()
    }
  },
  {
    name: 'leaving an `await using` scope closes',
    async check(near, far) {
      near.writer.write('bye')
      const disposing = near[Symbol.asyncDispose]()
      verifyIs((await far.reader.readAll()).byteLength, 3, 'what the peer received')
      await far[Symbol.asyncDispose]()
      await disposing
      verify(near.signal.aborted && far.signal.aborted, '`signal` was not aborted')
    }
  }
]
