import { join } from 'node:path'
import { expect } from 'chai'
import { type Connection, connect, listen, onFile, toFile } from '../../src/index.ts'
import { kernelGateAvailable } from '../../src/system/descriptors.ts'
import { IS_LINUX, WITHOUT_LIBC } from '../helpers/gates.ts'
import { runNode, skipIf } from '../helpers/programs.ts'
import { useScope } from '../helpers/scope.ts'
import { inEverySetting } from '../helpers/settings.ts'
import { openEnds, openPair, TRANSPORTS } from '../helpers/transports.ts'

const INDEX = new URL('../../src/index.js', import.meta.url).href

describe('connection.peerCredentials', () => {
  const scope = useScope()
  const ours = (): object => ({ uid: process.geteuid?.(), gid: process.getegid?.(), pid: process.pid })

  before(function () {
    skipIf(this, !IS_LINUX || !kernelGateAvailable(), 'needs Linux and koffi')
  })

  it('are those of the client on the accepted side, and those of the server on the dialled one', async () => {
    const { client, server } = await openPair(scope, false)
    expect(server.peerCredentials).to.deep.equal(ours())
    expect(client.peerCredentials).to.deep.equal(ours())
  })

  it('are those of another process', async () => {
    const path = join(scope.tempDir(), 's')
    const server = scope.open(await listen(onFile(path)))
    const accepting = server.accept()
    const program = `
      const { connect, toFile } = await import('${INDEX}')
      const connection = await connect(toFile('${path}'))
      await connection.reader.read()
      await connection.close()
      console.log(process.pid, connection.peerCredentials.pid)
    `
    const child = runNode(['--input-type=module', '-e', program])
    const connection = await accepting
    await connection.close()
    const { stdout, stderr } = await child
    expect(stdout, stderr).to.equal(`${connection.peerCredentials?.pid} ${process.pid}\n`)
    expect(connection.peerCredentials?.pid).not.to.equal(process.pid)
  })

  for (const kind of TRANSPORTS.filter(({ isTcp }) => !isTcp)) {
    it(`are kept after ${kind.name} is closed, by whomever`, async () => {
      const { connection, peer } = await openEnds(scope, kind)
      peer.destroy()
      await connection.reader.ended
      connection.abort()
      await connection.closed
      expect(connection.peerCredentials).to.deep.equal(ours())
    })
  }

  it('are null for TCP', async () => {
    const { client, server } = await openPair(scope, true)
    expect([client.peerCredentials, server.peerCredentials]).to.deep.equal([null, null])
  })

  it('are null where they are not known', async () => {
    const program = `
      const { connect, listen, onFile, toFile } = await import('${INDEX}')
      const server = await listen(onFile('${join(scope.tempDir(), 's')}'))
      const accepting = server.accept()
      const client = await connect(toFile(server.listeningOn))
      console.log(client.peerCredentials, (await accepting).peerCredentials)
      process.exit()
    `
    const { stdout, stderr } = await runNode([...WITHOUT_LIBC, '--no-warnings', '--input-type=module', '-e', program], {
      env: { ...process.env, NODE_OPTIONS: '' }
    })
    expect(stdout, stderr).to.equal('null null\n')
  })

  it('are of the sender of a PROXY header, whatever the header says', async () => {
    const path = join(scope.tempDir(), 's')
    const server = scope.open(await listen(onFile(path), { proxyProtocol: { from: ['unix'] } }))
    const accepting = server.accept() as Promise<Connection>
    const source = { family: 'IPv4', address: '192.0.2.1', port: 1 } as const
    const client = await connect(toFile(path), { proxyHeader: { source, destination: { ...source, port: 2 } } })
    scope.defer(() => client.abort())
    const connection = await accepting
    expect(connection.proxy?.source).to.deep.equal(source)
    expect(connection.peerCredentials).to.deep.equal(ours())
    connection.abort()
  })

  inEverySetting(
    (setting) => {
      it('are there behind each gate', async () => {
        const seen: unknown[] = []
        const server = await setting.create({}, ({ peerCredentials }) => void seen.push(peerCredentials))
        await setting.client(server)
        await setting.until(() => seen.length === 1)
        expect(seen).to.deep.equal([ours()])
      })
    },
    { isTcp: false }
  )
})
