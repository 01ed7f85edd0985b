import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { basename, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { expect } from 'chai'
import { linesOf, runExample, useExamples } from './helpers/examples.ts'
import { closedPort, rawServer, readToEnd } from './helpers/raw.ts'
import { useScope } from './helpers/scope.ts'

// The programs are spoken to from outside: as processes, and over plain node:net sockets.

// Programs of more than one screen.
const LONG = ['chat', 'digest', 'http-files', 'postgres-client', 'redis-client', 'starttls-smtp']

// Those with a spec of their own are in the directory beside this file.
const tested = new Set(readdirSync(join('test', 'examples')).map((file) => basename(file, '.spec.ts')))
const files = readdirSync('examples').filter((file) => file.endsWith('.ts'))

describe('examples/README.md', () => {
  const table =
    readFileSync(join('examples', 'README.md'), 'utf8')
      .match(/^\|.*$/gm)
      ?.slice(2) ?? []

  it('has a row for each program, with how to run it, and no other', () => {
    const rows = table.map((row) => [/\]\(([\w-]+\.ts)\)/.exec(row)?.[1], /npm start|node dist\/examples\/([\w-]+)\.js/.exec(row)?.[0]])
    const expected = files.map((file) => [file, file === 'digest.ts' ? 'npm start' : `node dist/examples/${basename(file, '.ts')}.js`])
    expect(rows).to.have.deep.members(expected)
  })
})

