import { connect as rawConnect, type Socket } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { expect } from 'chai'
import type { InetAddress, SocketAddress } from '../../src/address.ts'
import { connect } from '../../src/connect.ts'
import type { Connection } from '../../src/connection.ts'
import type { ServerTurnedAwayMessage } from '../../src/diagnostics.ts'
import { HandshakeTimeoutError, ProxyHeaderError } from '../../src/errors.ts'
import { listen } from '../../src/listen.ts'
import type { ServerOptions } from '../../src/options.ts'
import { formatProxyHeader, readProxyHeader } from '../../src/proxy-header.ts'
import { Server } from '../../src/server.ts'
import { toHostAndPort } from '../../src/where-to-connect.ts'
import { onFile, onPort } from '../../src/where-to-listen.ts'
import { collect } from '../helpers/channels.ts'
import { skipIf } from '../helpers/programs.ts'
import {
  ascii,
  DESTINATION_4,
  DESTINATION_6,
  ENDS_4,
  LINE_4,
  LOCAL,
  PROXY,
  SIGNATURE,
  SOURCE_4,
  SOURCE_6,
  TCP4,
  tlv,
  UNSPEC,
  version2,
  withChecksum
} from '../helpers/proxy-bytes.ts'
import { closeAtEnd, rawClient, readToEnd } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'
import { CAN_GATE_IN_KERNEL, closed, type Handler } from '../helpers/settings.ts'
import { turns, until } from '../helpers/until.ts'

const HOST = '127.0.0.1'
const FROM_HERE = { from: ['127.0.0.0/8'] }
const HEADER_2 = formatProxyHeader({ source: SOURCE_4, destination: DESTINATION_4 })

