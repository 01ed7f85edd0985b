import { once } from 'node:events'
import { expect } from 'chai'
import { runExample, useExamples } from '../helpers/examples.ts'
import { readToEnd } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'
import { closed } from '../helpers/settings.ts'

describe('worker-pool', function () {
  this.timeout(30_000)
  const scope = useScope()
  const { startServer } = useExamples(scope)

  it('has eight clients served by two threads, and ends', async () => {
    const { code, stdout, stderr } = await runExample('worker-pool', [])
    expect({ code, stderr }, stdout).to.deep.equal({ code: 0, stderr: '' })
    const answers = [...stdout.matchAll(/^(\d+) primes up to (\d+), said thread (\d+)$/gm)]
    expect(new Map(answers.map(([, count, limit]) => [limit, count]))).to.deep.equal(
      new Map([
        ['1000000', '78498'],
        ['2000000', '148933'],
        ['3000000', '216816'],
        ['4000000', '283146'],
        ['5000000', '348513'],
        ['6000000', '412849'],
        ['7000000', '476648'],
        ['8000000', '539777']
      ])
    )
    expect(new Set(answers.map(([, , , thread]) => thread)).size).to.be.lessThan(3)
  })

  it('leaves a client in the queue while its one thread belongs to another', async () => {
    const server = await startServer('worker-pool', '0', '1')
    const first = await server.connect()
    first.write('10\n')
    expect(`${(await once(first.resume(), 'data'))[0]}`).to.match(/^4 primes up to 10, /)
    const second = await server.connect()
    second.end('100\n')
    const answer = readToEnd(second)
    first.write('1000\n')
    expect(`${(await once(first, 'data'))[0]}`).to.match(/^168 primes /)
    expect(second.bytesRead).to.equal(0)
    first.end()
    expect(`${await answer}`).to.match(/^25 primes /)
    server.signal('SIGINT')
    expect(await server.exit).to.deep.equal({ code: 0, signal: null })
  })

  it('stops the thread of a client that goes away, and that of one whose question it cannot stand', async () => {
    const server = await startServer('worker-pool', '0', '1')
    const rude = await server.connect()
    rude.write('10000000\n'.repeat(100))
    await once(rude.resume(), 'data')
    rude.resetAndDestroy()
    await closed(rude)
    const odd = await server.connect()
    odd.write('-5\n')
    expect(`${await readToEnd(odd)}`).to.equal('')
    odd.end()
    const next = await server.connect()
    next.end('100\n')
    expect(`${await readToEnd(next)}`).to.equal('25 primes up to 100, said thread 3\n')
    expect(server.complaints()).to.equal('')
  })
})
