import { request } from 'node:http'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { expect } from 'chai'
import { type Listening, runCommand, startListening, written } from '../helpers/command.ts'
import { skipIf } from '../helpers/programs.ts'
import { figuresIn } from '../helpers/prometheus.ts'
import { closedPort, rawClient, rawServer, readToEnd } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'
import { CAN_GATE_IN_KERNEL, closed } from '../helpers/settings.ts'
import { until } from '../helpers/until.ts'

describe('it-tcp forward --metrics', function () {
  this.timeout(20_000)
  const scope = useScope()

  it('says where on standard error, and counts who was served, turned away and failed, and the bytes', async () => {
    const upstream = await rawServer(scope)
    const running = await forward(upstream.target, '--max-connections-per-address', '1', '--allow', '127.0.0.0/8')
    const client = await rawClient(scope, running.target)
    const server = await upstream.accept()
    const second = createConnection({ port: running.target as number, host: '127.0.0.1' }).on('error', () => {})
    await closed(second.resume())
    await until(async () => (await figures(running))['it_tcp_connections_turned_away_total{reason="per_address"}'] === 1)
    expect(await figures(running)).to.deep.include({
      it_tcp_connections_accepted_total: 2,
      it_tcp_connections_served_total: 1,
      it_tcp_connections_dropped_total: 0,
      'it_tcp_connections_turned_away_total{reason="admit"}': 0,
      'it_tcp_connections_turned_away_total{reason="proxy_header"}': 0,
      'it_tcp_connections_turned_away_total{reason="handshake"}': 0,
      it_tcp_connections: 1
    })
    client.end('question')
    server.end('answer!')
    await Promise.all([readToEnd(client), readToEnd(server)])
    await until(async () => (await figures(running))['it_tcp_connections_finished_total{end="orderly"}'] === 1)
    const last = await figures(running)
    expect(last).to.deep.include({ it_tcp_bytes_total: 15, it_tcp_connections: 0, 'it_tcp_connections_finished_total{end="failed"}': 0 })
    running.child.kill('SIGTERM')
    expect(await running.exit).to.equal(0)
  })

  it('has the limit, and how many wait in the queue', async function () {
    skipIf(this, !CAN_GATE_IN_KERNEL || process.platform !== 'linux', 'needs the kernel gate, on Linux')
    const upstream = await rawServer(scope)
    const running = await forward(upstream.target, '--max-connections', '1')
    for (let client = 0; client < 4; client++) await rawClient(scope, running.target)
    await until(async () => (await figures(running)).it_tcp_connections === 1)
    expect(await figures(running)).to.deep.include({ it_tcp_connections_limit: 1, it_tcp_connections_waiting: 3 })
  })

  it('counts those whom --drop drops as dropped, and not as served', async () => {
    const upstream = await rawServer(scope)
    const running = await forward(upstream.target, '--max-connections', '1', '--drop')
    await rawClient(scope, running.target)
    await upstream.accept()
    const second = createConnection({ port: running.target as number, host: '127.0.0.1' }).on('error', () => {})
    await closed(second.resume())
    await until(async () => (await figures(running)).it_tcp_connections_dropped_total === 1)
    expect(await figures(running)).to.deep.include({ it_tcp_connections_accepted_total: 2, it_tcp_connections_served_total: 1 })
  })

  it('is served on a unix socket too, stays until the last client has left, and takes nobody’s place', async () => {
    const upstream = await rawServer(scope)
    const path = join(scope.tempDir(), 'metrics')
    const running = await startListening(scope, ['forward', '127.0.0.1:0', written(upstream.target), '--metrics', path])
    expect(running.stderr).to.contain(`it-tcp: metrics on ${path}, at /metrics\n`)
    const client = await rawClient(scope, running.target)
    const server = await upstream.accept()
    running.child.kill('SIGTERM')
    await until(() => running.stderr.includes('stopping'), 'it stops')
    expect(await figures(running, path)).to.deep.include({ it_tcp_connections: 1, it_tcp_connections_accepted_total: 1 })
    client.end()
    server.end()
    expect(await running.exit).to.equal(0)
  })

  it('answers nothing else, and no other method', async () => {
    const running = await forward(1)
    const where = placeOf(running)
    expect((await get(where, '/metrics?x=1')).status).to.equal(200)
    expect((await get(where, '/metrics')).type).to.equal('text/plain; version=0.0.4; charset=utf-8')
    expect([(await get(where, '/')).status, (await get(where, '/metrics', 'POST')).status]).to.deep.equal([404, 405])
  })

  it('an address that is taken ends the command', async () => {
    const taken = await rawServer(scope)
    const { code, stderr } = await runCommand(['forward', `127.0.0.1:${await closedPort()}`, '1', '--metrics', written(taken.target)])
    expect([code, stderr]).to.deep.equal([1, `it-tcp: port in use: ${taken.target}\n`])
  })

  async function forward(target: number | string, ...options: readonly string[]): Promise<Listening> {
    return await startListening(scope, ['forward', '127.0.0.1:0', written(target), '--metrics', '127.0.0.1:0', ...options])
  }
})

function placeOf(running: Listening): number {
  return Number(/^it-tcp: metrics on 127\.0\.0\.1:(\d+), at \/metrics$/m.exec(running.stderr)?.[1])
}

async function figures(running: Listening, where: number | string = placeOf(running)): Promise<Record<string, number>> {
  const { status, body } = await get(where, '/metrics')
  expect(status).to.equal(200)
  return figuresIn(body)
}

interface Answer {
  readonly status: number | undefined
  readonly type: string | undefined
  readonly body: string
}

function get(where: number | string, path: string, method = 'GET'): Promise<Answer> {
  const place = typeof where === 'number' ? { host: '127.0.0.1', port: where } : { socketPath: where }
  return new Promise((resolve, reject) => {
    const asked = request({ ...place, path, method, agent: false }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (text: string) => {
        body += text
      })
      response.on('end', () => resolve({ status: response.statusCode, type: response.headers['content-type'], body }))
    })
    asked.on('error', reject).end()
  })
}