describe('Server: the laws of the PROXY protocol', () => {
  const scope = useScope()

  interface Watched {
    readonly server: Server<InetAddress, number>
    /** Who was handed to the handler, with the first line that it said. */
    readonly served: { readonly connection: Connection; readonly line: string | null }[]
    /** Who was turned away, and why. */
    readonly reports: [SocketAddress, unknown][]
  }

  const create = async (options: ServerOptions<InetAddress> = {}, handler?: Handler): Promise<Watched> => {
    const served: Watched['served'] = []
    const reports: Watched['reports'] = []
    const server = await Server.create(
      onPort(0, { host: HOST }),
      { proxyProtocol: FROM_HERE, onHandlerError: (...report) => reports.push(report), ...options },
      handler ??
        (async (connection) => {
          served.push({ connection, line: await connection.reader.readLine() })
          connection.writer.write('seen\n')
        })
    )
    scope.defer(() => server.close({ closeExistingConnections: true }))
    return { server, served, reports }
  }
  const say = async ({ server }: Watched, ...parts: readonly (Uint8Array | string)[]): Promise<Socket> => {
    const socket = await rawClient(scope, server.listeningOn)
    if (parts.length > 0) socket.write(Buffer.concat(parts.map((part) => Buffer.from(part as string))))
    return socket
  }
  /** The report about the only client, who was reset without a byte of ours. */
  const turnedAway = async (watched: Watched, socket: Socket): Promise<Error> => {
    await until(() => watched.reports.length === 1, 'it is turned away')
    await closed(socket.resume())
    expect([socket.bytesRead, watched.served.length, watched.server.isClosed]).to.deep.equal([0, 0, false])
    const { turnedAway: counts } = watched.server.statistics()
    expect(counts).to.deep.equal({ admit: 0, perAddress: 0, proxyHeader: 1, handshake: 0 })
    watched.server.invariant()
    return watched.reports[0]?.[1] as Error
  }

  describe('no guessing', () => {
    it('with the option every connection must start with a header', async () => {
      const watched = await create()
      const error = await turnedAway(watched, await say(watched, 'EHLO example\r\n'))
      expect(error).to.be.instanceOf(ProxyHeaderError)
    })

    it('without it no byte is looked at', async () => {
      const seen: unknown[] = []
      const server = await Server.create(onPort(0, { host: HOST }), async (connection) => {
        const { reader, proxy, remoteAddress } = connection
        seen.push(proxy, (remoteAddress as InetAddress).address, Buffer.from((await reader.readExactly(HEADER_2.length)) ?? []))
      })
      scope.defer(() => server.close({ closeExistingConnections: true }))
      const socket = await rawClient(scope, server.listeningOn)
      socket.write(HEADER_2)
      await until(() => seen.length === 3)
      expect(seen).to.deep.equal([null, HOST, Buffer.from(HEADER_2)])
    })

    for (const [what, first] of [
      ['version 1', LINE_4],
      ['version 2', HEADER_2]
    ] as const) {
      it(`a second header is payload, behind ${what}`, async () => {
        const watched = await create()
        const other = 'PROXY TCP4 203.0.113.9 198.51.100.11 1 2\r\n'
        await say(watched, first, other)
        await until(() => watched.served.length === 1)
        expect(watched.served[0]).to.have.property('line', other.trimEnd())
        expect(watched.served[0]?.connection.remoteAddress).to.deep.equal(SOURCE_4)
      })
    }
  })

  describe('senders outside `from` are turned away before a byte is read', () => {
    for (const [what, said] of [
      ['a perfect header', HEADER_2],
      ['nothing at all', '']
    ] as const) {
      it(`also with ${what}, at once and with the sender’s address`, async () => {
        const watched = await create({ proxyProtocol: { from: ['10.0.0.0/8', '::1'] }, handshakeTimeout: Number.POSITIVE_INFINITY })
        using messages = collect<ServerTurnedAwayMessage>('it-tcp.server.turned-away')
        const socket = rawConnect({ port: watched.server.listeningOn, host: HOST })
        closeAtEnd(scope, socket)
        socket.write(said)
        await until(() => watched.reports.length === 1)
        await closed(socket.resume())
        const [[address, error]] = watched.reports as [[InetAddress, Error]]
        expect(address.address).to.equal(HOST)
        expect(error.message).to.include("the sender must be one of 'from'")
        expect([messages[0]?.step, messages[0]?.remoteAddress]).to.deep.equal(['proxyHeader', address])
        expect(watched.server.isClosed).to.equal(false)
      })
    }

    it('peers of a unix socket are believed only if `from` has "unix"', async () => {
      for (const [from, isServed] of [
        [['unix'], true],
        [['0.0.0.0/0', '::/0'], false],
        ['anybody', true]
      ] as const) {
        const path = `${scope.tempDir()}/s`
        let handled = 0
        const server = await Server.create(onFile(path), { proxyProtocol: { from } }, () => handled++)
        scope.defer(() => server.close({ closeExistingConnections: true }))
        const socket = await rawClient(scope, path)
        socket.write(HEADER_2)
        await until(() => handled + server.statistics().turnedAway.proxyHeader === 1)
        expect(handled === 1, String(from)).to.equal(isServed)
      }
    })
  })

  describe('nothing is sent and no handler runs before the header is complete and valid', () => {
    it('a server that speaks first waits for the last byte', async () => {
      const watched = await create({}, ({ writer }) => {
        writer.write('220 ready\r\n')
      })
      const socket = await say(watched, HEADER_2.subarray(0, -1))
      await until(() => watched.server.numConnections === 1)
      await turns()
      socket.resume()
      await turns()
      expect([socket.bytesRead, watched.server.statistics().served]).to.deep.equal([0, 0])
      const answer = readToEnd(socket)
      socket.write(HEADER_2.subarray(-1))
      expect(String(await answer)).to.equal('220 ready\r\n')
    })

    for (const [what, said] of [
      ['version 1 whose port has a leading zero', 'PROXY TCP4 192.0.2.1 198.51.100.11 056324 443\r\n'],
      ['PROXYjunk', 'PROXYjunk\r\n'],
      ['a lone line feed', LINE_4.replace('\r', '')],
      ['a version that does not exist', version2(0x31, TCP4, ENDS_4)],
      ['a command that does not exist', version2(0x22, TCP4, ENDS_4)],
      ['a transport that does not exist', version2(PROXY, 0x13, ENDS_4)],
      ['DGRAM', version2(PROXY, 0x12, ENDS_4)],
      ['a family without its addresses', version2(PROXY, TCP4)],
      ['a value that is longer than the header', version2(PROXY, TCP4, Buffer.concat([ENDS_4, tlv(0xe0, 'abc', 9)]))]
    ] as const) {
      it(`turned away: ${what}`, async () => {
        const watched = await create()
        const error = await turnedAway(watched, await say(watched, said, 'hello\n'))
        expect(error).to.be.instanceOf(ProxyHeaderError)
      })
    }
  })

  describe('bounded', () => {
    it('version 1 has 107 bytes, however long its sender goes on', async () => {
      const watched = await create({ handshakeTimeout: Number.POSITIVE_INFINITY })
      const socket = await say(watched, `PROXY UNKNOWN ${'x'.repeat(200)}`)
      expect(await turnedAway(watched, socket)).to.be.instanceOf(ProxyHeaderError)
    })

    it('version 2 has 16 + 4096 bytes: 65,535 announced are refused with the first 16, which hold no memory', async () => {
      const watched = await create({ handshakeTimeout: Number.POSITIVE_INFINITY })
      const error = await turnedAway(watched, await say(watched, SIGNATURE, Uint8Array.of(PROXY, TCP4, 0xff, 0xff)))
      expect(error.message).to.match(/65,?535|4,?096/)
    })

    it('maxLength allows more, or less', async () => {
      const long = version2(PROXY, TCP4, Buffer.concat([ENDS_4, tlv(0xe0, Buffer.alloc(8_000))]))
      const allowing = await create({ proxyProtocol: { ...FROM_HERE, maxLength: 10_000 } })
      await say(allowing, long, 'hello\n')
      await until(() => allowing.served.length === 1)
      expect(allowing.served[0]?.connection.proxy?.tlvs.get(0xe0)).to.have.length(8_000)
      const strict = await create({ proxyProtocol: { ...FROM_HERE, maxLength: 11 } })
      expect(await turnedAway(strict, await say(strict, HEADER_2))).to.be.instanceOf(ProxyHeaderError)
    })

    it('CRC32C is checked where it is present', async () => {
      const header = version2(PROXY, TCP4, Buffer.concat([ENDS_4, tlv(0x03, Buffer.alloc(4))]))
      const right = await create()
      await say(right, withChecksum(header), 'hello\n')
      await until(() => right.served.length === 1)
      const wrong = await create()
      expect(await turnedAway(wrong, await say(wrong, withChecksum(header, 1), 'hello\n'))).to.be.instanceOf(ProxyHeaderError)
    })
  })

  it('a header in pieces, byte by byte, is accepted, and none of them prolongs the deadline', async () => {
    for (const header of [ascii(LINE_4), HEADER_2]) {
      const watched = await create()
      const socket = await say(watched)
      socket.setNoDelay(true)
      for (const byte of Buffer.concat([header, ascii('hello\n')])) {
        socket.write(Uint8Array.of(byte))
        await turns(1)
      }
      await until(() => watched.served.length === 1)
      expect(watched.served[0]?.connection.remoteAddress).to.deep.equal(SOURCE_4)
    }
    const watched = await create({ handshakeTimeout: 60 })
    const socket = await say(watched)
    socket.setNoDelay(true)
    for (const byte of ascii(`PROXY TCP6 ${'1:'.repeat(20)}`)) {
      if (watched.reports.length > 0) break
      socket.write(Uint8Array.of(byte))
      await wait(5)
    }
    expect(await turnedAway(watched, socket)).to.be.instanceOf(HandshakeTimeoutError)
  })

  describe('LOCAL, UNKNOWN and UNSPEC give the real endpoints', () => {
    for (const [what, header, command] of [
      ['LOCAL', version2(LOCAL, UNSPEC), 'local'],
      ['LOCAL with addresses that mean nothing', version2(LOCAL, TCP4, ENDS_4), 'local'],
      ['UNKNOWN', 'PROXY UNKNOWN\r\n', 'proxy'],
      ['UNKNOWN with something behind it', 'PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n', 'proxy'],
      ['UNSPEC', version2(PROXY, UNSPEC), 'proxy']
    ] as const) {
      it(what, async () => {
        const watched = await create()
        const socket = await say(watched, header, 'hello\n')
        await until(() => watched.served.length === 1)
        const { connection, line } = watched.served[0] as Watched['served'][number]
        const real = { family: 'IPv4', address: HOST, port: socket.localPort }
        expect([connection.remoteAddress, connection.localAddress]).to.deep.equal([real, watched.server.address])
        expect(connection.proxy).to.deep.include({ command, source: null, destination: null, via: real })
        expect(line).to.equal('hello')
      })
    }

    it('unknown values are kept, the first of a kind', async () => {
      const watched = await create()
      await say(watched, version2(PROXY, TCP4, Buffer.concat([ENDS_4, tlv(0xea, 'one'), tlv(0xea, 'two')])), 'hello\n')
      await until(() => watched.served.length === 1)
      expect(Buffer.from(watched.served[0]?.connection.proxy?.tlvs.get(0xea) ?? []).toString()).to.equal('one')
    })

    it('an IPv6 client of an IPv4 server is told as it is', async () => {
      const watched = await create()
      await say(watched, formatProxyHeader({ source: SOURCE_6, destination: DESTINATION_6 }), 'hello\n')
      await until(() => watched.served.length === 1)
      expect(watched.served[0]?.connection.remoteAddress).to.deep.equal(SOURCE_6)
      expect(watched.served[0]?.connection.localAddress).to.deep.equal(DESTINATION_6)
    })
  })

  describe('bytes behind the header are the first of the stream', () => {
    it('and only they are counted', async () => {
      const payload = Buffer.alloc(300_000, 'x')
      const read: [number, number][] = []
      const watched = await create({}, async ({ reader }) => {
        const bytes = await reader.readAll({ maxLength: 1_000_000 })
        read.push([bytes.byteLength, reader.bytesRead])
      })
      const socket = await say(watched, HEADER_2, payload)
      socket.end()
      await until(() => read.length === 1)
      expect(read).to.deep.equal([[300_000, 300_000]])
    })
  })

  describe('the header is sent at connect, before anything else; it never waits for the first write', () => {
    for (const version of [1, 2] as const) {
      it(`a client that does not speak is known to the server, version ${version}`, async () => {
        const watched = await create({}, ({ writer, remoteAddress }) => {
          writer.write(`220 ${(remoteAddress as InetAddress).address}\n`)
        })
        const client = await connect(toHostAndPort(HOST, watched.server.listeningOn), {
          proxyHeader: { source: SOURCE_4, destination: DESTINATION_4, version }
        })
        scope.defer(() => client.abort())
        expect(await client.reader.readLine()).to.equal('220 192.0.2.1')
        expect([client.writer.bytesWritten, client.writer.bytesPending]).to.deep.equal([0, 0])
      })
    }

    it('a header is passed on as it came, over two servers', async () => {
      const behind = await create()
      const before = await create({}, async ({ reader, writer, proxy }) => {
        const upstream = await connect(toHostAndPort(HOST, behind.server.listeningOn), { proxyHeader: proxy ?? { command: 'local' } })
        await Promise.all([upstream.writer(reader), writer(upstream.reader)])
        await upstream.close()
      })
      const header = formatProxyHeader({ source: SOURCE_4, destination: DESTINATION_4, tlvs: [[0x02, ascii('mx.example')]], crc32c: true })
      const socket = await say(before, header, 'hello\n')
      socket.end()
      expect(String(await readToEnd(socket))).to.equal('seen\n')
      const [{ connection }] = behind.served as [Watched['served'][number]]
      const { proxy, remoteAddress } = connection
      expect([remoteAddress, proxy?.authority]).to.deep.equal([SOURCE_4, 'mx.example'])
    })
  })

  describe('none of it ever holds up another client', () => {
    it('one silent sender stops nobody', async () => {
      const watched = await create({ handshakeTimeout: Number.POSITIVE_INFINITY })
      await say(watched)
      await until(() => watched.server.numConnections === 1)
      for (let client = 1; client <= 5; client++) {
        await say(watched, HEADER_2, 'hello\n')
        await until(() => watched.served.length === client)
      }
      expect(watched.reports).to.deep.equal([])
    })

    it('nor does it where somebody pulls', async () => {
      const server = await listen(onPort(0, { host: HOST }), { proxyProtocol: FROM_HERE, handshakeTimeout: Number.POSITIVE_INFINITY })
      scope.defer(() => server.close({ closeExistingConnections: true }))
      const pulled = server.accept()
      await rawClient(scope, server.listeningOn)
      await until(() => server.numConnections === 1)
      const second = await rawClient(scope, server.listeningOn)
      second.write(HEADER_2)
      expect((await pulled).remoteAddress).to.deep.equal(SOURCE_4)
    })

    it('100 silent senders at a limit of 100 are gone at the deadline, and those who waited are served', async function () {
      skipIf(this, !CAN_GATE_IN_KERNEL, 'needs the kernel gate')
      const watched = await create({ maxConnections: 100, handshakeTimeout: 300, warnAtLimit: false })
      const silent = await Promise.all(Array.from({ length: 100 }, () => say(watched)))
      await until(() => watched.server.numConnections === 100)
      const waiting = await say(watched, HEADER_2, 'hello\n')
      waiting.end()
      expect(String(await readToEnd(waiting))).to.equal('seen\n')
      await Promise.all(silent.map((socket) => closed(socket.resume())))
      await until(() => watched.reports.length === 100)
      expect(watched.reports.every(([, error]) => error instanceof HandshakeTimeoutError)).to.equal(true)
      expect(watched.server.statistics().turnedAway.proxyHeader).to.equal(100)
      await until(() => watched.server.numConnections === 0)
    })

    it('a thousand senders of nonsense leave no descriptor and no error in the process', async function () {
      this.timeout(30_000)
      const watched = await create()
      for (let round = 0; round < 20; round++) {
        const sockets = await Promise.all(Array.from({ length: 50 }, () => say(watched, round % 2 === 0 ? 'nonsense\r\n' : SIGNATURE)))
        if (round % 2 === 1) for (const socket of sockets) socket.resetAndDestroy()
        await Promise.all(sockets.map((socket) => closed(socket.resume())))
      }
      await until(() => watched.server.numConnections === 0 && watched.server.statistics().accepted === 1_000)
      const { turnedAway: counts, dropped, served } = watched.server.statistics()
      // Whoever was reset before it was accepted never was anybody.
      expect([counts.proxyHeader + dropped, served, watched.reports.length]).to.deep.equal([1_000, 0, counts.proxyHeader])
      expect([dropped < 500, watched.server.isClosed]).to.deep.equal([true, false])
    })
  })

  it('the deadline is gone once the header is read: a connection lives ten times as long', async () => {
    const watched = await create({ handshakeTimeout: 40 })
    const socket = await say(watched, HEADER_2)
    await until(() => watched.server.statistics().served === 1)
    await wait(400)
    expect(watched.reports).to.deep.equal([])
    socket.write('late\n')
    await until(() => watched.served.length === 1)
    expect(watched.served[0]?.line).to.equal('late')
  })

  it('a bad header that a handler reads by itself is the client’s fault too', async () => {
    let failed = 0
    const server = await Server.create(onPort(0, { host: HOST }), async ({ reader }) => {
      await readProxyHeader(reader).finally(() => failed++)
    })
    scope.defer(() => server.close({ closeExistingConnections: true }))
    for (let client = 1; client <= 2; client++) {
      const socket = await rawClient(scope, server.listeningOn)
      socket.end('nonsense\r\n')
      await closed(socket.resume())
      await until(() => failed === client)
    }
    expect(server.isClosed).to.equal(false)
  })

  it('and one of a connection that the handler has dialled is the program’s', async () => {
    const upstream = await Server.create(onPort(0, { host: HOST }), ({ writer }) => writer.write('nonsense\r\n'))
    scope.defer(() => upstream.close({ closeExistingConnections: true }))
    const server = await Server.create(onPort(0, { host: HOST }), async () => {
      const dialled = await connect(toHostAndPort(HOST, upstream.listeningOn))
      await readProxyHeader(dialled.reader).finally(() => dialled.abort())
    })
    scope.defer(() => server.close({ closeExistingConnections: true }))
    const raised = server.finished.then(
      () => undefined,
      (error: unknown) => error
    )
    await rawClient(scope, server.listeningOn)
    expect(await raised).to.be.instanceOf(ProxyHeaderError)
  })
})
