import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync } from 'node:fs'
import type net from 'node:net'
import { join } from 'node:path'
import { expect } from 'chai'
import { duplicate, kernelGateAvailable } from '../../src/system/descriptors.ts'
import { handleOf } from '../../src/system/node-internals.ts'
import { needs, skipIf } from '../helpers/programs.ts'
import { closedPort, rawClient, rawServer, readToEnd, type Target } from '../helpers/raw.ts'
import { type Scope, useScope } from '../helpers/scope.ts'
import { until } from '../helpers/until.ts'

const INDEX = new URL('../../src/index.js', import.meta.url).href

interface Started {
  readonly stdout: string
  readonly stderr: string
  readonly code: number | null
}

describe('onInherited', () => {
  const scope = useScope()

  before(function () {
    needs(this, 'sh')
    skipIf(this, process.platform === 'win32' || !kernelGateAvailable(), 'needs koffi to make descriptors')
  })

  it('gives the only socket that there is, with and without its name', async () => {
    for (const name of ['', "'web'"]) {
      const [fd, port] = await listening(scope)
      const { stdout, stderr } = await start(
        [fd],
        { LISTEN_FDNAMES: 'web' },
        `
        const server = await Server.create(onInherited(${name}), ({ writer }) => writer.write('hello'))
        console.log(server.address.port)
        await server.close()
      `
      )
      expect(stdout, stderr).to.equal(`${port}\n`)
    }
  })

  it('gives the one that is asked for by its name, and serves it', async () => {
    const [first] = await listening(scope)
    const [second, port] = await listening(scope)
    const child = launch(
      [first, second],
      { LISTEN_FDNAMES: 'other:web' },
      `
      const server = await Server.create(onInherited('web'), ({ writer }) => writer.write('hello'))
      setTimeout(() => {}, 5_000).unref()
      process.on('SIGTERM', () => server.close())
    `
    )
    scope.defer(async () => {
      child.kill()
      await once(child, 'close')
    })
    closeSync(first)
    closeSync(second)
    const client = await rawClient(scope, port)
    expect((await readToEnd(client)).toString()).to.equal('hello')
  })

  it('gives each once: later calls give undefined', async () => {
    const [fd] = await listening(scope)
    const { stdout, stderr } = await start(
      [fd],
      { LISTEN_FDNAMES: 'web' },
      `
      const where = onInherited('web')
      console.log(where.target.fd, onInherited('web'), onInherited(), onInherited('other'))
    `
    )
    expect(stdout, stderr).to.equal('3 undefined undefined undefined\n')
  })

  it('gives those of one name one after the other', async () => {
    const fds = [await listening(scope), await listening(scope), await listening(scope)].map(([fd]) => fd)
    const { stdout, stderr } = await start(
      fds,
      { LISTEN_FDNAMES: 'web:admin:web' },
      `
      const given = ['web', 'web', 'web', 'admin'].map((name) => onInherited(name)?.target.fd)
      console.log(JSON.stringify(given))
    `
    )
    expect(stdout, stderr).to.equal('[3,5,null,4]\n')
  })

  it('without names they are called unknown, as systemd has it', async () => {
    const [fd] = await listening(scope)
    const { stdout } = await start([fd], {}, `console.log(onInherited('unknown').target.fd)`)
    expect(stdout).to.equal('3\n')
  })

  it('a name that is not there while others are is an error that lists them', async () => {
    const fds = [await listening(scope), await listening(scope)].map(([fd]) => fd)
    const { stdout } = await start(
      fds,
      { LISTEN_FDNAMES: 'web:admin' },
      `
      try { onInherited('smtp') } catch (error) { console.log(error.name + ': ' + error.message) }
    `
    )
    expect(stdout).to.equal(
      "RangeError: Cannot describe where to listen as 'name' must be that of an inherited socket: received 'smtp', there are 'web' (descriptor 3), 'admin' (descriptor 4)\n"
    )
  })

  it('no name with several is an error that lists them, and with one left gives that', async () => {
    const fds = [await listening(scope), await listening(scope)].map(([fd]) => fd)
    const { stdout } = await start(
      fds,
      { LISTEN_FDNAMES: 'web:admin' },
      `
      try { onInherited() } catch (error) { console.log(error.name + ': ' + error.message) }
      onInherited('web')
      console.log(onInherited().target.fd)
    `
    )
    expect(stdout).to.equal(
      "RangeError: Cannot describe where to listen as 'name' must tell which of the inherited sockets: there are 'web' (descriptor 3), 'admin' (descriptor 4)\n4\n"
    )
  })

  it('variables for another process are left alone', async () => {
    const [fd] = await listening(scope)
    const { stdout } = await start(
      [fd],
      { LISTEN_PID: '1' },
      `
      console.log(onInherited(), process.env.LISTEN_PID, process.env.LISTEN_FDS)
    `
    )
    expect(stdout).to.equal('undefined 1 1\n')
  })

  it('the first call takes the variables out of the environment', async () => {
    const [fd] = await listening(scope)
    const { stdout } = await start(
      [fd],
      { LISTEN_FDNAMES: 'web' },
      `
      onInherited()
      console.log(Object.keys(process.env).filter((name) => name.startsWith('LISTEN_')).length)
    `
    )
    expect(stdout).to.equal('0\n')
  })

  it('children inherit no descriptor', async function () {
    needs(this, 'ls')
    skipIf(this, process.platform !== 'linux', 'needs /proc')
    const fds: number[] = []
    for (let count = 0; count < 30; count++) fds.push((await listening(scope))[0])
    const { stdout, stderr } = await start(
      fds,
      {},
      `
      import { execFileSync } from 'node:child_process'
      onInherited.length
      try { onInherited() } catch {}
console.log(execFileSync('ls', ['-l', '/proc/self/fd'], { stdio: ['ignore', 'pipe', 'ignore'] }).toString().split('socket:').length - 1)
    `
    )
    // Its standard output.
    expect(stdout, stderr).to.equal('1\n')
  })

  for (const [variable, value] of [
    ['LISTEN_FDS', 'two'],
    ['LISTEN_FDS', '0'],
    ['LISTEN_FDS', '-1'],
    ['LISTEN_FDNAMES', 'a:b']
  ]) {
    it(`${variable}=${value} is an error that says so`, async () => {
      const [fd] = await listening(scope)
      const { stdout } = await start(
        [fd],
        { [variable as string]: value as string },
        `
        try { onInherited() } catch (error) { console.log(error.name + ': ' + error.message) }
      `
      )
      expect(stdout).to.match(new RegExp(`^RangeError: Cannot describe where to listen as ${variable} must .*: received '${value}'\n$`))
    })
  }

  it('worker threads are given none', async () => {
    const [fd] = await listening(scope)
    const { stdout, stderr } = await start(
      [fd],
      {},
      `
      import { Worker } from 'node:worker_threads'
      import { once } from 'node:events'
      const worker = new Worker(\`Promise.all([import('${INDEX}'), import('node:worker_threads')]).then(([{ onInherited }, { parentPort }]) => parentPort.postMessage(onInherited() === undefined))\`, { eval: true })
      console.log((await once(worker, 'message'))[0], onInherited().target.fd)
    `
    )
    expect(stdout, stderr).to.equal('true 3\n')
  })

  it('serves what systemd-socket-activate hands over, by name, over TCP and a unix socket', async function () {
    needs(this, 'systemd-socket-activate')
    const port = await closedPort()
    const path = join(scope.tempDir(), 's')
    const program = `
      import { onInherited, Server } from '${INDEX}'
      for (const name of ['web', 'local']) await Server.create(onInherited(name), ({ writer }) => writer.write(name))
    `
    const args = [
      `--listen=127.0.0.1:${port}`,
      `--listen=${path}`,
      '--fdname=web:local',
      process.execPath,
      '--input-type=module',
      '-e',
      program
    ]
    const child = spawn('systemd-socket-activate', args, { stdio: 'ignore', env: { ...process.env, NODE_OPTIONS: '' } })
    scope.defer(async () => {
      child.kill('SIGKILL')
      await once(child, 'exit')
    })
    // It listens some time after its start, and starts the program with the first client.
    for (const [target, name] of [
      [port, 'web'],
      [path, 'local']
    ] as const) {
      let client: net.Socket | undefined
      await until(async () => {
        client = await rawClient(scope, target).catch(() => undefined)
        return client !== undefined
      })
      expect((await readToEnd(client as net.Socket)).toString()).to.equal(name)
    }
  })
})