for (const file of files) {
  const name = basename(file, '.ts')
  const program = readFileSync(join('examples', file), 'utf8')

  describe(`examples/${file}`, () => {
    it('says at its head what it shows and how to run it', () => {
      const head = /^(?:\/\/.*\n)+/.exec(program)?.[0] ?? ''
      expect(head).to.match(/^\/\/ Shows [^\n]+\.\n\/\/ Run it: /)
      expect(head).to.contain(name === 'digest' ? 'npm start -- FILE' : `npm run build && node dist/examples/${name}.js`)
    })

    if (!LONG.includes(name)) {
      it('fits on a screen', () => {
        expect(program.split('\n').length).to.be.lessThan(61)
      })
    }

    it('imports the package as its users do', () => {
      expect(program).to.match(/ from 'it-tcp'/)
      expect(program).to.not.match(/ from '\.\.?\//)
    })

    it('is run by a test', () => {
      expect([...tested]).to.include(name)
    })
  })
}

describe('the examples', () => {
  const scope = useScope()
  const { start, startServer } = useExamples(scope)

  function example(name: string, title: string, test: () => Promise<void>): void {
    tested.add(name)
    it(`${name} ${title}`, async function () {
      // Starting a process takes its time on a busy machine.
      this.timeout(30_000)
      await test()
    })
  }

  async function expectOutput(name: string, args: readonly string[], stdout: string): Promise<void> {
    expect(await runExample(name, args)).to.deep.equal({ code: 0, signal: null, stdout, stderr: '' })
  }

  example('echo-server', 'sends back what each of several clients sends, and ends on SIGINT', async () => {
    const server = await startServer('echo-server', '0')
    const sent = [randomBytes(300_000), randomBytes(1), randomBytes(0)]
    const received = await Promise.all(
      sent.map(async (bytes) => {
        const socket = await server.connect()
        socket.end(bytes)
        return await readToEnd(socket)
      })
    )
    expect(received.map(digest)).to.deep.equal(sent.map(digest))
    server.signal('SIGINT')
    expect(await server.exit).to.deep.equal({ code: 0, signal: null })
  })

  example('echo-server', 'serves on when a client resets its connection', async () => {
    const server = await startServer('echo-server', '0')
    const rude = await server.connect()
    rude.write('hello')
    await once(rude.resume(), 'data')
    rude.resetAndDestroy()
    const polite = await server.connect()
    polite.end('hello')
    expect(`${await readToEnd(polite)}`).to.equal('hello')
  })

  example('echo-client', 'sends its input, half-closes, and prints the answer that comes after that', async () => {
    const server = await rawServer(scope)
    const child = start('echo-client', String(server.target), '127.0.0.1')
    const exit = once(child, 'exit')
    child.stdin?.end('a question')
    const socket = await server.accept()
    expect(`${await readToEnd(socket)}`).to.equal('a question')
    socket.end('an answer')
    expect(await text(child.stdout as NodeJS.ReadableStream)).to.equal('an answer')
    expect(await exit).to.deep.equal([0, null])
  })

  example('echo-client', 'says in one line that nobody listens', async () => {
    const port = await closedPort()
    expect(await runExample('echo-client', [String(port), '127.0.0.1'])).to.deep.equal({
      code: 1,
      signal: null,
      stdout: '',
      stderr: `Cannot connect to 127.0.0.1:${port}: connection refused\n`
    })
  })

  example('upper-case', 'prints in upper case what went through the pipelines', async () => {
    await expectOutput('upper-case', [], 'BYTES IN, BYTES OUT\n')
    await expectOutput('upper-case', ['äpfel', 'and', 'smørrebrød'], 'ÄPFEL AND SMØRREBRØD\n')
  })

  example('unix-socket', 'gives its file the mode, answers on it, and removes it', async () => {
    const path = join(scope.tempDir(), 'example.sock')
    await expectOutput('unix-socket', [path], `Listening on ${path}, mode 600\nYou said hello\nThe file is gone\n`)
    expect(existsSync(path)).to.equal(false)
  })

  example('unix-socket', 'leaves a path alone on which a live server answers', async () => {
    const path = join(scope.tempDir(), 'example.sock')
    await rawServer(scope, path)
    const { code, stderr } = await runExample('unix-socket', [path])
    expect(code).to.equal(1)
    expect(stderr).to.contain(`ListenError: Cannot listen on ${path}: address already in use`)
    expect(existsSync(path)).to.equal(true)
  })

  example('half-close', 'gets its answer after its own end', async () => {
    await expectOutput('half-close', [], 'Sent 3 numbers, and closed our side\nThe sum is 12\n')
    await expectOutput('half-close', ['40', '2'], 'Sent 2 numbers, and closed our side\nThe sum is 42\n')
  })

  example('line-protocol', 'answers each command with a line, and ends at QUIT', async () => {
    const server = await startServer('line-protocol', '0')
    const socket = await server.connect()
    // Commands may come in any pieces: here the line feed of the first comes with the second.
    socket.write('SET colour dark blue')
    socket.write('\nGET colour\r\nGET size\nDANCE\nQUIT\nGET colour\n')
    expect(`${await readToEnd(socket)}`).to.equal('OK\ndark blue\nNOT FOUND\nERROR unknown command DANCE\nBYE\n')
    socket.end()
    const other = await server.connect()
    other.end('GET colour')
    expect(`${await readToEnd(other)}`).to.equal('dark blue\nBYE\n')
    server.signal('SIGINT')
    expect(await server.exit).to.deep.equal({ code: 0, signal: null })
  })

  example('line-protocol', 'turns away a client whose line does not end, and serves on', async () => {
    const server = await startServer('line-protocol', '0')
    const socket = await server.connect()
    socket.write('x'.repeat(2_000))
    expect(`${await readToEnd(socket)}`).to.equal('ERROR line too long\n')
    socket.end()
    const other = await server.connect()
    other.end('GET anything\n')
    expect(`${await readToEnd(other)}`).to.equal('NOT FOUND\nBYE\n')
  })

  example('for-await', 'serves its clients one after the other', async () => {
    const names = ['Ada', 'Barbara', 'Grace', 'Lynn']
    const lines = names.map((name) => `Hello, ${name}. You have us to yourself: 1 connection is open.\n`)
    await expectOutput('for-await', names, `${lines.join('')}Served 4. The server is closed.\n`)
  })

  example('graceful-shutdown', 'turns new clients away on SIGTERM, and ends when the present ones have', async () => {
    const server = await startServer('graceful-shutdown', '0', '20000')
    const socket = await server.connect()
    const lines = linesOf(socket)
    socket.write('one\n')
    expect(await lines()).to.equal('ONE')
    server.signal('SIGTERM')
    expect(await lines()).to.equal('The server is about to stop, please finish')
    expect(await server.line()).to.equal('Stopping: 1 connected, 20000 ms to finish')
    expect(await server.line()).to.equal('The port is free')
    // Somebody else can have the port.
    const successor = createServer().listen(server.port)
    scope.defer(() => successor.close())
    await once(successor, 'listening')
    // Who is there is served to the end.
    socket.end('two\n')
    expect(await lines()).to.equal('TWO')
    expect(await lines()).to.equal(undefined)
    expect(await server.line()).to.equal('Stopped')
    expect(await server.exit).to.deep.equal({ code: 0, signal: null })
  })

  example('graceful-shutdown', 'cuts off a client that stays beyond the deadline', async () => {
    const server = await startServer('graceful-shutdown', '0', '50')
    const socket = await server.connect()
    socket.write('one\n')
    await once(socket.resume(), 'data')
    const failure = once(socket, 'error')
    server.signal('SIGTERM')
    expect((await failure)[0]).to.have.property('code', 'ECONNRESET')
    expect(await server.exit).to.deep.equal({ code: 0, signal: null })
  })

  example('prefork', 'replaces a child that dies, loses no waiting client, and drains on SIGTERM', async () => {
    const server = await startServer('prefork', '0', '2', '1')
    // What it answers is the process that serves it, and what it was asked.
    const ask = async (socket: Socket): Promise<number> => {
      socket.write('who?\n')
      const [answer] = await once(socket.resume(), 'data')
      expect(`${answer}`).to.match(/^\d+ who\?\n$/)
      return Number.parseInt(`${answer}`, 10)
    }
    const [first, second] = [await server.connect(), await server.connect()]
    const [firstChild, secondChild] = [await ask(first), await ask(second)]
    expect(firstChild).to.not.equal(secondChild)
    // Both are full: the third waits, until a new child has come for the one that dies.
    const third = await server.connect()
    const thirdChild = ask(third)
    process.kill(firstChild, 'SIGKILL')
    expect(await thirdChild).to.not.be.oneOf([firstChild, secondChild])
    server.signal('SIGTERM')
    second.end()
    third.end()
    expect(await server.line()).to.equal('All processes have ended')
    expect(await server.exit).to.deep.equal({ code: 0, signal: null })
  })

  example('digest', 'computes the digest of a file for 32 clients, 8 at a time', async () => {
    const file = join(scope.tempDir(), 'random')
    writeFileSync(file, randomBytes(3_000_001))
    const { code, stdout, stderr } = await runExample('digest', [file])
    expect({ code, stderr }, stdout).to.deep.equal({ code: 0, stderr: '' })
    expect(stdout).to.contain('32 of 32 digests match\n')
    expect(stdout).to.match(/^[1-8] connections were open at once at most, of 8 allowed$/m)
    expect(stdout).to.match(/^96000032 bytes in \d+\.\d s, \d+\.\d MB\/s$/m)
  })

  example('digest', 'takes an empty file', async () => {
    const file = join(scope.tempDir(), 'empty')
    writeFileSync(file, '')
    const { code, stdout, stderr } = await runExample('digest', [file])
    expect({ code, stderr }, stdout).to.deep.equal({ code: 0, stderr: '' })
    expect(stdout)
      .to.contain('32 of 32 digests match\n')
      .and.to.match(/^0 bytes in /m)
  })

  example('digest', 'says in one line that a file is missing, or none, or not to be read', async () => {
    const directory = scope.tempDir()
    const missing = join(directory, 'missing')
    const failed = { code: 1, signal: null, stdout: '' }
    expect(await runExample('digest', [missing])).to.deep.equal({
      ...failed,
      stderr: `Cannot read ${missing}: no such file or directory\n`
    })
    expect(await runExample('digest', [directory])).to.deep.equal({ ...failed, stderr: `Cannot read ${directory}: not a file\n` })
    // Nothing is unreadable to root.
    if (process.getuid?.() === 0) return
    const locked = join(directory, 'locked')
    writeFileSync(locked, 'secret')
    chmodSync(locked, 0o000)
    expect(await runExample('digest', [locked])).to.deep.equal({ ...failed, stderr: `Cannot read ${locked}: permission denied\n` })
  })
})

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
