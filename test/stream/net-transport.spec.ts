import { once } from 'node:events'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { expect } from 'chai'
import { createDialSocket } from '../../src/stream/net-socket.ts'
import { NetTransport } from '../../src/stream/net-transport.ts'
import type { TransportEvents, WriteEntry } from '../../src/stream/transport.ts'
import { holdsWithPushToo, IS_PUSH } from '../helpers/push-seam.ts'
import { rawServer, readToEnd } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'
import { openEnds, TOO_MUCH, TRANSPORTS } from '../helpers/transports.ts'
import { turns, until } from '../helpers/until.ts'

// Whether Node.js is to give its own buffers, not to fill the shared one: how this file runs the second time.
const isPlainNode = process.versions.bun === undefined && process.versions.deno === undefined

/** What a socket told. */
interface Told extends TransportEvents {
  /** In which order, bytes as text. */
  readonly log: string[]
  length: number
  /** Whether to go on reading. */
  goesOn: boolean
  cause: NodeJS.ErrnoException | undefined
}

interface Ends {
  readonly told: Told
  readonly transport: NetTransport
  /** The other end: paused, half-open. */
  readonly peer: Socket
}

describe('NetTransport', () => {
  for (const isTcp of [true, false]) {
    describe(isTcp ? 'over TCP' : 'over a unix socket', () => {
      const scope = useScope()

      async function open(): Promise<Ends> {
        const server = await rawServer(scope, isTcp ? undefined : join(scope.tempDir(), 's'))
        const socket = createDialSocket()
        socket.connect(isTcp ? { port: server.target as number, host: '127.0.0.1' } : { path: server.target as string })
        await once(socket, 'connect')
        const told = listener()
        const transport = new NetTransport(socket)
        scope.defer(async () => {
          transport.destroy()
          await until(() => told.log.at(-1) === 'released')
        })
        return { told, transport, peer: await server.accept() }
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
        const transport = new NetTransport(socket)
        transport.open(told)
        await until(() => told.log.includes('early'))
      })

      it('resume() starts reading; received() is told every byte in order, then ended()', async () => {
        const { told, transport, peer } = await open()
        peer.write('abc')
        await turns()
        expect(told.log).to.deep.equal([])
        transport.open(told)
        await until(() => told.log.length === 1)
        peer.end('de')
        await until(() => told.log.includes('ended'))
        expect(told.log).to.deep.equal(['abc', 'de', 'ended'])
      })

      it('resume() tells nothing before it returns', async () => {
        const { told, transport, peer } = await open()
        await new Promise((resolve) => peer.write('abc', resolve))
        transport.open(told)
        expect(told.log).to.deep.equal([])
        await until(() => told.log.length > 0)
      })

      it('received() that returns false stops reading, so that the peer feels it, and resume() goes on', async () => {
        const { told, transport, peer } = await open()
        told.goesOn = false
        transport.open(told)
        peer.end(TOO_MUCH)
        for (let count = 1; count <= 5; count++) {
          await until(() => told.log.length === count)
          await turns()
          expect(told.log).to.have.length(count)
          expect(peer.writableLength).to.be.greaterThan(0)
          transport.resume()
        }
        told.goesOn = true
        transport.resume()
        await until(() => told.log.includes('ended'))
        expect(told.length).to.equal(TOO_MUCH.byteLength)
      })

      it('is half-open: after ended() it still writes, and end() sends FIN', async () => {
        const { told, transport, peer } = await open()
        transport.open(told)
        peer.end()
        await until(() => told.log.includes('ended'))
        await write(transport, told, 'still')
        transport.end()
        await until(() => told.log.includes('finished'))
        expect(`${await readToEnd(peer)}`).to.equal('still')
        await turns()
        expect(told.log).to.deep.equal(['ended', 'finished'])
        transport.resume()
        await turns()
        expect(told.log).to.deep.equal(['ended', 'finished'])
      })

      it('write() sends buffers and strings as encoded, in order', async () => {
        const { told, transport, peer } = await open()
        transport.open(told)
        await write(transport, told, 'a')
        await write(transport, told, 'é')
        await write(
          transport,
          told,
          { chunk: 'ü', encoding: 'utf8' },
          { chunk: '\xE9', encoding: 'latin1' },
          { chunk: Buffer.from('b'), encoding: 'buffer' }
        )
        await write(transport, told, { chunk: Buffer.from('c'), encoding: 'buffer' }, { chunk: Buffer.from('d'), encoding: 'buffer' })
        transport.end()
        expect((await readToEnd(peer)).toString('latin1')).to.equal('a\xC3\xA9\xC3\xBC\xE9bcd')
        await until(() => told.log.includes('finished'))
      })

      it('a short write that has to wait is sent as it was, whatever else is written meanwhile', async function () {
        // Short writes fill the buffers of a unix socket within some hundreds; of TCP, which puts them together, not within ten thousands.
        if (isTcp) this.skip()
        const { told, transport, peer } = await open()
        const other = await open()
        transport.open(told)
        other.transport.open(other.told)
        const numbered = (number: number): WriteEntry => entry(Buffer.from(String(number).padStart(64)))
        let count = 0
        while (transport.write([numbered(count)])) count++
        expect(other.transport.write([numbered(-1)])).to.equal(true)
        const received = readToEnd(peer)
        await until(() => told.log.includes('written'))
        transport.end()
        expect((await received).toString()).to.equal(Array.from({ length: count + 1 }, (_, i) => String(i).padStart(64)).join(''))
      })

      it('unsent tells what the system has not taken of a write; written() follows when it has', async () => {
        const { told, transport, peer } = await open()
        transport.open(told)
        expect(transport.unsent).to.equal(0)
        expect(transport.write([entry(TOO_MUCH)])).to.equal(false)
        await turns()
        expect(transport.unsent).to.be.within(1, TOO_MUCH.byteLength - 1)
        expect(told.log).to.deep.equal([])
        peer.resume()
        await until(() => told.log.includes('written'))
        expect(transport.unsent).to.equal(0)
      })

      it('destroy() closes the descriptor: the peer sees the end, released() is told, once and last', async () => {
        const { told, transport, peer } = await open()
        transport.open(told)
        transport.destroy()
        transport.destroy()
        expect(transport.isDestroyed).to.equal(true)
        expect(told.log).to.deep.equal([])
        expect(`${await readToEnd(peer)}`).to.equal('')
        peer.end('late')
        transport.resume()
        transport.reset()
        await turns()
        expect(told.log).to.deep.equal(['released'])
      })

      it(`reset() ${isTcp ? 'resets the connection' : 'just closes'}: released() is told, once and last`, async () => {
        const { told, transport, peer } = await open()
        transport.open(told)
        const seen: string[] = []
        peer.on('error', (error: NodeJS.ErrnoException) => seen.push(error.code as string))
        peer.on('end', () => seen.push('end'))
        peer.resume()
        transport.reset()
        transport.reset()
        transport.destroy()
        expect(transport.isDestroyed).to.equal(true)
        expect(told.log).to.deep.equal([])
        await until(() => told.log.length > 0 && seen.length > 0)
        await turns()
        expect(told.log).to.deep.equal(['released'])
        expect(seen).to.deep.equal([isTcp ? 'ECONNRESET' : 'end'])
      })

      it('reset() while end() is under way still closes the descriptor, and the shutdown is not called back', async () => {
        const { told, transport, peer } = await open()
        transport.open(told)
        peer.on('error', () => {}).resume()
        transport.end()
        transport.reset()
        await until(() => told.log.includes('released'))
        expect(told.log).to.deep.equal(['released'])
      })

      it('destroy() while end() is under way closes the descriptor', async () => {
        const { told, transport } = await open()
        transport.open(told)
        transport.end()
        transport.destroy()
        await until(() => told.log.includes('released'))
        expect(told.log).to.deep.equal(['released'])
      })

      it('tells nothing of what arrives after destroy()', async () => {
        const { told, transport, peer } = await open()
        transport.open(told)
        await new Promise((resolve) => peer.write('abc', resolve))
        transport.destroy()
        await until(() => told.log.length > 0)
        expect(told.log).to.deep.equal(['released'])
      })

      it("a peer's reset is told as broken(), then released(); bytes in front of it are received", async () => {
        const { told, transport, peer } = await open()
        await write(transport, told, 'unread')
        transport.open(told)
        peer.write('abc')
        breakOff(peer, isTcp)
        await until(() => told.log.includes('released'))
        expect(told.log).to.deep.equal(['abc', 'broken', 'released'])
        expect(told.cause?.code).to.equal('ECONNRESET')
        expect(transport.isDestroyed).to.equal(true)
      })

      it('takes a reset that found it not reading for a reset, with all bytes in front of it', async () => {
        const { told, transport, peer } = await open()
        await write(transport, told, 'unread')
        await new Promise((resolve) => peer.write('abc', resolve))
        breakOff(peer, isTcp)
        await once(peer, 'close')
        await turns()
        expect(told.log).to.deep.equal([])
        transport.open(told)
        await until(() => told.log.includes('released'))
        expect(told.log).to.deep.equal(['abc', 'broken', 'released'])
      })

      it('a write that fails leaves reading alone: what follows is received, and then no end but broken()', async () => {
        const { told, transport, peer } = await open()
        told.goesOn = false
        transport.open(told)
        await new Promise((resolve) => peer.write('abc', resolve))
        await until(() => told.log.length === 1)
        breakOff(peer, isTcp)
        await once(peer, 'close')
        transport.write([entry('x')])
        expect(told.log).to.deep.equal(['abc'])
        await until(() => told.log.length > 1)
        const error = told.cause as NodeJS.ErrnoException
        expect(error.code).to.be.oneOf(['ECONNRESET', 'EPIPE'])
        await turns()
        expect(told.log).to.deep.equal(['abc', 'not written'])
        expect(transport.isDestroyed).to.equal(false)
        transport.resume()
        await until(() => told.log.includes('released'))
        expect(told.log).to.deep.equal(['abc', 'not written', 'broken', 'released'])
        expect(told.cause).to.equal(error)
      })

      it('a write that fails after the end breaks it', async () => {
        const { told, transport, peer } = await open()
        transport.open(told)
        peer.end('abc')
        await until(() => told.log.includes('ended'))
        const error = new Error('write failed')
        transport.socket._write = (_chunk, _encoding, callback) => callback(error)
        expect(transport.write([entry('x')])).to.equal(false)
        await until(() => told.log.includes('released'))
        expect(told.log).to.deep.equal(['abc', 'ended', 'not written', 'broken', 'released'])
        expect(told.cause).to.equal(error)
      })

      it('a failed write is no unhandled error', async () => {
        const { told, transport, peer } = await open()
        breakOff(peer, isTcp)
        await once(peer, 'close')
        transport.open(told)
        transport.write([entry('x')])
        await until(() => told.log.includes('broken') || told.log.includes('ended'))
      })

      it('release() gives the socket up as an ordinary one: what is unread first, nothing flowing, then what follows and the end', async () => {
        const { told, transport, peer } = await open()
        told.goesOn = false
        transport.open(told)
        peer.write('abc')
        await until(() => told.log.length === 1)
        const socket = transport.release([Buffer.from('abc')])
        expect(socket.readableFlowing).to.equal(null)
        peer.end('def')
        const seen: string[] = []
        socket.on('data', (chunk) => seen.push(`${chunk}`))
        await once(socket, 'end')
        expect(seen.join('')).to.equal('abcdef')
        socket.end('ghi')
        expect(`${await readToEnd(peer)}`).to.equal('ghi')
        await until(() => socket.closed)
        expect(told.log).to.deep.equal(['abc'])
        told.log.push('released')
      })
    })
  }

  for (const kind of TRANSPORTS) {
    describe(`of ${kind.name}`, () => {
      const scope = useScope()
      const usesShared = isPlainNode && !IS_PUSH

      it(`reads into ${usesShared ? 'the shared buffer, never into one that Node.js makes' : 'buffers that Node.js makes'}`, async () => {
        const { connection, peer } = await openEnds(scope, kind)
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
  holdsWithPushToo([spec('net-transport'), ...['position', 'ends', 'refusals', 'fed'].map((part) => spec(`reader-${part}`))], 700)
  holdsWithPushToo(
    ['errors', 'close', 'abort'].map((part) => spec(`connection-${part}`)),
    50,
    'law [145]'
  )
})

function listener(): Told {
  return {
    log: [],
    length: 0,
    goesOn: true,
    cause: undefined,
    received(buffer, length) {
      this.length += length
      this.log.push(length > 100 ? `${length} bytes` : Buffer.from(buffer.bytes.subarray(0, length)).toString())
      return this.goesOn
    },
    written(error) {
      this.cause = error
      this.log.push(error === undefined ? 'written' : 'not written')
    },
    finished(error) {
      this.log.push(error === undefined ? 'finished' : 'not finished')
    },
    ended() {
      this.log.push('ended')
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

function entry(chunk: Uint8Array | string): WriteEntry {
  return { chunk, encoding: typeof chunk === 'string' ? 'utf8' : 'buffer', byteLength: Buffer.byteLength(chunk) }
}

/** Writes as one, and resolves when that is handed over. */
async function write(transport: NetTransport, told: Told, ...data: (string | Omit<WriteEntry, 'byteLength'>)[]): Promise<void> {
  const entries = data.map((one) => (typeof one === 'string' ? entry(one) : { ...one, byteLength: one.chunk.length }))
  if (transport.write(entries)) return
  await until(() => told.log.includes('written'))
  told.log.splice(told.log.indexOf('written'), 1)
}

/** Leaves as rudely as it can: with a reset, which a unix peer makes of a close with something unread. */
function breakOff(peer: Socket, isTcp: boolean): void {
  if (isTcp) peer.resetAndDestroy()
  else peer.destroy()
}
