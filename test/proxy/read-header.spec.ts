import { getEventListeners } from 'node:events'
import type { Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { expect } from 'chai'
import { isFrom } from '../../src/errors.ts'
import {
  BusyError,
  ConnectionResetError,
  formatProxyHeader,
  ProxyHeaderError,
  type ReadProxyHeaderOptions,
  ReadTimeoutError,
  readProxyHeader
} from '../../src/index.ts'
import { BAD_COUNTS, BAD_DURATIONS, expectRefusal } from '../helpers/bad-input.ts'
import {
  ascii,
  DESTINATION_4,
  ENDS_4,
  LINE_4,
  LINE_6,
  LOCAL,
  PROXY,
  SOURCE_4,
  SOURCE_6,
  TCP4,
  tlv,
  UNIX,
  UNSPEC,
  unixEnds,
  version2
} from '../helpers/proxy-bytes.ts'
import { rejection } from '../helpers/rejection.ts'
import { type Scope, useScope } from '../helpers/scope.ts'
import { type Ends, openEnds, TRANSPORTS } from '../helpers/transports.ts'
import { turns, until } from '../helpers/until.ts'

const ACTION = 'Cannot read a PROXY header'
const BINARY = version2(PROXY, TCP4, Buffer.concat([ENDS_4, tlv(0x02, 'example.com')]))
const HEADERS = [
  ['version 1', ascii(LINE_6), SOURCE_6],
  ['UNKNOWN', ascii('PROXY UNKNOWN\r\n'), null],
  ['version 2', BINARY, SOURCE_4],
  ['unix paths', version2(PROXY, UNIX, unixEnds('/run/a', '/run/b')), { family: 'unix', path: '/run/a' }],
  ['LOCAL', version2(LOCAL, UNSPEC), null],
  ['UNSPEC', version2(PROXY, UNSPEC), null]
] as const

describe('readProxyHeader', () => {
  const scope = useScope()

  for (const transport of TRANSPORTS) {
    describe(`on ${transport.name}`, () => {
      for (const [what, bytes, source] of HEADERS) {
        it(`reads ${what} that has arrived, and bytes behind the header are the first of the stream, a second header too`, async () => {
          const { connection, peer } = await openEnds(scope, transport)
          peer.end(Buffer.concat([bytes, bytes, ascii('payload')]))
          await until(() => connection.reader.bytesAvailable === 2 * bytes.byteLength + 7)
          expect(await readProxyHeader(connection.reader)).to.deep.include({ source })
          expect(connection.reader.bytesAvailable).to.equal(bytes.byteLength + 7)
          expect(Buffer.from(await connection.reader.readAll()).equals(Buffer.concat([bytes, ascii('payload')]))).to.equal(true)
        })

        it(`reads ${what} in pieces, byte by byte, and waits for no byte behind it`, async () => {
          const { connection, peer } = await openEnds(scope, transport)
          const header = readProxyHeader(connection.reader)
          let isRead = false
          void header.then(() => {
            isRead = true
          })
          for (const [index, byte] of bytes.entries()) {
            expect(isRead).to.equal(false)
            peer.write(Uint8Array.of(byte))
            await until(() => connection.reader.bytesRead === index + 1)
          }
          expect(await header).to.deep.include({ source })
          expect(connection.reader.bytesAvailable).to.equal(0)
        })
      }

      it('sends nothing before the header is complete, nor then', async () => {
        const { connection, peer } = await openEnds(scope, transport)
        const received = collect(peer)
        const header = readProxyHeader(connection.reader)
        peer.write(BINARY.subarray(0, -1))
        await until(() => connection.reader.bytesRead === BINARY.byteLength - 1)
        peer.write(BINARY.subarray(-1))
        await header
        await connection.writer.close()
        await until(() => peer.readableEnded)
        expect(received.join('')).to.equal('')
      })

      for (const [what, bytes, why] of [
        ['nothing but an end', '', 'the stream ended before it: received nothing'],
        ['half of version 1', LINE_4.slice(0, 20), "the stream ended within it: received 'PROXY TCP4 192.0.2.1'"],
        ['version 1 without its line feed', LINE_4.slice(0, -1), 'the stream ended within it'],
        ['half of version 2', BINARY.subarray(0, 20), 'the stream ended within it: received bytes 0d 0a'],
        ['version 2 without its last byte', BINARY.subarray(0, -1), 'the stream ended within it']
      ] as const) {
        it(`rejects for ${what}`, async () => {
          const { connection, peer } = await openEnds(scope, transport)
          peer.end(typeof bytes === 'string' ? ascii(bytes) : bytes)
          const error = await rejection(readProxyHeader(connection.reader))
          expect(error).to.be.instanceOf(ProxyHeaderError).with.property('message').that.contains(why)
          // A server that has this very connection can tell that its client is at fault.
          expect(isFrom(error as Error, connection.reader)).to.equal(true)
        })
      }

      it('rejects for what is no header at once, without waiting for more', async () => {
        for (const bytes of [ascii('G'), ascii('PROXYjunk'), Buffer.from([0x16, 3, 1]), version2(PROXY, TCP4, Buffer.alloc(0))]) {
          const { connection, peer } = await openEnds(scope, transport)
          peer.write(bytes)
          expect(await rejection(readProxyHeader(connection.reader))).to.be.instanceOf(ProxyHeaderError)
        }
      })
    })
  }

  const [transport] = TRANSPORTS
  const open = async (): Promise<Ends> => openEnds(scope, transport!)

  it('rejects in the middle of the word, and of the signature, for what comes byte by byte and is no header', async () => {
    for (const bytes of ['PU', 'PROXY I', '\r\n\r\n\0x', '\r\n\r\n\0\r\nQUIT\n1', '\r\n\r\n\0\r\nQUIT\n!3']) {
      const { connection, peer } = await open()
      const error = rejection(readProxyHeader(connection.reader))
      for (const [index, byte] of ascii(bytes).entries()) {
        peer.write(Uint8Array.of(byte))
        await until(() => connection.reader.bytesRead === index + 1)
      }
      expect(await error).to.be.instanceOf(ProxyHeaderError)
    }
  })

  it('is not the first chunk: what arrives with it, before or after, is where it belongs', async () => {
    const { connection, peer } = await open()
    const header = readProxyHeader(connection.reader)
    peer.write(ascii(LINE_4.slice(0, 9)))
    await until(() => connection.reader.bytesRead === 9)
    peer.write(ascii(`${LINE_4.slice(9)}first line\nsec`))
    await header
    peer.end(ascii('ond line\n'))
    expect(await connection.reader.readLine()).to.equal('first line')
    expect(await connection.reader.readLine()).to.equal('second line')
  })

  it('leaves the ClientHello behind it whole', async () => {
    const { connection, peer } = await open()
    peer.write(formatProxyHeader({ source: SOURCE_4, destination: DESTINATION_4 }))
    const tls = connectTls({ socket: peer, servername: 'example.com' })
    tls.on('error', () => {})
    scope.defer(() => tls.destroy())
    expect(await readProxyHeader(connection.reader)).to.deep.include({ source: SOURCE_4 })
    const record = Buffer.from((await connection.reader.readExactly(5))!)
    expect([record[0], record[1]]).to.deep.equal([0x16, 3])
    const hello = Buffer.from((await connection.reader.readExactly(record.readUInt16BE(3)))!)
    expect([hello[0], hello.includes('example.com')]).to.deep.equal([1, true])
  })

  it('is bounded: what is announced beyond `maxLength` is refused when 16 bytes are there', async () => {
    for (const [announced, options] of [
      [65_535, {}],
      [4097, {}],
      [41, { maxLength: 40 }]
    ] as const) {
      const { connection, peer } = await open()
      peer.write(version2(PROXY, TCP4, Buffer.alloc(0), announced))
      const error = await rejection(readProxyHeader(connection.reader, options))
      expect(error).to.be.instanceOf(ProxyHeaderError).with.property('message').that.contains(`bytes, not ${announced}`)
      expect(connection.reader.bytesRead).to.equal(16)
    }
  })

  it('takes a header that is longer than the reader reads ahead', async () => {
    const { connection, peer } = await openEnds(scope, transport!, { readerBufferSize: 1 })
    const value = new Uint8Array(65_000).fill(7)
    peer.write(formatProxyHeader({ source: SOURCE_4, destination: DESTINATION_4, tlvs: [[0xe0, value]] }))
    const { tlvs } = await readProxyHeader(connection.reader, { maxLength: Number.POSITIVE_INFINITY })
    expect(Buffer.from(tlvs.get(0xe0)!).equals(value)).to.equal(true)
  })

  describe('timeout', () => {
    it('ends what does not come, and leaves no timer', async () => {
      for (const bytes of [ascii(''), ascii('PROX'), BINARY.subarray(0, 30)]) {
        const { connection, peer } = await open()
        const timers = watchTimers(scope)
        peer.write(bytes)
        const error = await rejection(readProxyHeader(connection.reader, { timeout: 20 }))
        expect(error).to.be.instanceOf(ReadTimeoutError).and.include({
          name: 'ReadTimeoutError',
          code: 'ERR_READ_TIMEOUT',
          message: 'Cannot read a PROXY header: none within 20 ms'
        })
        expect(isFrom(error as Error, connection.reader)).to.equal(true)
        expect([timers.delays, timers.running.size]).to.deep.equal([[20], 0])
        // The reader is free again.
        peer.end()
        await connection.reader.discard()
      }
    })

    it('is not prolonged by bytes', async () => {
      const { connection, peer } = await open()
      peer.write(version2(PROXY, TCP4, Buffer.alloc(0), 65_535))
      let error: unknown
      void rejection(readProxyHeader(connection.reader, { timeout: 30, maxLength: 65_535 })).then((reason) => {
        error = reason
      })
      await until(() => {
        peer.write('x')
        return error !== undefined
      })
      expect(error).to.be.instanceOf(ReadTimeoutError)
    })

    it('is 10 s unless told otherwise, by the setTimeout of the global object, and over when the header is there', async () => {
      const read = async (options?: ReadProxyHeaderOptions): Promise<number[]> => {
        const { connection, peer } = await open()
        const timers = watchTimers(scope)
        const header = readProxyHeader(connection.reader, options)
        peer.write(BINARY)
        await header
        expect(timers.running.size).to.equal(0)
        return timers.delays
      }
      expect(await read()).to.deep.equal([10_000])
      expect(await read({ timeout: 7_777 })).to.deep.equal([7_777])
      expect(await read({ timeout: Number.POSITIVE_INFINITY })).to.deep.equal([])
    })

    it('is gone afterwards: the connection lives on beyond it', async () => {
      const { connection, peer } = await open()
      peer.write(BINARY)
      await readProxyHeader(connection.reader, { timeout: 20 })
      const start = performance.now()
      await until(() => performance.now() - start > 40, 'the deadline has passed')
      peer.end('alive')
      expect(Buffer.from(await connection.reader.readAll()).toString()).to.equal('alive')
      expect(connection.signal.aborted).to.equal(false)
    })
  })

  describe('signal', () => {
    it('rejects with its reason, and leaves no listener and no timer', async () => {
      const { connection, peer } = await open()
      const controller = new AbortController()
      const reason = new Error('stop')
      const timers = watchTimers(scope)
      const header = rejection(readProxyHeader(connection.reader, { signal: controller.signal }))
      peer.write('PROXY ')
      await until(() => connection.reader.bytesRead === 6)
      controller.abort(reason)
      expect(await header).to.equal(reason)
      expect([getEventListeners(controller.signal, 'abort').length, timers.running.size]).to.deep.equal([0, 0])
      expect(await rejection(readProxyHeader(connection.reader, { signal: controller.signal }))).to.equal(reason)
      expect(connection.reader.bytesAvailable).to.equal(6)
    })

    it('has done its work when the header is there', async () => {
      const { connection, peer } = await open()
      const controller = new AbortController()
      peer.write(BINARY)
      await readProxyHeader(connection.reader, { signal: controller.signal })
      expect(getEventListeners(controller.signal, 'abort')).to.have.length(0)
    })
  })

  it('rejects as other reads do, if the connection breaks or another read is pending', async () => {
    const { connection, peer } = await open()
    const pending = connection.reader.read()
    expect(await rejection(readProxyHeader(connection.reader))).to.be.instanceOf(BusyError)
    peer.write('x')
    await pending
    const timers = watchTimers(scope)
    const header = rejection(readProxyHeader(connection.reader))
    await turns(2)
    peer.resetAndDestroy()
    expect(await header).to.be.instanceOf(ConnectionResetError)
    expect([timers.delays, timers.running.size]).to.deep.equal([[10_000], 0])
  })

  describe('refuses', () => {
    for (const [name, values] of [
      ['maxLength', BAD_COUNTS.filter((value) => value !== Number.POSITIVE_INFINITY)],
      ['timeout', BAD_DURATIONS],
      ['signal', [null, 7, {}]]
    ] as const) {
      it(`a wrong ${name}, and takes nothing`, async () => {
        const { connection, peer } = await open()
        peer.write(BINARY)
        await until(() => connection.reader.bytesAvailable === BINARY.byteLength)
        for (const value of values) {
          expectRefusal(await rejection(readProxyHeader(connection.reader, { [name]: value })), name, ACTION, value)
        }
        for (const options of [null, 10_000]) {
          expectRefusal(await rejection(readProxyHeader(connection.reader, options as never)), 'options', ACTION, options)
        }
        expect(await readProxyHeader(connection.reader)).to.include({ authority: 'example.com' })
      })
    }
  })
})

/** Puts itself in the place of the global timers until the test ends: with which delays some were started, and which of them still run. */
function watchTimers(scope: Scope): { readonly delays: number[]; readonly running: Set<unknown> } {
  const { setTimeout: start, clearTimeout: stop } = globalThis
  const delays: number[] = []
  const running = new Set<unknown>()
  globalThis.setTimeout = ((then: () => void, delay: number) => {
    const timer = start(() => {
      running.delete(timer)
      then()
    }, delay)
    delays.push(delay)
    running.add(timer)
    return timer
  }) as typeof setTimeout
  globalThis.clearTimeout = (timer) => {
    running.delete(timer)
    stop(timer)
  }
  scope.defer(() => Object.assign(globalThis, { setTimeout: start, clearTimeout: stop }))
  return { delays, running }
}

function collect(socket: Socket): string[] {
  const chunks: string[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk.toString())).resume()
  return chunks
}
