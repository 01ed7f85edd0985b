import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { type Command, flag, option, readArguments } from '../../cli/arguments.ts'
import { UsageError } from '../../cli/failure.ts'
import { commandHelp } from '../../cli/help.ts'
import { CONNECT_OPTIONS, FORWARD_OPTIONS, LISTEN_OPTIONS } from '../../cli/options.ts'
import { parseCount } from '../../cli/quantity.ts'
import { MAIN, runCommand } from '../helpers/command.ts'

describe('the arguments of a command', () => {
  const command: Command = {
    name: 'try',
    about: 'For a test.',
    operands: ['first', 'rest...'],
    options: {
      maxConnections: option('<count>', 'a number', parseCount, { default: '7' }),
      name: option('[<name>]', 'a name, or none', (text) => text, { otherwise: 'nobody' }),
      tag: option('<tag>', 'any number', (text, before: string[] = []) => [...before, text], { isRepeatable: true }),
      loud: flag('a switch', { short: 'l' }),
      echo: flag('needs another', { needs: 'loud' })
    },
    examples: [['it-tcp try this', 'a try']]
  }
  const read = (line: string) => readArguments(command, line.split(' '))

  it('are operands and the meaning of options, in any order, with or without an equals sign', () => {
    for (const line of ['a b c --max-connections 3 --tag x --tag=y -l', '--tag x -l a --max-connections=3 b --tag y c']) {
      expect(read(line)).to.deep.equal({
        operands: ['a', 'b', 'c'],
        values: { maxConnections: 3, tag: ['x', 'y'], loud: true },
        wantsHelp: false
      })
    }
  })

  it('are what stands there behind two dashes', () => {
    expect(read('-l -- --tag -x')).to.deep.include({ operands: ['--tag', '-x'] })
  })

  it('have the defaults that the help tells', () => {
    expect(read('a b').values).to.deep.equal({ maxConnections: 7 })
    expect(commandHelp(command)).to.contain('a number (default: 7)').and.to.contain('a name, or none (default: nobody)')
  })

  it('may leave out a value that stands in brackets', () => {
    expect(read('a b --name').values).to.have.property('name', '')
    expect(read('a b --name=x').values).to.have.property('name', 'x')
    expect(commandHelp(command)).to.contain('--name[=<name>]')
  })

  it('ask for help wherever that is asked', () => {
    for (const line of ['--help', '-h', 'a -h', '--max-connections 3 --help']) expect(read(line).wantsHelp, line).to.equal(true)
  })

  for (const [line, message] of [
    ['a', 'missing <rest>...: it-tcp try <first> <rest>... [options]'],
    ['a b --max-connections 0', "--max-connections must be a whole number, 1 or more: received '0'"],
    ['a b --max-connections -1', "--max-connections must be a whole number, 1 or more: received '-1'"],
    ['a b --max-connections=', "--max-connections must be a whole number, 1 or more: received ''"],
    ['a b --max-connections', '--max-connections needs a value: --max-connections <count>'],
    ['a b --max-connections 1 --max-connections 2', '--max-connections was given twice'],
    ['a b --loud=yes', "--loud takes no value: received 'yes'"],
    ['a b --echo', '--echo has no effect without --loud'],
    ['a b --max-conections 1', "unknown option '--max-conections' (did you mean --max-connections?)"],
    ['a b --hepl', "unknown option '--hepl' (did you mean --help?)"],
    ['a b --something-else', "unknown option '--something-else': 'it-tcp try --help' lists them"],
    ['a b --constructor', "unknown option '--constructor': 'it-tcp try --help' lists them"],
    ['a b -x', "unknown option '-x': 'it-tcp try --help' lists them"]
  ] as const) {
    it(`are refused as '${line}', and it is said why`, () => {
      expect(() => read(line)).to.throw(UsageError, message)
    })
  }

  it('have a help of 80 columns at most', () => {
    for (const options of [FORWARD_OPTIONS, CONNECT_OPTIONS, LISTEN_OPTIONS]) {
      expect(
        commandHelp({ ...command, options })
          .split('\n')
          .filter((line) => line.length > 80)
      ).to.deep.equal([])
    }
  })
})

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
        ['<listen> <target>...', '--max-connections', '--drop', '--idle-timeout', '--grace', '--log', '--connect-timeout']
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
      expect(stdout.split('\n').filter((line) => line.length > 80)).to.deep.equal([])
    }
  })

  it('has three examples for each command, which its arguments allow', async () => {
    for (const [name, options] of Object.entries({ forward: FORWARD_OPTIONS, connect: CONNECT_OPTIONS, listen: LISTEN_OPTIONS })) {
      const { stdout } = await runCommand([name, '--help'])
      const lines = stdout.split('\n').filter((line) => /^ {2}(?!#).*\bit-tcp /.test(line))
      expect(lines.length, stdout).to.equal(3)
      for (const line of lines) {
        const words = (/\bit-tcp (\w+) ([^<>]*)/.exec(line) as RegExpExecArray).slice(1)
        expect(words[0]).to.equal(name)
        const args = [...(words[1] as string).matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? (plain as string))
        const operands = name === 'forward' ? ['listen', 'target...'] : ['address']
        readArguments({ name, about: '', operands, options, examples: [] }, args)
      }
    }
  })

  it('prints its help on standard error when it is given nothing to do', async () => {
    const { code, stdout, stderr } = await runCommand([])
    expect([code, stdout]).to.deep.equal([2, ''])
    expect(stderr).to.contain('Usage:\n  it-tcp forward')
  })

  for (const [line, message] of [
    ['frward 1 2', "unknown command 'frward' (did you mean forward?)"],
    ['serve 1', "unknown command 'serve': there are forward, connect and listen"],
    ['--frop', "unknown option '--frop': there are forward, connect and listen"],
    ['forward 8080', 'missing <target>...: it-tcp forward <listen> <target>... [options]'],
    ['connect 1 2', "unexpected argument '2': it-tcp connect <address> [options]"],
    ['forward 1 2 --frop', "unknown option '--frop' (did you mean --drop?)"],
    ['forward 1 2 --log xml', "--log must be text or json: received 'xml'"],
    ['forward 1 2 --max-connections none', "--max-connections must be a whole number, 1 or more: received 'none'"],
    ['forward 1 2 --max-connections 0', "--max-connections must be a whole number, 1 or more: received '0'"],
    ['forward 1 2 --idle-timeout 5', "--idle-timeout must have a unit, 5ms, 5s, 5m or 5h: received '5'"],
    ['forward 1 2 --grace 0s', "--grace must be above 0: received '0s'"],
    ['forward 1 2 --allow 10.0.0.0/33', "--allow must be an address or a range of addresses such as 10.0.0.0/8: received '10.0.0.0/33'"],
    ['forward 1 2 --mode 660', '--mode is only for Unix sockets'],
    ['forward 1 /run/s --source 127.0.0.1', '--source is only for TCP'],
    ['forward /run/s 1 --allow ::1', '--allow is only for TCP: clients of a Unix socket have no address'],
    [
      'forward /run/s 1 --max-connections-per-address 1',
      '--max-connections-per-address is only for TCP: clients of a Unix socket have no address'
    ],
    ['forward 80x 2', "<listen> must have a port from 0 to 65535: received '80x'"],
    ['forward 1 2 0', "<target> must have a port from 1 to 65535: received '0'"],
    ['connect localhost', "<address> must be PORT, HOST:PORT, [IPV6]:PORT, or a path with a slash in it: received 'localhost'"],
    ['connect http://localhost:80/', "<address> must be HOST:PORT, here localhost:80, not a URL: received 'http://localhost:80/'"],
    ['listen 1 --max-connections 2', '--max-connections has no effect without --exec'],
    ['listen 1 --drop', '--drop has no effect without --exec'],
    ['listen 1 --exec=', "--exec must be a command: received ''"]
  ] as const) {
    it(`ends '${line}' with 2 and a line that says why`, async () => {
      expect(await runCommand(line.split(' '))).to.deep.equal({ code: 2, signal: null, stdout: '', stderr: `it-tcp: ${message}\n` })
    })
  }

  it('imports nothing of the library but what users have', () => {
    const texts = readdirSync('cli').map((file) => readFileSync(join('cli', file), 'utf8'))
    const imports = texts.flatMap((text) => [...text.matchAll(/\bfrom '([^']+)'/g)].map(([, path]) => path as string))
    expect(imports).to.include('it-tcp')
    expect(imports.filter((path) => !/^(?:it-tcp|node:.*|\.\/[a-z-]+\.ts)$/.test(path))).to.deep.equal([])
  })
})
