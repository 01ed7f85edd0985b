import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { expect } from 'chai'

// Tests run from the repository's root, whose sources they look at.
const ROOT = process.cwd()

// A file imports only from files above it: what is read first depends on nothing that comes later, and nothing runs in circles.
const LAYERS = [
  'address',
  'errors',
  'deferred',
  'abort',
  'timer',
  'options',
  'consumer-pool',
  'where-to-connect',
  'where-to-listen',
  'diagnostics',
  'chunk-queue',
  'turn',
  'stall-limit',
  'pump',
  'socket',
  'reader',
  'writer',
  'connection',
  'connect',
  'descriptor',
  'unix-socket-file',
  'listening-socket',
  'server',
  'index'
]

const CATCH_ALLS = ['utils', 'util', 'types', 'constants', 'helpers', 'common', 'misc']

describe('the house', () => {
  const sources = typescriptFiles('src')

  it('has exactly the files of the layer list', () => {
    expect(sources.map((file) => basename(file, '.ts'))).to.have.members(LAYERS)
  })

  it('has no file for what belongs nowhere', () => {
    expect(sources.filter((file) => CATCH_ALLS.includes(basename(file, '.ts')))).to.deep.equal([])
  })

  for (const file of sources) {
    describe(file, () => {
      const text = read(file)
      const name = basename(file, '.ts')

      it('imports only from files above it', () => {
        const above = LAYERS.slice(0, LAYERS.indexOf(name)).map((layer) => `./${layer}.ts`)
        const imports = [...text.matchAll(/\b(?:from|import)\s*\(?'(\.[^']*)'/g)].map(([, path]) => path)
        expect(imports.filter((path) => !above.includes(path as string))).to.deep.equal([])
      })

      it('starts by saying in one line what it is for', () => {
        const purpose = name === 'index' ? /^(?:\/\/ [A-Z0-9].*\.|\/\*\*)\n/ : /^\/\/ [A-Z0-9].*\.\n/
        expect(text).to.match(purpose)
      })

      it('has a spec of its own', () => {
        expect(typescriptFiles('test')).to.include(join('test', `${name}.spec.ts`))
      })
    })
  }

  it('has a command whose files start by saying in one line what they are for', () => {
    const files = typescriptFiles('cli')
    expect(files.filter((file) => CATCH_ALLS.includes(basename(file, '.ts')))).to.deep.equal([])
    expect(files.filter((file) => !/^(?:#!.*\n)?\/\/ [A-Z0-9].*\.\n/.test(read(file)))).to.deep.equal([])
  })

  it('has an index that only re-exports', () => {
    const statements = withoutComments(read(join('src', 'index.ts')))
      .replaceAll(/export (?:type )?\{[^}]*\} from '\.\/[a-z-]+\.ts'/g, '')
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
