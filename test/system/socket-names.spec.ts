import net from 'node:net'
import { expect } from 'chai'
import { listen, onPortChosenByOs } from '../../src/index.ts'
import { kernelGateAvailable } from '../../src/system/descriptors.ts'
import { handleOf } from '../../src/system/node-internals.ts'
import { packedLocal, packedPeer, unpack } from '../../src/system/socket-names.ts'
import { IS_LINUX } from '../helpers/gates.ts'
import { skipIf } from '../helpers/programs.ts'
import { closeAtEnd, rawPair } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'

const fdOf = (socket: net.Socket): number => handleOf(socket)?.fd ?? -1

describe('socket names', () => {
  const scope = useScope()

  before(function () {
    skipIf(this, !IS_LINUX || !kernelGateAvailable(), 'needs Linux and koffi')
  })

  it('are both ends of a socket, as Node.js names them', async () => {
    const [client, accepted] = await rawPair(scope)
    const ends = [packedPeer(fdOf(accepted)), packedLocal(fdOf(accepted))].map((packed) => unpack(packed as number))
    expect(ends).to.deep.equal([
      { family: 'IPv4', address: client.localAddress, port: client.localPort },
      { family: 'IPv4', address: accepted.localAddress, port: accepted.localPort }
    ])
  })

  it('hold every address and port', () => {
    const of = (address: string, port: number): number =>
      address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0) * 65_536 + port
    for (const [address, port] of [
      ['0.0.0.0', 0],
      ['255.255.255.255', 65_535],
      ['127.0.0.1', 1],
      ['128.0.0.0', 65_535],
      ['1.2.3.4', 256]
    ] as const) {
      expect(unpack(of(address, port))).to.deep.equal({ family: 'IPv4', address, port })
    }
  })

  it('are not there for a socket that is closed, and for numbers that are none', () => {
    expect([packedPeer(-1), packedLocal(-1), packedPeer(2 ** 20 - 1)]).to.deep.equal([undefined, undefined, undefined])
  })

  for (const [host, from, expected] of [
    ['127.0.0.1', '127.0.0.1', { family: 'IPv4', address: '127.0.0.1' }],
    // A client of a listener for both families.
    ['::', '127.0.0.1', { family: 'IPv4', address: '127.0.0.1' }],
    ['::', '::1', { family: 'IPv6', address: '::1' }],
    ['0.0.0.0', '127.0.0.2', { family: 'IPv4', address: '127.0.0.1' }]
  ] as const) {
    it(`tell a server on ${host} who dialled ${from}, also after the end`, async () => {
      const server = scope.open(await listen(onPortChosenByOs({ host })))
      const accepting = server.accept()
      const client = net.connect({ host: from, port: server.listeningOn })
      closeAtEnd(scope, client)
      const connection = await accepting
      const { localPort } = client
      client.end()
      await connection.close()
      expect(connection.remoteAddress).to.deep.equal({ ...expected, port: localPort })
      expect(connection.localAddress).to.deep.equal({ family: expected.family, address: from, port: server.listeningOn })
      expect(connection.remoteAddress).to.equal(connection.remoteAddress)
    })
  }
})
