import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { MAIN, runCommand } from '../helpers/command.ts'

describe('the command', function () {
  this.timeout(20_000)

  it('is what the package has as its program', async () => {
    const { bin, version } = JSON.parse(readFileSync('package.json', 'utf8')) as { bin: Record<string, string>; version: string }
    expect(statSync(bin['it-tcp'] as string).ino).to.equal(statSync(MAIN).ino)
    expect(readFileSync(MAIN, 'utf8')).to.match(/^#!\/usr\/bin\/env node\n/)
    expect(await runCommand(['--version'])).to.deep.equal({ code: 0, signal: null, stdout: `${version}\n`, stderr: '' })
  })

  it('prints its help on standard output when asked', async () => {
    for (const [args, words] of [
      [['--help'], ['forward', 'connect', 'listen', 'Addresses:', 'Exit codes:']],
      [
        ['forward', '--help'],
        ['<listen> <target>', '--max-connections', '--drop', '--idle-timeout', '--grace', '--log', '--connect-timeout']
      ],
      [
        ['connect', '--help'],
        ['<address>', '--timeout', '--idle-timeout']
      ],
      [
        ['listen', '--help'],
        ['<address>', '--exec', '--max-connections']
      ]
    ] as const) {
      const { code, stdout, stderr } = await runCommand(args)
      expect([code, stderr]).to.deep.equal([0, ''])
      for (const word of words) expect(stdout).to.contain(word)
    }
  })

  it('prints its help on standard error when it is given nothing to do', async () => {
    const { code, stdout, stderr } = await runCommand([])
    expect([code, stdout]).to.deep.equal([2, ''])
    expect(stderr).to.contain('Usage: it-tcp')
  })

  for (const [line, message] of [
    ['frward 1 2', "it-tcp: unknown command 'frward'\n(Did you mean forward?)\n"],
    ['forward 8080', "it-tcp: missing required argument 'target'\n"],
    ['forward 1 2 3', "it-tcp: too many arguments for 'forward'. Expected 2 arguments but got 3.\n"],
    ['forward 1 2 --frop', "it-tcp: unknown option '--frop'\n(Did you mean --drop?)\n"],
    ['forward 1 2 --log xml', "it-tcp: option '--log <format>' argument 'xml' is invalid. Allowed choices are text, json.\n"],
    ['forward 1 2 --max-connections none', "it-tcp: not a count: 'none'; write a whole number, 1 or more\n"],
    ['forward 1 2 --idle-timeout 30', "it-tcp: not a duration: '30'; write it with its unit, such as 500ms, 30s, 5m or 1h\n"],
    ['forward 80x 2', "it-tcp: not a port: '80x' in '80x'; ports here go from 0 to 65535\n"],
    ['connect localhost', "it-tcp: not an address: 'localhost'; write PORT, HOST:PORT, [IPV6]:PORT, or a path with a slash in it\n"],
    ['listen 1 --max-connections 2', 'it-tcp: --max-connections is for listen --exec\n'],
    ['listen 1 --drop', 'it-tcp: --drop is for listen --exec\n']
  ] as const) {
    it(`ends '${line}' with 2 and a line that says why`, async () => {
      expect(await runCommand(line.split(' '))).to.deep.equal({ code: 2, signal: null, stdout: '', stderr: message })
    })
  }

  it('imports nothing of the library but what users have', () => {
    const texts = readdirSync('cli').map((file) => readFileSync(join('cli', file), 'utf8'))
    const imports = texts.flatMap((text) => [...text.matchAll(/\bfrom '([^']+)'/g)].map(([, path]) => path as string))
    expect(imports).to.include('it-tcp')
    expect(imports.filter((path) => !/^(?:it-tcp|commander|node:.*|\.\/[a-z-]+\.ts)$/.test(path))).to.deep.equal([])
  })
})
