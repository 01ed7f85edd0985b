import { once } from 'node:events'
import type net from 'node:net'
import { expect } from 'chai'
import { kernelGateAvailable } from '../../src/system/descriptors.ts'
import { useExamples } from '../helpers/examples.ts'
import { skipIf } from '../helpers/programs.ts'
import { readToEnd } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'

describe('worker-threads', function () {
  this.timeout(30_000)
  const scope = useScope()
  const { startServer } = useExamples(scope)

  before(function () {
    skipIf(this, process.platform === 'win32' || !kernelGateAvailable(), 'needs koffi')
  })

  /** Sends a line, and gives the thread that answers. */
  const ask = async (client: net.Socket): Promise<string> => {
    client.write('hello\n')
    const [answer] = await once(client.resume(), 'data')
    expect(String(answer)).to.match(/^\d+ hello\n$/)
    return String(answer).split(' ')[0] as string
  }

  it('serves one queue with all threads, each up to its limit', async () => {
    const server = await startServer('worker-threads', '0', '2', '1')
    const first = await server.connect()
    const second = await server.connect()
    expect(await ask(first)).not.to.equal(await ask(second))
    const third = await server.connect()
    third.end('late\n')
    const answer = readToEnd(third)
    await ask(first)
    expect(third.bytesRead).to.equal(0)
    first.end()
    expect(`${await answer}`).to.match(/^\d+ late\n$/)
    second.end()
  })

  it('loses nobody who waits when a thread is terminated, and drains on SIGTERM', async () => {
    const server = await startServer('worker-threads', '0', '1', '1')
    const served = await server.connect()
    const before_ = await ask(served)
    const waiting: net.Socket[] = []
    for (let client = 0; client < 20; client++) waiting.push(await server.connect())
    const answers = waiting.map((client) => {
      client.end('hello\n')
      return readToEnd(client)
    })
    const cutOff = new Promise((resolve) => served.once('end', resolve).once('error', resolve))
    server.signal('SIGHUP')
    expect(await server.line()).to.equal('A thread was replaced')
    await cutOff
    for (const answer of await Promise.all(answers)) {
      expect(String(answer)).to.match(/^\d+ hello\n$/)
      expect(String(answer)).not.to.equal(`${before_} hello\n`)
    }
    server.signal('SIGTERM')
    expect(await server.line()).to.equal('All threads have ended')
    expect(await server.exit).to.deep.equal({ code: 0, signal: null })
  })

  it('loses nobody in ten replacements', async () => {
    const server = await startServer('worker-threads', '0', '2', '5')
    for (let round = 0; round < 10; round++) {
      server.signal('SIGHUP')
      expect(await server.line()).to.equal('A thread was replaced')
      await ask(await server.connect())
    }
    expect(server.complaints()).to.equal('')
  })
})
