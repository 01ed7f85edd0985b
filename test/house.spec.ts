import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join, sep } from 'node:path'
import { expect } from 'chai'

// Tests run from the repository's root, whose sources they look at.
const ROOT = process.cwd()

// What each room is for, and which rooms it may know. `src` are the public words at the top: contracts and the functions that make them.
const ROOMS: Record<string, { readonly may: readonly string[]; readonly because: string }> = {
  async: { may: ['async'], because: 'waiting knows nothing of bytes or sockets' },
  system: { may: ['system', 'async'], because: 'the system room wraps what the operating system and Node.js have, for whoever needs it' },
  stream: { may: ['stream', 'async', 'system'], because: 'a reader and a writer work over any transport, whoever made it' },
  proxy: { may: ['proxy', 'stream', 'async'], because: 'a PROXY header is read from any reader' },
  tls: { may: ['tls', 'stream', 'async', 'system'], because: 'TLS is a transport over a transport' },
  client: { may: ['client', 'stream', 'async', 'system', 'tls', 'proxy'], because: 'clients and servers never import each other' },
  server: { may: ['server', 'stream', 'async', 'system', 'tls', 'proxy'], because: 'clients and servers never import each other' },
  interop: { may: ['interop', 'stream', 'async'], because: 'streams of other kinds are made of what a connection shows' },
  testing: { may: ['testing', 'stream', 'async', 'client', 'server', 'tls', 'proxy'], because: 'the test kit runs the shipped code' }
}
const LONGEST_FILE = 300

const LONGEST_SPEC = 600
// Rooms of tests that are not rooms of `src`: the command, the examples, other programs, faults, and what runs for long.
const ROOMS_OF_TESTS = ['cli', 'examples', 'faults', 'interop', 'load', 'model', 'realms', 'runtimes']
// Specs of the whole at the top of `test`, beside those of the public words, which start with the name of the word's file.
const SPECS_OF_THE_WHOLE = [
  'api',
  'documentation',
  'examples',
  'house',
  'package',
  'readme',
  'service',
  'types',
  'unhandled',
  'with-connection'
]

const CATCH_ALLS = ['utils', 'util', 'types', 'constants', 'helpers', 'common', 'misc']

