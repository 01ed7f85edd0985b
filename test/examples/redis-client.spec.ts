import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { expect } from 'chai'
import { runExample } from '../helpers/examples.ts'
import { needs, run } from '../helpers/programs.ts'
import { closedPort, rawServer } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'

describe('redis-client', function () {
  this.timeout(30_000)
  const scope = useScope()

  /** Starts a Redis on a unix socket, and on the port, that keeps nothing; undefined if it can't. */
  async function startRedis(port = 0): Promise<string | undefined> {
    const path = join(scope.tempDir(), 's')
    const child = spawn('redis-server', ['--bind', '127.0.0.1', '--port', String(port), '--unixsocket', path, '--save', ''])
    const exited = once(child, 'close')
    scope.defer(() => {
      child.kill('SIGKILL')
      return exited
    })
    for await (const line of createInterface({ input: child.stdout })) {
      if (!line.includes('eady to accept connections')) continue
      child.stdout.resume()
      return path
    }
    return undefined
  }

  describe('with a real Redis', () => {
    before(function () {
      needs(this, 'redis-server', 'redis-cli')
    })

    it('gets replies of every type, and leaves nothing behind', async () => {
      const path = (await startRedis()) as string
      const { code, stdout, stderr } = await runExample('redis-client', [path])
      expect({ code, stderr }, stdout).to.deep.equal({ code: 0, stderr: '' })
      expect(stdout).to.equal(
        [
          'OK',
          'hello,\r\nwörld',
          'ERR value is not an integer or out of range',
          '2',
          "[ 'two', 'one' ]",
          'null',
          '10000 times counted in one go, up to 10000',
          '3 keys removed\n'
        ].join('\n')
      )
      expect(await runExample('redis-client', [path, 'DBSIZE'])).to.deep.include({ code: 0, stdout: '0\n' })
    })

    it('sends a command from the command line over TCP, and says what Redis refuses', async () => {
      let [port, path]: [number, string | undefined] = [0, undefined]
      // Somebody else may take the port before Redis does.
      while (path === undefined) {
        port = await closedPort()
        path = await startRedis(port)
      }
      expect(await runExample('redis-client', [String(port), 'SET', 'key', 'ä\n$5'])).to.deep.include({ code: 0, stdout: 'OK\n' })
      // What another client makes of it.
      expect((await run('redis-cli', ['-s', path, '--no-raw', 'GET', 'key'])).stdout).to.equal('"\\xc3\\xa4\\n$5"\n')
      expect(await runExample('redis-client', [String(port), 'GET', 'key'])).to.deep.include({ code: 0, stdout: 'ä\n$5\n' })
      const refused = await runExample('redis-client', [String(port), 'GET'])
      expect(refused).to.deep.equal({ code: 1, signal: null, stdout: '', stderr: "ERR wrong number of arguments for 'get' command\n" })
    })

    it('reads replies within replies, among them errors and nothing', async () => {
      const path = (await startRedis()) as string
      const script = "return {1, {'two', redis.error_reply('THREE'), false}, {}}"
      const { code, stdout } = await runExample('redis-client', [path, 'EVAL', script, '0'])
      expect(code).to.equal(0)
      expect(stdout).to.match(/^\[\s*1,\s*\[\s*'two',\s*RedisError: (?:ERR )?THREE.*null\s*\],\s*\[\]\s*\]\n$/s)
    })
  })

  it('says in one line that nobody listens', async () => {
    const path = join(scope.tempDir(), 's')
    const { code, stderr } = await runExample('redis-client', [path])
    expect({ code, stderr }).to.deep.equal({ code: 1, stderr: `Cannot connect to ${path}: no such file or directory\n` })
  })

  for (const [reply, words] of [
    ['$10\r\nhello', /^Cannot read 12 bytes as the stream ended after 5\n$/],
    ['$10\r\n', /^Redis has closed the connection\n$/],
    ['', /^Redis has closed the connection\n$/],
    ['HTTP/1.0 400 Bad Request\r\n', /^Redis does not talk like that: HTTP\/1\.0 400 Bad Request\n$/]
  ] as const) {
    it(`fails, and does not hang, when all that comes is ${JSON.stringify(reply)}`, async () => {
      const server = await rawServer(scope, join(scope.tempDir(), 's'))
      const running = runExample('redis-client', [String(server.target), 'PING'])
      const socket = await server.accept()
      await once(socket.resume(), 'data')
      socket.end(reply)
      const { code, stdout, stderr } = await running
      expect({ code, stdout }).to.deep.equal({ code: 1, stdout: '' })
      expect(stderr).to.match(words)
    })
  }

  it('fails all commands that wait when a reply makes no sense, and ends', async () => {
    const server = await rawServer(scope, join(scope.tempDir(), 's'))
    const running = runExample('redis-client', [String(server.target)])
    const socket = await server.accept()
    await once(socket.resume(), 'data')
    socket.write('?\r\n')
    const { code, signal, stderr } = await running
    expect({ code, signal, stderr }).to.deep.equal({ code: 1, signal: null, stderr: 'Redis does not talk like that: ?\n' })
  })
})
