import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type ServerOpts, type Socket } from 'node:net'
import { expect } from 'chai'
import { useScope } from '../helpers/scope.ts'

const [major] = process.versions.node.split('.').map(Number)
const isPlainNode = process.versions.bun === undefined && process.versions.deno === undefined

// If one of these fails, node:net does better than the README says in "Why not node:net?".
describe('What the README says of node:net', () => {
  const scope = useScope()

  before(function () {
    if (!isPlainNode) this.skip()
  })

  async function open(options: ServerOpts = {}): Promise<Server> {
    const server = createServer(options).listen(0, '127.0.0.1')
    await once(server, 'listening')
    scope.defer(() => new Promise((resolve) => server.close(resolve)))
    return server
  }

  function dial(server: Server): Socket {
    const socket = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', allowHalfOpen: true })
    scope.defer(() => socket.destroy())
    return socket.on('error', () => {})
  }

  async function accepted(server: Server): Promise<Socket> {
    const [socket] = (await once(server, 'connection')) as [Socket]
    scope.defer(() => socket.destroy())
    return socket.on('error', () => {})
  }

  it(`a loop over a socket ${major === 24 ? 'leaves it open' : 'destroys it'} at the client's end, though half-open is allowed`, async () => {
    const server = await open({ allowHalfOpen: true })
    const socket = accepted(server)
    dial(server).end('hello')
    for await (const _ of await socket);
    expect((await socket).destroyed).to.equal(major !== 24)
  })

  it('leaving a loop over a socket destroys it', async () => {
    const server = await open()
    const socket = accepted(server)
    dial(server).write('hello')
    for await (const _ of await socket) break
    expect((await socket).destroyed).to.equal(true)
  })

  it('maxConnections accepts further clients and closes them', async () => {
    const server = await open()
    server.maxConnections = 1
    const first = accepted(server)
    dial(server)
    await first
    const second = dial(server)
    second.resume()
    await once(second, 'end')
  })
})