describe('the house', () => {
  const sources = typescriptFiles('src')

  it('has no rooms but those that are said', () => {
    expect(sources.map(roomOf).filter((room) => room !== undefined && !(room in ROOMS))).to.deep.equal([])
  })

  it('has no circle of imports', () => {
    const seen = new Map<string, 'open' | 'done'>()
    const walk = (file: string, path: readonly string[]): void => {
      if (seen.get(file) === 'done') return
      if (seen.get(file) === 'open') throw new Error(`A circle: ${[...path, file].join(' -> ')}`)
      seen.set(file, 'open')
      for (const next of importsOf(file)) walk(next, [...path, file])
      seen.set(file, 'done')
    }
    for (const file of sources) walk(file, [])
  })

  it('has no file for what belongs nowhere', () => {
    expect(sources.filter((file) => CATCH_ALLS.includes(basename(file, '.ts')))).to.deep.equal([])
  })

  for (const file of sources) {
    describe(file, () => {
      const text = read(file)
      const name = basename(file, '.ts')

      const room = roomOf(file)
      const rules = room === undefined ? undefined : ROOMS[room]

      it(`imports only what its room may know${rules === undefined ? '' : `: ${rules.because}`}`, () => {
        if (name === 'index') return
        const imports = importsOf(file)
        expect(imports).not.to.include(join('src', 'index.ts'))
        if (rules === undefined) return
        expect(imports.map(roomOf).filter((other) => other !== undefined && !rules.may.includes(other))).to.deep.equal([])
      })

      it('is no longer than what one idea takes', () => {
        expect(text.split('\n').length - 1).to.be.at.most(LONGEST_FILE)
      })

      it('starts by saying in one line what it is for', () => {
        const purpose = name === 'index' ? /^(?:\/\/ [A-Z0-9].*\.|\/\*\*)\n/ : /^\/\/ [A-Z0-9].*\.\n/
        expect(text).to.match(purpose)
      })
    })
  }

  it('has a command whose files start by saying in one line what they are for', () => {
    const files = typescriptFiles('cli')
    expect(files.filter((file) => CATCH_ALLS.includes(basename(file, '.ts')))).to.deep.equal([])
    expect(files.filter((file) => !/^(?:#!.*\n)?\/\/ [A-Z0-9].*\.\n/.test(read(file)))).to.deep.equal([])
  })

  it('leaves out of the coverage only contracts, which have nothing to run', () => {
    const { exclude } = JSON.parse(read('.c8rc.json')) as { exclude: string[] }
    const compiled = exclude.map((file) => withoutComments(read(join('dist', file.replace(/\.ts$/, '.js')))).trim())
    expect(new Set(compiled)).to.deep.equal(new Set(['export {};']))
  })

  it('has an index that only re-exports', () => {
    const statements = withoutComments(read(join('src', 'index.ts')))
      .replaceAll(/export (?:type )?\{[^}]*\} from '\.\/(?:[a-z-]+\/)?[a-z-]+\.ts'/g, '')
      .trim()
    expect(statements).to.equal('')
  })

  it('has tests whose titles tell what is observed', () => {
    const titles = typescriptFiles('test').flatMap((file) =>
      [...read(file).matchAll(/\bit\((['"`])(.*?)\1, /g)].map(([, , title]) => title)
    )
    expect(titles.length).to.be.greaterThan(100)
    expect(titles.filter((title) => /\bshould\b/i.test(title as string))).to.deep.equal([])
  })

  it('has specs that are no longer than a law or two take', () => {
    const specs = typescriptFiles('test').filter((file) => file.endsWith('.spec.ts'))
    expect(specs.length).to.be.greaterThan(100)
    expect(specs.filter((file) => read(file).split('\n').length - 1 > LONGEST_SPEC)).to.deep.equal([])
  })

  it('has specs that follow the rooms', () => {
    const specs = typescriptFiles('test').filter((file) => file.endsWith('.spec.ts'))
    const words = typescriptFiles('src')
      .filter((file) => roomOf(file) === undefined)
      .map((file) => basename(file, '.ts'))
    const isInPlace = (file: string): boolean => {
      const room = roomOf(file)
      if (room !== undefined) return room in ROOMS || ROOMS_OF_TESTS.includes(room)
      return [...words, ...SPECS_OF_THE_WHOLE].some((word) => new RegExp(`^${word}(?:-|$)`).test(basename(file, '.spec.ts')))
    }
    expect(specs.filter((file) => !isInPlace(file))).to.deep.equal([])
  })

  it('has nothing left to do, and no test switched off', () => {
    const marks = /\b(?:TODO|FIXME|XXX)\b|\b(?:it|describe)\.(?:skip|only)\b|\bx(?:it|describe)\(/
    const files = [...sources, ...typescriptFiles('cli'), ...typescriptFiles('test'), ...typescriptFiles('examples')]
    expect(files.filter((file) => basename(file) !== 'house.spec.ts' && marks.test(read(file)))).to.deep.equal([])
  })

  // Where a registry lacks a package for some other platform, npm leaves it out of the file without a word, and `npm ci`
  // refuses the file everywhere.
  it('has a lock file that knows the packages of every platform', () => {
    const { packages } = JSON.parse(read('package-lock.json')) as { packages: Record<string, { optionalDependencies?: object }> }
    const wanted = Object.values(packages).flatMap(({ optionalDependencies = {} }) => Object.keys(optionalDependencies))
    expect(wanted.filter((name) => packages[`node_modules/${name}`] === undefined)).to.deep.equal([])
  })

  it('names no registry and no path of the machine it was written on', () => {
    const marks = [/\bregistry\.[a-z]/, new RegExp(`(?<![\\w.~])${ROOT.replaceAll(/\W/g, '\\$&')}\\b`)]
    const top = readdirSync(ROOT, { withFileTypes: true }).filter((entry) => entry.isFile() && !entry.name.endsWith('.log'))
    const files = [
      ...top.map((entry) => entry.name),
      ...['src', 'cli', 'test', 'examples', 'docs', 'scripts', '.ci', '.github'].flatMap((directory) => allFiles(directory))
    ]
    expect(files.filter((file) => marks.some((mark) => mark.test(read(file))))).to.deep.equal([])
  })
})

/** The folder of `src` or `test` in which a file is; undefined for those at the top. */
function roomOf(file: string): string | undefined {
  const parts = file.split(sep)
  return parts.length > 2 ? parts[1] : undefined
}

/** The files of `src` that a file of it imports. */
function importsOf(file: string): string[] {
  return [...read(file).matchAll(/\b(?:from|import)\s*\(?'(\.[^']*)'/g)].map(([, path]) => join(dirname(file), path as string))
}

function typescriptFiles(directory: string): string[] {
  return allFiles(directory).filter((file) => file.endsWith('.ts'))
}

function allFiles(directory: string): string[] {
  if (!existsSync(join(ROOT, directory))) return []
  return readdirSync(join(ROOT, directory), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath.slice(ROOT.length + 1), entry.name))
    .sort()
}

function read(file: string): string {
  return readFileSync(join(ROOT, file), 'utf8')
}

function withoutComments(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, '')
}
