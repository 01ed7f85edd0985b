import { once } from 'node:events'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { expect } from 'chai'
import { ByteSocket, createDialSocket, type SocketEvents, type WriteEntry } from '../src/stream/net-transport.ts'
import { holdsWithPushToo, IS_PUSH } from './helpers/push-seam.ts'
import { rawServer, readToEnd } from './helpers/raw.ts'
import { useScope } from './helpers/scope.ts'
import { openEnds, TOO_MUCH, TRANSPORTS } from './helpers/transports.ts'
import { turns, until } from './helpers/until.ts'

// Whether Node.js is to give its own buffers, not to fill the shared one: how this file runs the second time.
const isPlainNode = process.versions.bun === undefined && process.versions.deno === undefined

/** What a socket told. */
interface Told extends SocketEvents {
  /** In which order, bytes as text. */
  readonly log: string[]
  length: number
  /** Whether to go on reading. */
  goesOn: boolean
  cause: NodeJS.ErrnoException | undefined
}

interface Ends {
  readonly told: Told
  readonly byteSocket: ByteSocket
  /** The other end: paused, half-open. */
  readonly peer: Socket
}

describe('ByteSocket', () => {
  for (const isTcp of [true, false]) {
    describe(isTcp ? 'over TCP' : 'over a unix socket', () => {
      const scope = useScope()

      async function open(): Promise<Ends> {
        const server = await rawServer(scope, isTcp ? undefined : join(scope.tempDir(), 's'))
        const socket = createDialSocket()
        socket.connect(isTcp ? { port: server.target as number, host: '127.0.0.1' } : { path: server.target as string })
        await once(socket, 'connect')
        const told = listener()
        const byteSocket = new ByteSocket(socket, told)
        scope.defer(async () => {
          byteSocket.destroy()
          await until(() => told.log.at(-1) === 'released')
        })
        return { told, byteSocket, peer: await server.accept() }
      }

      it('createDialSocket() gives a socket that reads nothing before it is taken over', async () => {
        const server = await rawServer(scope, isTcp ? undefined : join(scope.tempDir(), 's'))
        const socket = createDialSocket()
        scope.defer(() => socket.destroy())
        socket.connect(isTcp ? { port: server.target as number, host: '127.0.0.1' } : { path: server.target as string })
        await once(socket, 'connect')
        const peer = await server.accept()
        await new Promise((resolve) => peer.write('early', resolve))
        await turns()
        expect(socket.bytesRead).to.equal(0)
        const told = listener()
        const byteSocket = new ByteSocket(socket, told)
        byteSocket.resume()
        await until(() => told.log.includes('early'))
      })

      it('resume() starts reading; received() is told every byte in order, then peerEnded()', async () => {
        const { told, byteSocket, peer } = await open()
        peer.write('abc')
        await turns()
        expect(told.log).to.deep.equal([])
        byteSocket.resume()
        await until(() => told.log.length === 1)
        peer.end('de')
        await until(() => told.log.includes('peerEnded'))
        expect(told.log).to.deep.equal(['abc', 'de', 'peerEnded'])
      })

      it('resume() tells nothing before it returns', async () => {
        const { told, byteSocket, peer } = await open()
        await new Promise((resolve) => peer.write('abc', resolve))
        byteSocket.resume()
        expect(told.log).to.deep.equal([])
        await until(() => told.log.length > 0)
      })

      it('received() that returns false stops reading, so that the peer feels it, and resume() goes on', async () => {
        const { told, byteSocket, peer } = await open()
        told.goesOn = false
        byteSocket.resume()
        peer.end(TOO_MUCH)
        for (let count = 1; count <= 5; count++) {
          await until(() => told.log.length === count)
          await turns()
          expect(told.log).to.have.length(count)
          expect(peer.writableLength).to.be.greaterThan(0)
          byteSocket.resume()
        }
        told.goesOn = true
        byteSocket.resume()
        await until(() => told.log.includes('peerEnded'))
        expect(told.length).to.equal(TOO_MUCH.byteLength)
      })

      it('is half-open: after peerEnded() it still writes, and shutdown() sends FIN', async () => {
        const { told, byteSocket, peer } = await open()
        byteSocket.resume()
        peer.end()
        await until(() => told.log.includes('peerEnded'))
        await write(byteSocket, 'still')
        await new Promise<void>((resolve, reject) => byteSocket.shutdown((error) => (error == null ? resolve() : reject(error))))
        expect(`${await readToEnd(peer)}`).to.equal('still')
        await turns()
        expect(told.log).to.deep.equal(['peerEnded'])
        byteSocket.resume()
        await turns()
        expect(told.log).to.deep.equal(['peerEnded'])
      })

      it('write() and writev() send buffers and strings as encoded, in order', async () => {
        const { byteSocket, peer } = await open()
        await write(byteSocket, Buffer.from('a'))
        await write(byteSocket, 'é')
        const entries: WriteEntry[] = [
          { chunk: 'ü', encoding: 'utf8' },
          { chunk: '\xE9', encoding: 'latin1' },
          { chunk: Buffer.from('b'), encoding: 'buffer' }
        ]
        await new Promise<void>((resolve, reject) =>
          byteSocket.writev(entries, false, (error) => (error == null ? resolve() : reject(error)))
        )
        const buffers: WriteEntry[] = [Buffer.from('c'), Buffer.from('d')].map((chunk) => ({ chunk, encoding: 'buffer' }))
        await new Promise<void>((resolve, reject) =>
          byteSocket.writev(buffers, true, (error) => (error == null ? resolve() : reject(error)))
        )
        byteSocket.shutdown(() => {})
        expect((await readToEnd(peer)).toString('latin1')).to.equal('a\xC3\xA9\xC3\xBC\xE9bcd')
      })

      it('unsent tells what the system has not taken of a write', async () => {
        const { byteSocket, peer } = await open()
        expect(byteSocket.unsent).to.equal(0)
        let isWritten = false
        byteSocket.write(TOO_MUCH, 'buffer', () => {
          isWritten = true
        })
        await turns()
        expect(byteSocket.unsent).to.be.within(1, TOO_MUCH.byteLength - 1)
        expect(isWritten).to.equal(false)
        peer.resume()
        await until(() => isWritten)
        expect(byteSocket.unsent).to.equal(0)
      })

      it('destroy() closes the descriptor: the peer sees the end, released() is told, once and last', async () => {
        const { told, byteSocket, peer } = await open()
        byteSocket.resume()
        byteSocket.destroy()
        byteSocket.destroy()
        expect(byteSocket.isDestroyed).to.equal(true)
        expect(told.log).to.deep.equal([])
        expect(`${await readToEnd(peer)}`).to.equal('')
        peer.end('late')
        byteSocket.resume()
        byteSocket.reset()
        await turns()
        expect(told.log).to.deep.equal(['released'])
      })

      it(`reset() ${isTcp ? 'resets the connection' : 'just closes'}: released() is told, once and last`, async () => {
        const { told, byteSocket, peer } = await open()
        byteSocket.resume()
        const seen: string[] = []
        peer.on('error', (error: NodeJS.ErrnoException) => seen.push(error.code as string))
        peer.on('end', () => seen.push('end'))
        peer.resume()
        byteSocket.reset()
        byteSocket.reset()
        byteSocket.destroy()
        expect(byteSocket.isDestroyed).to.equal(true)
        expect(told.log).to.deep.equal([])
        await until(() => told.log.length > 0 && seen.length > 0)
        await turns()
        expect(told.log).to.deep.equal(['released'])
        expect(seen).to.deep.equal([isTcp ? 'ECONNRESET' : 'end'])
      })

      it('reset() while shutdown() is under way still closes the descriptor, and the shutdown is not called back', async () => {
        const { told, byteSocket, peer } = await open()
        byteSocket.resume()
        peer.on('error', () => {}).resume()
        let calls = 0
        byteSocket.shutdown(() => calls++)
        byteSocket.reset()
        await until(() => told.log.includes('released'))
        expect(calls).to.equal(0)
        expect(told.log).to.deep.equal(['released'])
      })

      it('destroy() while shutdown() is under way closes the descriptor', async () => {
        const { told, byteSocket } = await open()
        byteSocket.shutdown(() => {})
        byteSocket.destroy()
        await until(() => told.log.includes('released'))
        expect(told.log).to.deep.equal(['released'])
      })

      it('tells nothing of what arrives after destroy()', async () => {
        const { told, byteSocket, peer } = await open()
        byteSocket.resume()
        await new Promise((resolve) => peer.write('abc', resolve))
        byteSocket.destroy()
        await until(() => told.log.length > 0)
        expect(told.log).to.deep.equal(['released'])
      })

      it("a peer's reset is told as broken(), then released(); bytes in front of it are received", async () => {
        const { told, byteSocket, peer } = await open()
        await write(byteSocket, 'unread')
        byteSocket.resume()
        peer.write('abc')
        breakOff(peer, isTcp)
        await until(() => told.log.includes('released'))
        expect(told.log).to.deep.equal(['abc', 'broken', 'released'])
        expect(told.cause?.code).to.equal('ECONNRESET')
        expect(byteSocket.isDestroyed).to.equal(true)
      })

      it('takes a reset that found it not reading for a reset, with all bytes in front of it', async () => {
        const { told, byteSocket, peer } = await open()
        await write(byteSocket, 'unread')
        await new Promise((resolve) => peer.write('abc', resolve))
        breakOff(peer, isTcp)
        await once(peer, 'close')
        await turns()
        expect(told.log).to.deep.equal([])
        byteSocket.resume()
        await until(() => told.log.includes('released'))
        expect(told.log).to.deep.equal(['abc', 'broken', 'released'])
      })

      it('a write that fails leaves reading alone: unread bytes are received, and then no end but broken()', async () => {
        const { told, byteSocket, peer } = await open()
        await new Promise((resolve) => peer.write('abc', resolve))
        breakOff(peer, isTcp)
        await once(peer, 'close')
        const error = (await write(byteSocket, 'x').catch((reason: unknown) => reason)) as NodeJS.ErrnoException
        expect(error.code).to.be.oneOf(['ECONNRESET', 'EPIPE'])
        byteSocket.writeFailed(error)
        await turns()
        expect(told.log).to.deep.equal([])
        expect(byteSocket.isDestroyed).to.equal(false)
        byteSocket.resume()
        await until(() => told.log.includes('released'))
        expect(told.log).to.deep.equal(['abc', 'broken', 'released'])
        expect(told.cause).to.equal(error)
      })

      it('a write that fails after the end breaks it', async () => {
        const { told, byteSocket, peer } = await open()
        byteSocket.resume()
        peer.end('abc')
        await until(() => told.log.includes('peerEnded'))
        const error = new Error('write failed')
        byteSocket.writeFailed(error)
        await until(() => told.log.includes('released'))
        expect(told.log).to.deep.equal(['abc', 'peerEnded', 'broken', 'released'])
        expect(told.cause).to.equal(error)
      })

      it('a failed write is no unhandled error', async () => {
        const { told, byteSocket, peer } = await open()
        breakOff(peer, isTcp)
        await once(peer, 'close')
        byteSocket.write('x', 'latin1', () => {})
        byteSocket.resume()
        await until(() => told.log.includes('broken') || told.log.includes('peerEnded'))
      })
    })
  }

  for (const transport of TRANSPORTS) {
    describe(`of ${transport.name}`, () => {
      const scope = useScope()
      const usesShared = isPlainNode && !IS_PUSH

      it(`reads into ${usesShared ? 'the shared buffer, never into one that Node.js makes' : 'buffers that Node.js makes'}`, async () => {
        const { connection, peer } = await openEnds(scope, transport)
        // Every buffer that Node.js makes goes through push(), the end goes there in any case.
        const pushed: number[] = []
        const { push } = connection.socket
        connection.socket.push = function (chunk: Uint8Array | null): boolean {
          if (chunk !== null) pushed.push(chunk.byteLength)
          return push.call(this, chunk)
        }
        peer.end(new Uint8Array(300_000))
        expect(await connection.reader.discard()).to.equal(300_000)
        expect(pushed.reduce((sum, length) => sum + length, 0)).to.equal(usesShared ? 0 : 300_000)
      })
    })
  }

  // On Bun and Deno, and should Node.js ever take the shared buffer away, this is the way bytes come in.
  const spec = (name: string): string => join(import.meta.dirname, `${name}.spec.js`)
  holdsWithPushToo([spec('socket'), spec('reader')], 700)
  holdsWithPushToo([spec('connection')], 50, 'law [145]')
})

function listener(): Told {
  return {
    log: [],
    length: 0,
    goesOn: true,
    keepsChunks: true,
    cause: undefined,
    received(bytes, length) {
      this.length += length
      this.log.push(length > 100 ? `${length} bytes` : Buffer.from(bytes.subarray(0, length)).toString())
      return this.goesOn
    },
    peerEnded() {
      this.log.push('peerEnded')
    },
    broken(cause) {
      this.cause = cause
      this.log.push('broken')
    },
    released() {
      this.log.push('released')
    }
  }
}

function write(byteSocket: ByteSocket, data: Uint8Array | string): Promise<void> {
  return new Promise((resolve, reject) => {
    const encoding = typeof data === 'string' ? 'utf8' : 'buffer'
    byteSocket.write(data, encoding, (error) => (error == null ? resolve() : reject(error)))
  })
}

/** Leaves as rudely as it can: with a reset, which a unix peer makes of a close with something unread. */
function breakOff(peer: Socket, isTcp: boolean): void {
  if (isTcp) peer.resetAndDestroy()
  else peer.destroy()
}
