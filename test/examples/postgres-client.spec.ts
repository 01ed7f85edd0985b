import { join } from 'node:path'
import { expect } from 'chai'
import { onPort, Server } from '../../src/index.ts'
import { type Certificates, useCertificates } from '../helpers/certificates.ts'
import { runExample } from '../helpers/examples.ts'
import { PASSWORD, startPostgres } from '../helpers/postgres.ts'
import { run } from '../helpers/programs.ts'
import { useScope } from '../helpers/scope.ts'

const HOST = '127.0.0.1'

describe('postgres-client', function () {
  this.timeout(60_000)
  const scope = useScope()
  let made: Certificates

  before(function () {
    made = useCertificates(this)
  })

  const file = (name: string): string => join(made.directory, name)

  it('asks a real server over verified TLS; a wrong name, authority or password is told', async function () {
    const { port } = await startPostgres(this, scope, file('a.pem'), file('a.key'))
    const env = { ...process.env, PGPASSWORD: PASSWORD }
    const ask = (sql: string, ca = file('ca.pem'), more: NodeJS.ProcessEnv = env) =>
      runExample('postgres-client', [sql, HOST, String(port), ca], { env: more })
    const sql = "select ssl, version, 'ä' || null, n from pg_stat_ssl, generate_series(1, 3) n where pid = pg_backend_pid()"
    const { code, stdout, stderr } = await ask(sql)
    expect(code, stderr).to.equal(0)
    expect(stdout).to.match(/^TLSv1\.3, TLS_\w+\n(?:t \| TLSv1\.3 \| null \| [123]\n){3}$/)
    const large = await ask("select repeat('x', 3000000)")
    expect(large.stdout.length).to.be.greaterThan(3_000_000)

    const distrusted = await ask(sql, file('strangers-ca.pem'))
    expect(distrusted).to.deep.include({ code: 1, stdout: '' })
    expect(distrusted.stderr).to.match(/certificate|verif/i)
    expect((await ask(sql, file('ca.pem'), { ...env, PGPASSWORD: 'wrong' })).stderr).to.match(/password authentication failed/)
    // What psql says to the same server.
    const conninfo = `host=${HOST} port=${port} user=postgres dbname=postgres sslmode=verify-full sslrootcert=${file('ca.pem')}`
    expect((await run('psql', ['-Atc', 'select 42', conninfo], { env })).stdout).to.equal('42\n')
  })

  it('tells a server that has no TLS', async () => {
    const server = await Server.create(onPort(0, { host: HOST }), async ({ reader, writer }) => {
      await reader.readExactly(8)
      writer.write('N')
    })
    scope.defer(() => server.close({ closeExistingConnections: true }))
    const { code, stderr } = await runExample('postgres-client', ['select 1', HOST, String(server.listeningOn)])
    expect({ code, stderr }).to.deep.equal({ code: 1, stderr: 'The server does not offer TLS\n' })
  })
})
