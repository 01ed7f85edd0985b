import { expect } from 'chai'
import { runNode } from '../helpers/programs.ts'
import { rawPair } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'
import { closed } from '../helpers/settings.ts'
import { turns } from '../helpers/until.ts'

const [, uvMinor = 0] = (process.versions.uv ?? '').split('.').map(Number)

// If one of these fails, Node.js has mended it, and what src/stream/net-transport.ts does about it can go once no supported version needs it.
describe("Node.js's own faults, which the library works around", () => {
  const scope = useScope()

  // https://github.com/libuv/libuv/issues/4992, https://github.com/libuv/libuv/pull/4997
  it(`libuv ${uvMinor < 52 ? 'before 1.52 takes' : '1.52 and later does not take'} bytes and a reset that come together for bytes and an end`, async () => {
    const [client, server] = await rawPair(scope)
    const told: string[] = []
    client.on('data', () => told.push('data')).on('end', () => told.push('end'))
    client.on('error', (error: NodeJS.ErrnoException) => told.push(error.code ?? error.message))
    client.resume()
    server.write('x')
    server.resetAndDestroy()
    await closed(server)
    await turns()
    expect(told).to.deep.equal(uvMinor < 52 ? ['data', 'end'] : ['data', 'ECONNRESET'])
  })

  // https://github.com/libuv/libuv/pull/2425 forbids it, and Node.js does not expect that.
  it('resetAndDestroy() while shutdown(2) is pending fails with EINVAL, and the descriptor is never closed', async () => {
    // In a process of its own, since it leaves a descriptor open.
    const program = `
      const net = require('node:net')
      const server = net.createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1', () => {
        const told = []
        const socket = net.connect({ port: server.address().port, host: '127.0.0.1', allowHalfOpen: true })
        socket.on('error', (error) => told.push(error.code)).on('close', () => told.push('close'))
        socket.once('connect', () => {
          socket.end()
          socket.resetAndDestroy()
          let turn = 0
          const wait = () => {
            if (turn++ < 50) return void setImmediate(wait)
            console.log(told.join())
            process.exit()
          }
          wait()
        })
      })`
    expect((await runNode(['-e', program])).stdout.trim()).to.equal('EINVAL')
  })
})
