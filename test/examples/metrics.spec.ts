import { once } from 'node:events'
import { expect } from 'chai'
import { useExamples } from '../helpers/examples.ts'
import { figuresIn } from '../helpers/prometheus.ts'
import { rawClient, readToEnd } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'
import { until } from '../helpers/until.ts'

describe('metrics', function () {
  this.timeout(30_000)
  const scope = useScope()
  const { start } = useExamples(scope)

  it('serves what a parser of Prometheus understands: what clients have done is in the figures', async () => {
    const child = start('metrics', '0', '0')
    const [line] = await once(child.stdout as NodeJS.ReadableStream, 'data')
    const [, port, url = ''] = /^Listening on (\d+), figures at (\S+)\n$/.exec(String(line)) ?? []
    const figures = async (): Promise<Record<string, number>> => {
      const response = await fetch(url, { headers: { connection: 'close' } })
      expect(response.headers.get('content-type')).to.equal('text/plain; version=0.0.4; charset=utf-8')
      return figuresIn(await response.text())
    }
    expect(await figures()).to.deep.include({ it_tcp_connections_accepted_total: 0, it_tcp_gate_open: 1, it_tcp_connections: 0 })
    const client = await rawClient(scope, Number(port))
    client.end('hello')
    expect(String(await readToEnd(client))).to.equal('hello')
    const broken = await rawClient(scope, Number(port))
    broken.write('half')
    await once(broken.resume(), 'data')
    broken.resetAndDestroy()
    await until(async () => (await figures())['it_tcp_connections_closed_total{end="broken"}'] === 1, 'the reset is counted')
    await until(async () => (await figures())['it_tcp_connections_closed_total{end="orderly"}'] === 1, 'the end is counted')
    expect(await figures()).to.deep.include({
      it_tcp_connections_accepted_total: 2,
      'it_tcp_connections_ended_total{as="served"}': 2,
      'it_tcp_bytes_total{direction="in"}': 9,
      'it_tcp_bytes_total{direction="out"}': 9,
      it_tcp_connections: 0
    })
  })
})
