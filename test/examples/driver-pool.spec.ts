import { expect } from 'chai'
import { runExample } from '../helpers/examples.ts'
import { startPostgresOnPath } from '../helpers/postgres.ts'
import { closedPort } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'

describe('driver-pool', function () {
  this.timeout(60_000)
  const scope = useScope()

  it('asks a real server over as many connections as its pool may have, and ends', async function () {
    const path = await startPostgresOnPath(this, scope)
    const ask = (sql: string) => runExample('driver-pool', [sql, path])
    const { code, stdout, stderr } = await ask("select 'ä' || n, null from generate_series(1, 2) n")
    expect({ code, stderr }).to.deep.equal({ code: 0, stderr: '' })
    expect(stdout).to.equal('ä1 | \nä2 | \n9 answers over 3 connections\n')
    expect((await ask("select repeat('x', 1000000) from generate_series(1, 5)")).stdout.length).to.be.greaterThan(5_000_000)
    expect(await ask('select oops')).to.deep.include({ code: 1, stdout: '', stderr: 'column "oops" does not exist\n' })
  })

  it('tells who cannot be reached', async () => {
    const port = await closedPort()
    const { code, stderr } = await runExample('driver-pool', ['select 1', '127.0.0.1', String(port)])
    expect({ code, stderr }).to.deep.equal({ code: 1, stderr: `Cannot connect to 127.0.0.1:${port}: connection refused\n` })
  })
})
