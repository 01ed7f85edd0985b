import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { linesOf } from './helpers/examples.ts'
import { needs, run, skipIf } from './helpers/programs.ts'
import { rawClient, readToEnd } from './helpers/raw.ts'
import { useScope } from './helpers/scope.ts'

const INDEX = new URL('../src/index.js', import.meta.url).href
const GUIDE = join('docs', 'guides', 'running-under-systemd.md')

describe('a program as a service', () => {
  const scope = useScope()

  it('has units in the guide that systemd understands', async function () {
    needs(this, 'systemd-analyze')
    const dir = scope.tempDir()
    const units = [...readFileSync(GUIDE, 'utf8').matchAll(/```ini\n# \/etc\/systemd\/system\/(\S+)\n(.*?)```/gs)]
    expect(units.map(([, name]) => name)).to.deep.equal(['app.socket', 'app.service'])
    for (const [, name = '', text = ''] of units) writeFileSync(join(dir, name), text.replace('/usr/bin/node', '/bin/true'))
    const files = units.map(([, name]) => join(dir, name as string))
    const { code, stderr } = await run('systemd-analyze', ['verify', ...files], {
      env: { ...process.env, SYSTEMD_UNIT_PATH: `${dir}:` }
    })
    expect(stderr.split('\n').filter((line) => line.includes(dir) || /app\.(?:socket|service)/.test(line))).to.deep.equal([])
    expect(code, stderr).to.equal(0)
  })

  describe('as PID 1', () => {
    before(function () {
      needs(this, 'unshare', 'sh')
      skipIf(this, spawnSync('unshare', ['--pid', '--fork', 'true']).status !== 0, 'needs the right to unshare --pid')
    })

    /** Starts a program as the first process of a PID namespace; gives its number outside once it has printed a line. */
    const start = async (program: string, env = {}) => {
      const child = spawn('unshare', ['--pid', '--fork', '--kill-child', process.execPath, '--input-type=module', '-e', program], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: { ...process.env, NODE_OPTIONS: '', ...env }
      })
      const exited = once(child, 'close')
      scope.defer(async () => {
        child.kill('SIGKILL')
        await exited
      })
      const line = linesOf(child.stdout)
      const first = await line()
      const pid = Number(readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8'))
      return { line, first, pid, exited }
    }

    it('ends in order on SIGTERM: new clients are refused, one that is being served finishes', async () => {
      const { line, first, pid, exited } = await start(`
        import { once } from 'node:events'
        import { onPort, Server } from '${INDEX}'
        const server = await Server.create(onPort(0, { host: '127.0.0.1' }), async ({ reader, writer }) => {
          writer.write('hello\\n')
          writer.write(await reader.readLine() + '\\n')
        })
        console.log(process.pid, server.listeningOn)
        await once(process, 'SIGTERM')
        await server.close({ forceAfter: 5_000 })
        console.log('closed')
        await server.finished
        console.log('finished')
      `)
      const [inside, port] = (first as string).split(' ').map(Number)
      expect(inside).to.equal(1)
      const client = await rawClient(scope, port as number)
      const answer = readToEnd(client)
      await once(client, 'data')
      process.kill(pid, 'SIGTERM')
      expect(await line()).to.equal('closed')
      client.end('bye\n')
      expect(String(await answer)).to.equal('hello\nbye\n')
      expect(await line()).to.equal('finished')
      expect((await exited)[0]).to.equal(0)
    })

    it('within the ten seconds of docker stop it has cut off whoever stays, and is gone by itself', async () => {
      const { line, first, pid, exited } = await start(`
        import { once } from 'node:events'
        import { onPort, Server } from '${INDEX}'
        const server = await Server.create(onPort(0, { host: '127.0.0.1' }), async ({ reader, writer }) => {
          writer.write('hello\\n')
          await reader.discard()
        })
        console.log(server.listeningOn)
        await once(process, 'SIGTERM')
        await server.close({ forceAfter: 500 })
        await server.finished
        console.log('finished')
      `)
      const client = await rawClient(scope, Number(first))
      await once(client.resume(), 'data')
      const cutOff = once(client, 'error')
      const begin = performance.now()
      process.kill(pid, 'SIGTERM')
      expect((await cutOff)[0]).to.have.property('code', 'ECONNRESET')
      expect(await line()).to.equal('finished')
      expect((await exited)[0]).to.equal(0)
      expect(performance.now() - begin).to.be.within(500, 10_000)
    })

    it('without a listener for SIGTERM it stays, until docker kills it', async () => {
      const { first, pid, exited } = await start(`
        import { onPort, Server } from '${INDEX}'
        const server = await Server.create(onPort(0, { host: '127.0.0.1' }), ({ writer }) => writer.write('hello\\n'))
        console.log(server.listeningOn)
      `)
      process.kill(pid, 'SIGTERM')
      // It serves on.
      expect(String(await readToEnd(await rawClient(scope, Number(first))))).to.equal('hello\n')
      process.kill(pid, 'SIGKILL')
      expect((await exited)[0]).not.to.equal(0)
    })

    it('is given what was inherited, as its own number says', async function () {
      skipIf(this, process.platform !== 'linux', 'needs /proc')
      const program = `
        import { onInherited } from '${INDEX}'
        console.log(process.pid, onInherited('web')?.target.fd)
      `
      const { first } = await start(program, { LISTEN_PID: '1', LISTEN_FDS: '1', LISTEN_FDNAMES: 'web' })
      expect(first).to.equal('1 3')
    })
  })
})
