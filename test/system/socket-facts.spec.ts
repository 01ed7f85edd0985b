import { once } from 'node:events'
import type net from 'node:net'
import { join } from 'node:path'
import { expect } from 'chai'
import { kernelGateAvailable } from '../../src/system/descriptors.ts'
import { handleOf } from '../../src/system/node-internals.ts'
import { peerCredentials, setUserTimeout, waitingClients } from '../../src/system/socket-facts.ts'
import { onFile, onPortChosenByOs } from '../../src/where-to-listen.ts'
import {
  behindEachGate,
  bindGate,
  IS_LINUX,
  kernelGateAvailableAnyway,
  LOOPBACK,
  socketOption,
  type Where,
  WITHOUT_LIBC
} from '../helpers/gates.ts'
import { runNode, skipIf } from '../helpers/programs.ts'
import { rawClient, rawPair, rawServer } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'
import { until } from '../helpers/until.ts'

const TCP_USER_TIMEOUT = 18
const fdOf = (socket: net.Socket | net.Server): number => handleOf(socket)?.fd ?? -1

describe('socket facts', () => {
  const scope = useScope()

  before(function () {
    skipIf(this, !IS_LINUX || !kernelGateAvailable(), 'needs Linux and koffi')
  })

  describe('peerCredentials()', () => {
    it('are those of the client on the accepted side, and of the server on the other', async () => {
      const [client, accepted] = await rawPair(scope, join(scope.tempDir(), 's'))
      const ours = { uid: process.geteuid?.(), gid: process.getegid?.(), pid: process.pid }
      expect(peerCredentials(fdOf(accepted))).to.deep.equal(ours)
      expect(peerCredentials(fdOf(client))).to.deep.equal(ours)
    })

    it('are those of another process', async () => {
      const path = join(scope.tempDir(), 's')
      const server = await rawServer(scope, path)
      const child = runNode([
        '-e',
        `require('node:net').connect('${path}', function () { console.log(process.pid) }).on('end', process.exit).resume()`
      ])
      const accepted = await server.accept()
      const credentials = peerCredentials(fdOf(accepted))
      accepted.end()
      const { stdout } = await child
      expect(credentials).to.have.property('pid', Number(stdout))
    })

    it('are null for a TCP socket, and for one that is closed', async () => {
      const [client] = await rawPair(scope)
      expect(peerCredentials(fdOf(client))).to.equal(null)
      expect(peerCredentials(-1)).to.equal(null)
      expect(peerCredentials(9_999)).to.equal(null)
    })
  })

  describe('waitingClients()', () => {
    it('are those in the queue of a listening TCP socket', async () => {
      const { socket, target } = await bindGate(scope, onPortChosenByOs(LOOPBACK) as Where)
      expect(socket.waiting).to.equal(0)
      for (let client = 0; client < 3; client++) await rawClient(scope, target)
      expect(waitingClients(socket.fd)).to.equal(3)
      expect(socket.waiting).to.equal(3)
      socket.open()
      await until(() => socket.waiting === 0)
    })

    it('are null for a unix socket, a connection, and a descriptor that is closed', async () => {
      const { socket } = await bindGate(scope, onFile(join(scope.tempDir(), 's')) as Where)
      expect(socket.waiting).to.equal(null)
      const [client] = await rawPair(scope)
      expect(waitingClients(fdOf(client))).to.equal(null)
      expect(waitingClients(-1)).to.equal(null)
    })

    it('are told by /proc where there is no libc', async () => {
      const program = `
        import net from 'node:net'
        import { waitingClients } from '${new URL('../../src/system/socket-facts.js', import.meta.url).href}'
        import { libc } from '${new URL('../../src/system/libc.js', import.meta.url).href}'
        const server = net.createServer().listen(0, '127.0.0.1', () => {
          const client = net.connect(server.address().port, '127.0.0.1')
          console.log(libc() === undefined, waitingClients(server._handle.fd))
          process.exit()
        })
      `
      const { stdout, stderr } = await runNode([...WITHOUT_LIBC, '--no-warnings', '--input-type=module', '-e', program], {
        env: { ...process.env, NODE_OPTIONS: '' }
      })
      expect(stdout, stderr).to.match(/^true [01]\n$/)
    })
  })

  describe('setUserTimeout()', () => {
    it('is set in milliseconds, rounded up, and Infinity is that of the system', async () => {
      const [client] = await rawPair(scope)
      const fd = fdOf(client)
      for (const [given, set] of [
        [1_500, 1_500],
        [0.5, 1],
        [2 ** 40, 2 ** 31 - 1],
        [Number.POSITIVE_INFINITY, 0]
      ] as const) {
        expect(setUserTimeout(fd, given)).to.equal(true)
        expect(socketOption(fd, 6, TCP_USER_TIMEOUT)).to.equal(set)
      }
    })

    it('is refused for a unix socket and a closed one', async () => {
      const [client] = await rawPair(scope, join(scope.tempDir(), 's'))
      expect(setUserTimeout(fdOf(client), 1_000)).to.equal(false)
      expect(setUserTimeout(9_999, 1_000)).to.equal(false)
    })

    it('a peer that takes no more is told by the kernel as ETIMEDOUT', async () => {
      const [client, accepted] = await rawPair(scope)
      expect(setUserTimeout(fdOf(client), 300)).to.equal(true)
      accepted.pause()
      const failed = once(client, 'error')
      client.write(Buffer.alloc(16 * 1_048_576))
      const [error] = await failed
      expect(error).to.include({ code: 'ETIMEDOUT' })
    })
  })
})

behindEachGate('userTimeout', (_gate, scope) => {
  it('of the listening socket holds for those that are accepted', async function () {
    skipIf(this, !IS_LINUX || !kernelGateAvailableAnyway(), 'needs Linux and koffi')
    const { socket, target, accepted } = await bindGate(scope, onPortChosenByOs(LOOPBACK) as Where, { userTimeout: 120_000 })
    socket.open()
    await rawClient(scope, target)
    await until(() => accepted.length === 1)
    const { fd } = (accepted[0] as { handle: { fd: number } }).handle
    expect(socketOption(fd, 6, TCP_USER_TIMEOUT)).to.equal(120_000)
  })
})
