import { once } from 'node:events'
import { Agent, get } from 'node:http'
import { text } from 'node:stream/consumers'
import { expect } from 'chai'
import { useExamples } from '../helpers/examples.ts'
import { readToEnd } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'
import { turns } from '../helpers/until.ts'

describe('http-behind-gate', function () {
  this.timeout(30_000)
  const scope = useScope()
  const { startServer } = useExamples(scope)

  /** Asks over a connection of its own, or over those of `agent`. */
  async function ask(port: number, path: string, agent: Agent | false = false): Promise<string> {
    const outgoing = get({ host: '127.0.0.1', port, path, agent })
    const [response] = await once(outgoing, 'response')
    return await text(response)
  }

  it('speaks HTTP with who does, gives others their line back, and serves no more at once than it may', async () => {
    const server = await startServer('http-behind-gate', '0', '1')
    expect(await ask(server.port, '/page')).to.match(/^Hello, .*127\.0\.0\.1\. You asked for \/page\n$/)
    const other = await server.connect()
    other.write('a line\n')
    expect((await readToEnd(other)).toString()).to.equal('a line\n')
    other.end()
    const silent = await server.connect()
    silent.write('G')
    const second = ask(server.port, '/second')
    let isAnswered = false
    void second.then(() => {
      isAnswered = true
    })
    await turns(50)
    expect(isAnswered).to.equal(false)
    silent.end('ET /first HTTP/1.0\r\n\r\n')
    expect((await readToEnd(silent)).toString()).to.contain('/first')
    expect(await second).to.contain('/second')
    server.signal('SIGINT')
    expect(await server.exit).to.deep.equal({ code: 0, signal: null })
  })

  it('ends on SIGINT although a client keeps its connection', async () => {
    const server = await startServer('http-behind-gate', '0')
    const agent = new Agent({ keepAlive: true })
    scope.defer(() => agent.destroy())
    expect(await ask(server.port, '/', agent)).to.contain('Hello')
    server.signal('SIGINT')
    expect(await server.exit).to.deep.equal({ code: 0, signal: null })
    expect(server.complaints()).to.not.contain('Error')
  })
})
