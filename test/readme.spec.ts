import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { expect } from 'chai'
import { runNode } from './helpers/programs.ts'
import { closedPort } from './helpers/raw.ts'

// Every ```ts block of the documents is compiled under `strict` against the package as it ships, and run to its end.
//
// A block is a whole program, unless a comment above it, which readers don't see, names a frame of test/frames.md:
//
//     <!-- frame: NAME -->
//     ```ts
//     …
//
// A ```text block that follows a program directly is what it prints. The ports, paths and hosts that the documents name are put into this
// world, in programs and in what they print: every program gets free ports and a directory of its own.
// The examples in docstrings are compiled with what they use imported, and not run: they name servers that are not there.
// Of ```sh blocks only the npm commands are looked at: their scripts must exist.

const OUT = join('dist', 'documents')

interface Program {
  readonly name: string
  readonly title: string
  readonly code: string
  readonly output: string | undefined
}

/** What the documents name, and what it is in this world. */
type Names = ReadonlyMap<RegExp, string>

const documents = [
  'README.md',
  join('examples', 'README.md'),
  ...readdirSync('docs', { recursive: true, encoding: 'utf8' }).map((file) => join('docs', file))
].filter((file) => file.endsWith('.md'))

const sources = readdirSync('src', { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .map((file) => join('src', file))

const NAMES = { 'it-tcp': exportsOf('index.ts'), 'it-tcp/testing': exportsOf('testing.ts') }

describe('the documents', () => {
  const frames = framesOf(readFileSync(join('test', 'frames.md'), 'utf8'))
  const programs = documents.flatMap((document) => programsOf(document, readFileSync(document, 'utf8'), frames))
  const examples = sources.flatMap((source) => examplesOf(source, readFileSync(source, 'utf8')))
  const worlds = new Map<string, Names>()
  let directory = ''

  before(async function () {
    this.timeout(60_000)
    directory = mkdtempSync(join(tmpdir(), 'it-tcp-'))
    rmSync(OUT, { recursive: true, force: true })
    mkdirSync(OUT, { recursive: true })
    for (const { name, code } of programs) {
      const names = await namesFor(code, join(directory, name))
      worlds.set(name, names)
      writeFileSync(join(OUT, `${name}.ts`), renamed(code, names))
    }
    for (const { name, code } of examples) writeFileSync(join(OUT, `${name}.ts`), code)
    const compilerOptions = {
      rootDir: '.',
      outDir: '.',
      incremental: false,
      declaration: false,
      declarationMap: false,
      types: ['node'],
      // A block may show a value that it does nothing with.
      noUnusedLocals: false,
      noUnusedParameters: false
    }
    writeFileSync(join(OUT, 'tsconfig.json'), JSON.stringify({ extends: '../../tsconfig.json', compilerOptions, include: ['*.ts'] }))
    const { code, stdout } = await runNode([join('node_modules', 'typescript', 'bin', 'tsc'), '-p', OUT, '--pretty', 'false'])
    expect(code, stdout).to.equal(0)
  })

  after(() => {
    rmSync(directory, { recursive: true, force: true })
  })

  it('have programs to run', () => {
    expect(programs.filter(({ name }) => name.startsWith('README')).length).to.be.greaterThan(1)
    expect(programs.length).to.be.greaterThan(40)
  })

  for (const [module, moduleResolution] of [
    ['node16', 'node16'],
    ['preserve', 'bundler']
  ] as const) {
    it(`have programs that TypeScript 5.9 takes too, with moduleResolution ${moduleResolution}`, async function () {
      this.timeout(60_000)
      const args = ['-p', OUT, '--noEmit', '--module', module, '--moduleResolution', moduleResolution, '--pretty', 'false']
      const { code, stdout } = await runNode([join('node_modules', 'typescript-5.9', 'bin', 'tsc'), ...args])
      expect(code, stdout).to.equal(0)
    })
  }
  // Which the hook above has compiled.
  it('have examples in the docstrings', () => {
    expect(examples.length).to.be.greaterThan(15)
  })

  it('use every frame', () => {
    const text = documents.map((document) => readFileSync(document, 'utf8')).join()
    expect([...frames.keys()].filter((name) => !text.includes(`<!-- frame: ${name} -->`))).to.deep.equal([])
  })

  for (const { name, title, output } of programs) {
    it(`${title} runs to its end`, async function () {
      this.timeout(30_000)
      const file = join(OUT, `${name}.js`)
      const { code, signal, stdout, stderr } = await runNode(['--enable-source-maps', file], { killAfter: 25_000 })
      expect({ code, signal, stderr }, stdout).to.deep.equal({ code: 0, signal: null, stderr: '' })
      if (output !== undefined) expect(stdout.trim()).to.equal(renamed(output, worlds.get(name) as Names).trim())
    })
  }

  it('name only npm scripts that exist', () => {
    const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> }
    for (const document of documents) {
      for (const [, block] of readFileSync(document, 'utf8').matchAll(/^```(?:sh|bash|console)\n(.*?)^```/gms)) {
        for (const [, run, name] of (block as string).matchAll(/\bnpm (run )?([a-z:-]+)/g)) {
          const isScript = run !== undefined || ['test', 'start'].includes(name as string)
          if (isScript) expect(scripts, document).to.have.property(name as string)
          else expect(name, document).to.be.oneOf(['ci', 'install', 'i', 'pack'])
        }
      }
    }
  })

  it('link only to files and headings that exist', () => {
    const others = ['.', 'examples'].flatMap((directory) => readdirSync(directory).map((file) => join(directory, file)))
    for (const document of new Set([...documents, ...others.filter((file) => file.endsWith('.md'))])) {
      for (const [, link = ''] of proseOf(document).matchAll(/\]\(((?![a-z]+:)[^)]+)\)/g)) {
        const [path, anchor] = link.split('#') as [string, string | undefined]
        const target = path === '' ? document : join(document, '..', path)
        expect(existsSync(target), `${document} links to ${link}`).to.equal(true)
        if (anchor !== undefined) expect(anchorsOf(target), `${document} links to ${link}`).to.include(anchor)
      }
    }
  })
})

