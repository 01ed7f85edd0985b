import { createHash, randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect } from 'chai'
import { relay } from '../../src/index.ts'
import { LONGEST_PASSED, passed } from '../../src/stream/scratch.ts'
import { readToEnd } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'
import { openEnds, TOO_MUCH, TRANSPORTS, type Transport, WITH_MEMORY } from '../helpers/transports.ts'
import { turns, until } from '../helpers/until.ts'

const [TCP_DIALLED, TCP_ACCEPTED, ...UNIX] = TRANSPORTS as [Transport, Transport, ...Transport[]]

describe('Bytes that a sink takes from a reader, and passes on as they arrive', () => {
  const scope = useScope()

  for (const from of WITH_MEMORY) {
    for (const to of WITH_MEMORY) {
      it(`are those that were received, however slowly they are taken: from ${from.name} to ${to.name}`, async () => {
        const [source, target] = [await openEnds(scope, from), await openEnds(scope, to)]
        const sent = randomBytes(3_000_000)
        const sinking = target.connection.writer(source.connection.reader)
        sendInPieces(source.peer, sent)
        const received = await readSlowly(target.peer)
        await sinking
        expect(received.byteLength).to.equal(sent.byteLength)
        expect(digest(received)).to.equal(digest(sent))
        expect(target.connection.writer.bytesWritten).to.equal(sent.byteLength)
        expect(source.connection.reader.bytesRead).to.equal(sent.byteLength)
      })
    }
  }

  // Unix sockets hold little: writes wait, on several of them at once.
  for (const to of UNIX) {
    it(`are those that were received, on many connections at once that stop and go on: to ${to.name}`, async () => {
      const count = 8
      const results = await Promise.all(
        Array.from({ length: count }, async () => {
          const [a, b] = [await openEnds(scope, TCP_ACCEPTED), await openEnds(scope, to)]
          const relayed = relay(a.connection, b.connection)
          const [up, down] = [randomBytes(2_000_000), randomBytes(500_000)]
          sendInPieces(a.peer, up)
          sendInPieces(b.peer, down)
          const [there, here] = await Promise.all([readSlowly(b.peer), readSlowly(a.peer)])
          expect(await relayed).to.deep.equal({ aToB: up.byteLength, bToA: down.byteLength })
          return digest(there) === digest(up) && digest(here) === digest(down)
        })
      )
      expect(results).to.deep.equal(Array(count).fill(true))
    })
  }

  it('come behind what was written before, and before what is written after', async () => {
    const [source, target] = [await openEnds(scope, TCP_ACCEPTED), await openEnds(scope, TCP_DIALLED)]
    const { writer } = target.connection
    // More than the system takes: it waits.
    writer.write(TOO_MUCH)
    writer.write('one ')
    const sinking = writer.writeAll(source.connection.reader)
    source.peer.end('two ')
    await until(() => source.connection.reader.bytesRead === 4)
    const received = readToEnd(target.peer)
    await sinking
    writer.write('three')
    await writer.close()
    const all = await received
    expect(all.byteLength).to.equal(TOO_MUCH.byteLength + 13)
    expect(all.subarray(-13).toString()).to.equal('one two three')
  })

  it('are not kept waiting: a receiver that takes nothing stops the sender', async () => {
    const [source, target] = [await openEnds(scope, TCP_ACCEPTED), await openEnds(scope, TCP_DIALLED)]
    const sinking = target.connection.writer(source.connection.reader)
    source.peer.end(TOO_MUCH)
    await until(() => target.connection.writer.bytesPending > 0)
    await turns(100)
    const { reader } = source.connection
    expect(reader.bytesRead).to.be.below(TOO_MUCH.byteLength)
    expect(reader.bytesAvailable + target.connection.writer.bytesPending).to.be.below(2 * 1024 * 1024)
    expect((await readToEnd(target.peer)).byteLength).to.equal(TOO_MUCH.byteLength)
    await sinking
  })

  it('are lost with an error when the receiver breaks: the sink rejects, and the reader can be read on', async () => {
    const [source, target] = [await openEnds(scope, TCP_ACCEPTED), await openEnds(scope, TCP_DIALLED)]
    const sinking = target.connection.writer(source.connection.reader).catch((error: Error) => error)
    source.peer.write('a')
    await until(() => target.connection.writer.bytesWritten === 1)
    target.peer.resetAndDestroy()
    expect(await sinking).to.have.property('name', 'ConnectionResetError')
    source.peer.write('b')
    expect(await source.connection.reader.readExactly(1)).to.deep.equal(new Uint8Array([98]))
  })

  it('leave the memory they are copied to to a write that waits', () => {
    const first = passed.copy(Buffer.from('abc'))
    passed.keep()
    expect(passed.copy(Buffer.from('xyz')).buffer).to.not.equal(first.buffer)
    expect(Buffer.from(first).toString()).to.equal('abc')
    expect(passed.copy(new Uint8Array(LONGEST_PASSED)).byteLength).to.equal(LONGEST_PASSED)
  })
})

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

function sendInPieces(socket: Socket, bytes: Uint8Array): void {
  let at = 0
  const send = (): void => {
    while (at < bytes.byteLength) {
      const length = 1 + ((at * 7919) % 90_000)
      const piece = bytes.subarray(at, at + length)
      at += length
      if (!socket.write(piece)) {
        socket.once('drain', send)
        return
      }
    }
    socket.end()
  }
  send()
}

// In turns that are few enough for writes to be left waiting.
async function readSlowly(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => {
    chunks.push(chunk)
    socket.pause()
    void nextTurn().then(() => socket.resume())
  })
  await new Promise((resolve, reject) => socket.on('end', resolve).on('error', reject).resume())
  return Buffer.concat(chunks)
}
