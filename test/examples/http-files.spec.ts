import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  truncateSync,
  writeFileSync
} from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { expect } from 'chai'
import { type RunningServer, runExample, useExamples } from '../helpers/examples.ts'
import { needs, run, skipIf } from '../helpers/programs.ts'
import { readToEnd } from '../helpers/raw.ts'
import { useScope } from '../helpers/scope.ts'
import { closed } from '../helpers/settings.ts'
import { until } from '../helpers/until.ts'

describe('http-files', function () {
  this.timeout(30_000)
  const scope = useScope()
  const { startServer } = useExamples(scope)

  /** A directory to serve, beside which there is a secret. */
  function site(): string {
    const root = join(scope.tempDir(), 'site')
    mkdirSync(join(root, 'sub'), { recursive: true })
    writeFileSync(join(root, 'index.html'), '<h1>Hello</h1>')
    writeFileSync(join(root, 'a file & ä.txt'), 'text\n')
    writeFileSync(join(root, 'empty'), '')
    writeFileSync(join(root, 'sub', 'data'), 'data')
    writeFileSync(join(root, '..x'), 'dots')
    writeFileSync(join(dirname(root), 'secret'), 'SECRET')
    // What only begins like the directory's name is not in it.
    mkdirSync(`${root}-other`)
    writeFileSync(join(`${root}-other`, 'secret'), 'SECRET')
    return root
  }

  interface Answer {
    readonly status: number
    readonly headers: ReadonlyMap<string, string>
    readonly body: Buffer
  }

  async function ask(server: RunningServer, request: string | Uint8Array): Promise<Answer> {
    const socket = await server.connect()
    socket.write(request)
    const answer = await readToEnd(socket)
    socket.end()
    return parse(answer)
  }

  const get = (server: RunningServer, target: string, method = 'GET'): Promise<Answer> =>
    ask(server, `${method} ${target} HTTP/1.0\r\nHost: localhost\r\n\r\n`)

  it('asks itself for some files without arguments, and ends', async () => {
    const { code, stdout, stderr } = await runExample('http-files', [])
    expect({ code, stderr }, stdout).to.deep.equal({ code: 0, stderr: '' })
    expect(stdout.split('\n').slice(1)).to.deep.equal([
      'GET /http-files.js: HTTP/1.0 200 OK, then a body',
      'HEAD /http-files.js: HTTP/1.0 200 OK, then nothing',
      'GET /%2e%2e/secret: HTTP/1.0 403 Forbidden, then a body',
      'GET /missing: HTTP/1.0 404 Not Found, then a body',
      'DELETE /http-files.js: HTTP/1.0 405 Method Not Allowed, then a body',
      ''
    ])
  })

  it('serves files with their length and type, and HEAD the same without a body', async () => {
    const server = await startServer('http-files', site(), '0')
    for (const [target, type, body] of [
      ['/', 'text/html; charset=utf-8', '<h1>Hello</h1>'],
      ['/index.html?query#fragment', 'text/html; charset=utf-8', '<h1>Hello</h1>'],
      ['/a%20file%20%26%20%C3%A4.txt', 'text/plain; charset=utf-8', 'text\n'],
      ['/sub/%2e/%2E%2fdata', 'application/octet-stream', 'data'],
      ['/empty', 'application/octet-stream', ''],
      ['/..x', 'application/octet-stream', 'dots']
    ] as const) {
      const answer = await get(server, target)
      expect(answer.status, target).to.equal(200)
      expect(`${answer.body}`).to.equal(body)
      expect(answer.headers.get('content-type')).to.equal(type)
      expect(answer.headers.get('content-length')).to.equal(String(body.length))
      const head = await get(server, target, 'HEAD')
      expect(head.headers.get('content-length')).to.equal(String(body.length))
      expect(head.body).to.have.lengthOf(0)
    }
    server.signal('SIGINT')
    expect(await server.exit).to.deep.equal({ code: 0, signal: null })
    expect(server.complaints()).to.equal('')
  })

  it('lets nobody out of its directory', async () => {
    const root = site()
    symlinkSync(join('..', 'secret'), join(root, 'link'))
    symlinkSync(join('..', 'site-other', 'secret'), join(root, 'near'))
    symlinkSync('..', join(root, 'up'))
    symlinkSync('index.html', join(root, 'inside'))
    const server = await startServer('http-files', root, '0')
    for (const target of [
      '/../secret',
      '/../site-other/secret',
      '/sub/../../secret',
      '/%2e%2e/secret',
      '/%2E%2E%2Fsecret',
      '/..%2fsecret',
      '/sub/..%5c..%5csecret',
      '/..\\secret',
      '/link',
      '/near',
      '/up/secret',
      '/..'
    ]) {
      const { status, body } = await get(server, target)
      expect({ status, body: `${body}` }, target).to.deep.equal({ status: 403, body: '403 Forbidden\n' })
    }
    for (const target of [
      '//secret',
      '/.../secret',
      '/%252e%252e/secret',
      '/sub',
      '/sub/',
      '/empty/',
      '/index.html/x',
      `/${'x'.repeat(5_000)}`
    ]) {
      expect((await get(server, target)).status, target.slice(0, 50)).to.equal(404)
    }
    for (const target of ['/%', '/%zz', '/%c0%ae%c0%ae/secret', '/%ff', '/secret%00.txt']) {
      expect((await get(server, target)).status, target).to.equal(400)
    }
    expect(`${(await get(server, '/inside')).body}`).to.equal('<h1>Hello</h1>')
  })

  it('refuses what is no request, and methods that it does not know', async () => {
    const server = await startServer('http-files', site(), '0')
    for (const request of [
      'GET /\r\n\r\n',
      'GET  / HTTP/1.0\r\n\r\n',
      'get / HTTP/1.0\r\n\r\n',
      'GET index.html HTTP/1.0\r\n\r\n',
      'GET / HTTP/2.0\r\n\r\n',
      '\r\n\r\n',
      '\x16\x03\x01\x02\x00\x01\n\n'
    ]) {
      expect((await ask(server, request)).status, JSON.stringify(request)).to.equal(400)
    }
    const refused = await ask(server, `POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n${'x'.repeat(1_000_000)}`)
    expect(refused.status).to.equal(405)
    expect(refused.headers.get('allow')).to.equal('GET, HEAD')
    // The head ends too early.
    const half = await server.connect()
    half.end('GET / HTTP/1.0\r\nHost: x\r\n')
    expect(parse(await readToEnd(half)).status).to.equal(400)
    // Nothing at all is no request, and gets no answer.
    const silent = await server.connect()
    silent.end()
    expect(await readToEnd(silent)).to.have.lengthOf(0)
    expect(server.complaints()).to.equal('')
  })

  it('reads no more than 32 KB of headers, in one line or in many', async () => {
    const server = await startServer('http-files', site(), '0')
    const many = `GET / HTTP/1.0\r\n${'X-Header: 1234567890\r\n'.repeat(100_000)}\r\n`
    const long = `GET / HTTP/1.0\r\nX-Header: ${'x'.repeat(1_000_000)}`
    for (const request of [many, long, 'x'.repeat(1_000_000)]) expect((await ask(server, request)).status).to.equal(431)
    const enough = `GET / HTTP/1.0\r\n${'X-Header: 1234567890\r\n'.repeat(1_000)}\r\n`
    expect((await ask(server, enough)).status).to.equal(200)
  })

  it('gives a client the time of one head, however it spends it', async () => {
    const server = await startServer('http-files', site(), '0', '300')
    const [silent, slow] = [await server.connect(), await server.connect()]
    // A header now and then: each of them comes in time, all together do not.
    slow.write('GET / HTTP/1.0\r\n')
    const timer = setInterval(() => slow.write('X: y\r\n'), 20)
    scope.defer(() => clearInterval(timer))
    for (const socket of [silent, slow]) expect(parse(await readToEnd(socket)).status).to.equal(408)
    expect((await get(server, '/')).status).to.equal(200)
    expect(server.complaints()).to.equal('')
  })

  it('reads a file only as fast as its client, and closes it when the client leaves', async function () {
    skipIf(this, process.platform !== 'linux', 'needs /proc')
    const root = site()
    writeFileSync(join(root, 'large'), '')
    truncateSync(join(root, 'large'), 200_000_000)
    const server = await startServer('http-files', root, '0')
    const bytesRead = (): number => Number(/^rchar: (\d+)$/m.exec(readFileSync(`/proc/${server.pid}/io`, 'latin1'))?.[1])
    const hasFile = (): boolean => openFiles(server.pid).some((path) => path.endsWith('/large'))
    const socket = await server.connect()
    socket.write('GET /large HTTP/1.0\r\n\r\n')
    await once(socket.resume(), 'data')
    socket.pause()
    // Until nothing more is read for a while.
    let before = -1
    for (let now = bytesRead(); now !== before; now = bytesRead()) {
      before = now
      await setTimeout(100)
    }
    expect(before).to.be.lessThan(50_000_000)
    expect(hasFile()).to.equal(true)
    socket.resetAndDestroy()
    await closed(socket)
    await until(() => !hasFile())
    // Nothing that the server stops for, but worth a line.
    await until(() => /^The connection with \S+ broke: [^\n]+\n$/.test(server.complaints()))
    expect((await get(server, '/large')).body).to.have.lengthOf(200_000_000)
    await until(() => !hasFile())
  })

  it('resets the connection when the file becomes shorter than it said', async () => {
    const root = site()
    const path = join(root, 'shrinking')
    writeFileSync(path, '')
    truncateSync(path, 50_000_000)
    const server = await startServer('http-files', root, '0')
    const socket = await server.connect()
    const failure = once(socket, 'error')
    socket.write('GET /shrinking HTTP/1.0\r\n\r\n')
    await once(socket.resume(), 'data')
    socket.pause()
    truncateSync(path, 10)
    socket.on('end', () => socket.write('hello?')).resume()
    expect((await failure)[0].code).to.be.oneOf(['ECONNRESET', 'EPIPE'])
    expect(socket.bytesRead).to.be.lessThan(50_000_000)
    await until(() => /^The file had 50000000 bytes and now has \d+\n$/.test(server.complaints()))
    appendFileSync(path, 'x')
    expect((await get(server, '/shrinking')).body).to.have.lengthOf(11)
  })

  it('serves no named pipe, and does not wait for one', async function () {
    needs(this, 'mkfifo')
    const root = site()
    const server = await startServer('http-files', root, '0')
    expect((await run('mkfifo', [join(root, 'pipe')])).code).to.equal(0)
    expect((await get(server, '/pipe')).status).to.equal(404)
  })

  it('answers 403 for what it may not read', async function () {
    skipIf(this, process.getuid?.() === 0, 'root may read everything')
    const root = site()
    const server = await startServer('http-files', root, '0')
    chmodSync(join(root, 'empty'), 0o000)
    expect((await get(server, '/empty')).status).to.equal(403)
  })

  describe('with curl', () => {
    before(function () {
      needs(this, 'curl')
    })

    it('gives whole files to several curls at once', async () => {
      const root = site()
      const bytes = randomBytes(5_000_000)
      writeFileSync(join(root, 'large'), bytes)
      const server = await startServer('http-files', root, '0')
      const out = scope.tempDir()
      const files = Array.from({ length: 5 }, (_, i) => join(out, String(i)))
      const url = `http://127.0.0.1:${server.port}`
      const finished = await Promise.all(files.map((file) => run('curl', ['-sS', '--fail', '-o', file, `${url}/large`])))
      for (const { code, stderr } of finished) expect({ code, stderr }).to.deep.equal({ code: 0, stderr: '' })
      for (const file of files) expect(readFileSync(file).equals(bytes)).to.equal(true)

      const status = async (...args: string[]): Promise<string> =>
        (await run('curl', ['-sS', '-o', '/dev/null', '-w', '%{http_code}', ...args])).stdout
      expect(await status('--head', `${url}/large`)).to.equal('200')
      expect(await status(`${url}/missing`)).to.equal('404')
      expect(await status('--path-as-is', `${url}/../secret`)).to.equal('403')
      expect(await status('--data', 'x=y', url)).to.equal('405')
      expect(await status('-H', `X: ${'x'.repeat(50_000)}`, url)).to.equal('431')
    })
  })
})

function openFiles(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`)
    } catch {
      return []
    }
  })
}

function parse(answer: Buffer): { status: number; headers: ReadonlyMap<string, string>; body: Buffer } {
  const end = answer.indexOf('\r\n\r\n')
  const [first, ...lines] = answer.toString('latin1', 0, end).split('\r\n')
  const status = Number(/^HTTP\/1\.0 (\d{3}) [A-Z][A-Za-z ]+$/.exec(first ?? '')?.[1])
  const headers = new Map(lines.map((line) => line.split(': ') as [string, string]).map(([name, value]) => [name.toLowerCase(), value]))
  const body = answer.subarray(end + 4)
  return { status, headers, body }
}