function proseOf(document: string): string {
  return readFileSync(document, 'utf8').replaceAll(/^```.*?^```$/gms, '')
}

/** The anchors of a document's headings, as they are made where it is shown. */
function anchorsOf(document: string): string[] {
  return [...proseOf(document).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) => {
    return heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
      .trim()
      .replaceAll(' ', '-')
  })
}

function framesOf(text: string): Map<string, string> {
  return new Map([...text.matchAll(/^## (\S+)\n+```ts\n(.*?)^```$/gms)].map(([, name, code]) => [name as string, code as string]))
}

function programsOf(document: string, text: string, frames: ReadonlyMap<string, string>): Program[] {
  const blocks = text.matchAll(/^(?:<!-- frame: ([\w-]+) -->\n+)?```ts\n(.*?)^```\n(?:\n*^```text\n(.*?)^```)?/gms)
  return [...blocks].map(({ 0: all, 1: frameName, 2: code = '', 3: output, index }) => {
    const line = text.slice(0, index + all.indexOf('```ts')).split('\n').length
    const name = `${basename(document, '.md')}-${line}`
    const frame = frameName === undefined ? '// block' : frames.get(frameName)
    if (frame === undefined) throw new Error(`${document}:${line} names a frame that is not there: ${frameName}`)
    // Imports may stand anywhere in a module, but not in a function.
    const imports = code.match(/^import .*\n/gm)?.join('') ?? ''
    const rest = code.replaceAll(/^import .*\n/gm, '')
    const whole = frame.replace(/^ *\/\/ block$/m, () => rest)
    return { name, title: `${document}:${line}`, code: `${imports}${whole}\nexport {}\n`, output }
  })
}

function examplesOf(source: string, text: string): { name: string; code: string }[] {
  const entries = Object.keys(NAMES) as (keyof typeof NAMES)[]
  return [...text.matchAll(/^ *\* ```ts\n(.*?)^ *\* ```$/gms)].map(({ 1: block = '', index }) => {
    const code = block.replaceAll(/^ *\* ?/gm, '')
    const imports = code.startsWith('import ') ? '' : entries.map((entry) => importFrom(entry, code)).join('')
    return { name: `src-${basename(source, '.ts')}-${text.slice(0, index).split('\n').length}`, code: `${imports}${code}\nexport {}\n` }
  })
}

/** The line that imports what `code` uses of an entry of the package; nothing where that is nothing. */
function importFrom(entry: keyof typeof NAMES, code: string): string {
  const used = NAMES[entry].filter((name) => new RegExp(`\\b${name}\\b`).test(code))
  return used.length === 0 ? '' : `import { ${used.join(', ')} } from '${entry}'\n`
}

/** What a file of `src` exports. */
function exportsOf(source: string): string[] {
  const text = readFileSync(join('src', source), 'utf8')
  const lists = [...text.matchAll(/^export (?:type )?\{([^}]*)\}/gm)].flatMap(([, list = '']) => list.split(','))
  const functions = [...text.matchAll(/^export function (\w+)/gm)].map(([, name = '']) => name)
  return [
    ...lists.map((name) =>
      name
        .replace(/^.* as /, '')
        .replace(/^\s*type /, '')
        .trim()
    ),
    ...functions
  ]
}

/** Free ports in place of 80 and 80xx, a directory in place of /run, and this machine in place of others. */
async function namesFor(code: string, directory: string): Promise<Names> {
  mkdirSync(directory)
  const names = new Map([
    [/(?<=')\/run\/|(?<= )\/run\//g, `${directory}/`],
    [/(?<=')example\.com(?=')/g, '127.0.0.1']
  ])
  for (const port of new Set(code.match(/\b80(?:\d\d)?\b/g))) names.set(new RegExp(`\\b${port}\\b`, 'g'), String(await closedPort()))
  return names
}

function renamed(text: string, names: Names): string {
  return [...names].reduce((result, [name, replacement]) => result.replaceAll(name, replacement), text)
}