/** A listening descriptor that no handle owns, and its port. */
async function listening(scope: Scope): Promise<[fd: number, target: Target]> {
  const { server, target } = await rawServer(scope)
  const fd = duplicate(handleOf(server)?.fd ?? -1)
  await new Promise((resolve) => server.close(resolve))
  scope.defer(() => {
    try {
      closeSync(fd)
    } catch {
      // By the test.
    }
  })
  return [fd, target]
}

/** Starts a program as systemd does: from descriptor 3 on, and with the number of the very process. */
function launch(fds: readonly number[], env: Record<string, string>, program: string): ReturnType<typeof spawn> {
  const text = `import { onInherited, Server } from '${INDEX}'\n${program}`
  return spawn(
    'sh',
    ['-c', 'test -n "$LISTEN_PID" || export LISTEN_PID=$$; exec "$NODE" --no-warnings --input-type=module -e "$PROGRAM"'],
    {
      stdio: ['ignore', 'pipe', 'pipe', ...fds],
      env: { PATH: process.env.PATH, LISTEN_FDS: String(fds.length), ...env, NODE: process.execPath, PROGRAM: text }
    }
  )
}

async function start(fds: readonly number[], env: Record<string, string>, program: string): Promise<Started> {
  const child = launch(fds, env, program)
  let stdout = ''
  let stderr = ''
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text))
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const [code] = (await once(child, 'close')) as [number | null]
  return { stdout, stderr, code }
}
