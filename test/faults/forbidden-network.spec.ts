import { join } from 'node:path'
import { expect } from 'chai'
import { runNode, skipIf } from '../helpers/programs.ts'
import { useScope } from '../helpers/scope.ts'

const INDEX = new URL('../../src/index.js', import.meta.url).href
const [major = 0] = process.versions.node.split('.').map(Number)

describe("Node.js's permission model without --allow-net: an error of ours, and nothing thrown past the caller", () => {
  const scope = useScope()

  before(function () {
    // Before that the network was nobody's business.
    skipIf(this, major < 25, 'needs Node.js 25 or later')
  })

  const calls: Record<string, (path: string) => string> = {
    'listen(onPort(0))': () => 'listen(tcp.onPort(0))',
    "listen(onPort(0, { host: '127.0.0.1' }))": () => "listen(tcp.onPort(0, { host: '127.0.0.1' }))",
    'listen(onFile())': (path) => `listen(tcp.onFile('${path}'))`,
    'Server.create(onPortChosenByOs())': () => 'Server.create(tcp.onPortChosenByOs(), () => {})',
    'connect() to an address': () => "connect(tcp.toHostAndPort('127.0.0.1', 9))",
    'connect() to a name': () => "connect(tcp.toHostAndPort('localhost', 9))",
    'connect() from an address': () => "connect(tcp.toHostAndPort('127.0.0.1', 9, { localAddress: '127.0.0.1' }))",
    'connect() over TLS': () => "connect(tcp.toHostAndPort('127.0.0.1', 9), { tls: true })",
    'connect(toFile())': (path) => `connect(tcp.toFile('${path}'))`,
    'connectSocket()': () => "connectSocket(tcp.toHostAndPort('127.0.0.1', 9))",
    'withConnection()': () => "withConnection(tcp.toHostAndPort('127.0.0.1', 9), () => {})"
  }
  for (const [name, call] of Object.entries(calls)) {
    it(`${name} rejects`, async () => {
      const program = `const tcp = await import('${INDEX}'); await tcp.${call(join(scope.tempDir(), 's'))}.catch((error) => console.log(error.name))`
      const args = ['--no-warnings', '--permission', '--allow-fs-read=*', '--input-type=module', '-e', program]
      const { stdout, stderr } = await runNode(args, { env: { ...process.env, NODE_OPTIONS: '' } })
      expect(stdout, stderr).to.match(/^(?:Listen|Connect)Error\n$/)
    })
  }
})
