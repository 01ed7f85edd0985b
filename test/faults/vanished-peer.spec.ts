import { spawnSync } from 'node:child_process'
import type { Socket } from 'node:net'
import { expect } from 'chai'
import { type ConnectionOptions, connect, type Server, toHostAndPort } from '../../src/index.ts'

import { handleOf } from '../../src/system/node-internals.ts'
import { IS_LINUX, kernelGateAvailableAnyway, socketOption } from '../helpers/gates.ts'
import { needs, run, skipIf } from '../helpers/programs.ts'
import { rawServer } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'
import { inEverySetting } from '../helpers/settings.ts'
import { openEnds, TRANSPORTS } from '../helpers/transports.ts'

const SOL_SOCKET = 1
const SO_KEEPALIVE = 9
const IPPROTO_TCP = 6
const TCP_KEEPIDLE = 4
const TCP_USER_TIMEOUT = 18

const INDEX = new URL('../../src/index.js', import.meta.url).href

/** Where nothing that is sent arrives any more, and nobody says so: the loopback device of a network of its own is switched off. */
const VANISHING = `
  import { execFileSync } from 'node:child_process'
  import { connect, listen, onPort, toHostAndPort } from '${INDEX}'
  const loopback = (state) => execFileSync('ip', ['link', 'set', 'lo', state])
  loopback('up')
  const limits = { bufferAgeLimit: 800 }
  const server = await listen(onPort(0, { host: '127.0.0.1' }), limits)
  const accepting = server.accept()
  const dialled = await connect(toHostAndPort('127.0.0.1', server.listeningOn), limits)
  const accepted = await accepting
  const ends = { dialled, accepted }
  for (const { writer } of Object.values(ends)) writer.write('here')
  for (const { reader } of Object.values(ends)) await reader.readExactly(4)
  loopback('down')
  // So little that all of it is with the kernel.
  for (const { writer } of Object.values(ends)) writer.write('anybody?')
  for (const [name, { reader, writer }] of Object.entries(ends)) {
    await reader.read().catch((error) => console.log(name, writer.bytesPending, error.name, error.cause.code))
  }
  await server.close()
`

function fdOf(socket: Socket): number {
  return handleOf(socket)?.fd ?? -1
}

function userTimeout(socket: Socket): number {
  return socketOption(fdOf(socket), IPPROTO_TCP, TCP_USER_TIMEOUT)
}

describe('A peer that vanishes with bytes in flight', () => {
  const scope = useScope()

  before(function () {
    skipIf(this, !IS_LINUX || !kernelGateAvailableAnyway(), 'needs Linux and koffi')
  })

  it('is told as a broken connection when bufferAgeLimit and two seconds are over, on both sides', async function () {
    needs(this, 'unshare', 'ip')
    skipIf(this, spawnSync('unshare', ['-n', 'true']).status !== 0, 'needs unshare -n')
    const { stdout, stderr } = await run('unshare', ['-n', process.execPath, '--input-type=module', '-e', VANISHING])
    expect(stdout, stderr).to.equal('dialled 0 ConnectionResetError ETIMEDOUT\naccepted 0 ConnectionResetError ETIMEDOUT\n')
  })

  for (const kind of TRANSPORTS.filter(({ isTcp }) => isTcp)) {
    describe(`of ${kind.name}`, () => {
      for (const [what, options, milliseconds] of [
        ['two minutes and a half by default', {}, 150_000],
        ['a quarter more than the limit', { bufferAgeLimit: 30_000 }, 37_500],
        ['2 s more than a short limit, by which the writer may be late', { bufferAgeLimit: 100 }, 2_100],
        ['10 s more than a keep-alive that is longer, as long as ten probes take', { bufferAgeLimit: 30_000, keepAlive: 100_000 }, 110_000],
        ['a quarter more than the limit without keep-alive', { bufferAgeLimit: 30_000, keepAlive: false }, 37_500],
        ["the system's own without a limit", { bufferAgeLimit: Number.POSITIVE_INFINITY }, 0]
      ] as [string, ConnectionOptions, number][]) {
        it(`is given ${what}`, async () => {
          const { connection } = await openEnds(scope, kind, options)
          expect(userTimeout(connection.socket)).to.equal(milliseconds)
        })
      }

      it('is given another time when writer.bufferAgeLimit changes', async () => {
        const { connection } = await openEnds(scope, kind)
        connection.writer.bufferAgeLimit = 80_000
        expect(userTimeout(connection.socket)).to.equal(100_000)
        // Keep-alive stays as it was, at 60 s.
        connection.writer.bufferAgeLimit = 1_000
        expect(userTimeout(connection.socket)).to.equal(70_000)
        connection.socket.setKeepAlive(false)
        connection.writer.bufferAgeLimit = 1_000
        expect(userTimeout(connection.socket)).to.equal(3_000)
        connection.writer.bufferAgeLimit = Number.POSITIVE_INFINITY
        expect(userTimeout(connection.socket)).to.equal(0)
      })

      it('is probed no later than after bufferAgeLimit, unless keepAlive says so', async () => {
        const keepIdle = async (options: ConnectionOptions): Promise<number> => {
          const { connection } = await openEnds(scope, kind, options)
          expect(socketOption(fdOf(connection.socket), SOL_SOCKET, SO_KEEPALIVE)).to.equal(1)
          return socketOption(fdOf(connection.socket), IPPROTO_TCP, TCP_KEEPIDLE)
        }
        expect(await keepIdle({})).to.equal(60)
        expect(await keepIdle({ bufferAgeLimit: 20_000 })).to.equal(20)
        expect(await keepIdle({ bufferAgeLimit: 20_000, keepAlive: 90_000 })).to.equal(90)
      })
    })
  }

  for (const kind of TRANSPORTS.filter(({ isTcp }) => !isTcp)) {
    it(`is none of the kernel's business on ${kind.name}, whose limit may change all the same`, async () => {
      const { connection } = await openEnds(scope, kind, { bufferAgeLimit: 30_000 })
      connection.writer.bufferAgeLimit = 20_000
      expect(connection.writer.bufferAgeLimit).to.equal(20_000)
    })
  }

  it('changes nothing when the connection is closed, whose number somebody else may have', async () => {
    const server = await rawServer(scope)
    const connection = await connect(toHostAndPort('127.0.0.1', server.target as number))
    const { writer } = connection
    connection.abort()
    await connection.closed
    writer.bufferAgeLimit = 5_000
    expect(writer.bufferAgeLimit).to.equal(5_000)
  })
})

describe('A peer that vanishes: what a server accepts', () => {
  inEverySetting(
    (setting) => {
      before(function () {
        skipIf(this, !IS_LINUX || !kernelGateAvailableAnyway(), 'needs Linux and koffi')
      })

      it('has the limit from its listening socket', async () => {
        const server = (await setting.listen({ bufferAgeLimit: 8_000 })) as Server
        const accepting = server.accept()
        await setting.client(server)
        const connection = await accepting
        expect(userTimeout(connection.socket)).to.equal(10_000)
        connection.abort()
      })
    },
    { isTcp: true }
  )
})
