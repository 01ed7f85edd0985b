import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { expect } from 'chai'
import { pipe } from 'it-pipe'
import { withConnection } from '../../src/connect.ts'
import type { Connection } from '../../src/connection.ts'
import { Server } from '../../src/server.ts'
import { type InetWhereToConnect, toFile, toHostAndPort, type UnixWhereToConnect } from '../../src/where-to-connect.ts'
import { onFile, onPort } from '../../src/where-to-listen.ts'
import { type Finished, needs, run } from '../helpers/programs.ts'
import { closedPort } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'
import { until } from '../helpers/until.ts'

/** More than any buffer on the way; all of ASCII. */
const PAYLOAD = Buffer.from(Uint8Array.from({ length: 1_000_003 }, (_, index) => (index * 7) % 128))
/** By itself socat goes half a second after one side has ended, also if the other has more to say. */
const PATIENCE = ['-t', '20']

describe('Interop: socat', () => {
  const scope = useScope()

  before(function () {
    needs(this, 'socat')
  })

  for (const kind of ['TCP', 'a unix socket'] as const) {
    const isTcp = kind === 'TCP'

    it(`as a client of our echo server over ${kind}: after its half-close it still gets all of the echo, then the end`, async () => {
      const server = await startServer(isTcp, async (connection) => {
        await pipe(connection, connection)
      })
      const { stdout, code, stderr } = await askThroughSocat(server)
      expect([code, stderr]).to.deep.equal([0, ''])
      expect(Buffer.from(stdout).equals(PAYLOAD)).to.equal(true)
      await server.close()
      await server.finished
    })

    it(`as a client over ${kind} whose end comes first: the server answers when it has read all`, async () => {
      const server = await startServer(isTcp, async ({ reader, writer }) => {
        const bytes = await reader.readAll()
        writer.write(`${bytes.length} bytes`)
      })
      const { stdout, code } = await askThroughSocat(server)
      expect([code, stdout]).to.deep.equal([0, `${PAYLOAD.length} bytes`])
      await server.close()
      await server.finished
    })

    it(`as a server over ${kind}: after our half-close it still sends what it has to, then the end`, async () => {
      // wc answers only when its input has ended, which is what our half-close becomes.
      const { where, ended } = await startSocat(isTcp, 'SYSTEM:wc -c')
      const reply = await withConnection(where, async ({ reader, writer }: Connection) => {
        await writer([PAYLOAD])
        return await reader.readAll()
      })
      expect(Number(Buffer.from(reply).toString())).to.equal(PAYLOAD.length)
      expect(await ended).to.equal(0)
    })

    it(`as an echo server over ${kind}: all comes back, also what is under way at our half-close`, async () => {
      const { where, ended } = await startSocat(isTcp, 'EXEC:cat')
      const echo = await withConnection(where, async ({ reader, writer }: Connection) => {
        const [bytes] = await Promise.all([reader.readAll(), writer([PAYLOAD])])
        return bytes
      })
      expect(Buffer.from(echo).equals(PAYLOAD)).to.equal(true)
      expect(await ended).to.equal(0)
    })
  }

  async function startServer(isTcp: boolean, handler: (connection: Connection) => unknown): Promise<Server> {
    const where = isTcp ? onPort(0, { host: '127.0.0.1' }) : onFile(join(scope.tempDir(), 's'))
    const server = (await Server.create(where, handler)) as Server
    scope.defer(() => server.close({ closeExistingConnections: true }))
    return server
  }

  async function askThroughSocat({ address }: Server): Promise<Finished> {
    const peer = address.family === 'unix' ? `UNIX-CONNECT:${address.path}` : `TCP:${address.address}:${address.port}`
    return await run('socat', [...PATIENCE, 'STDIO', peer], { input: PAYLOAD })
  }

  /** Starts a socat that serves one client with `answerer`. */
  async function startSocat(
    isTcp: boolean,
    answerer: string
  ): Promise<{ where: InetWhereToConnect | UnixWhereToConnect; ended: Promise<number | null> }> {
    const path = join(scope.tempDir(), 's')
    const port = await closedPort()
    const listener = isTcp ? `TCP-LISTEN:${port},bind=127.0.0.1,reuseaddr` : `UNIX-LISTEN:${path}`
    const child = spawn('socat', [...PATIENCE, '-d', '-d', listener, answerer], { stdio: ['ignore', 'ignore', 'pipe'] })
    const ended = new Promise<number | null>((resolve) => child.on('close', resolve))
    scope.defer(async () => {
      child.kill('SIGKILL')
      await ended
    })
    let log = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      log += text
    })
    await until(() => log.includes('listening on'), 'socat listens')
    return { where: isTcp ? toHostAndPort('127.0.0.1', port) : toFile(path), ended }
  }
})
