import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { expect } from 'chai'
import { runNode } from './helpers/programs.ts'

// Every ```ts block of the documents is compiled under `strict` against the package as it ships, and run to its end.
//
// A block is a whole program, unless the line before it names a frame, which readers don't see:
//
//     <!-- frame: NAME -->
//     ```ts
//     …
//
// A frame stands anywhere in the same document, in a comment of its own. The block takes the place of its line `// block`:
//
//     <!-- frame NAME
//     const server = await listen(onPort(0))
//     // block
//     await server.close()
//     -->
//
// A ```text block that follows a program directly is what it prints.
// Of ```sh blocks only the npm commands are looked at: their scripts must exist.

const OUT = join('dist', 'documents')

interface Program {
  readonly name: string
  readonly title: string
  readonly code: string
  readonly output: string | undefined
}

const documents = ['README.md', ...(existsSync('docs') ? readdirSync('docs').map((file) => join('docs', file)) : [])].filter(
  (file) => file.endsWith('.md') && existsSync(file)
)

describe('the documents', () => {
  const programs = documents.flatMap((document) => programsOf(document, readFileSync(document, 'utf8')))

  before(async function () {
    this.timeout(60_000)
    rmSync(OUT, { recursive: true, force: true })
    mkdirSync(OUT, { recursive: true })
    for (const { name, code } of programs) writeFileSync(join(OUT, `${name}.ts`), code)
    const compilerOptions = {
      rootDir: '.',
      outDir: 'compiled',
      incremental: false,
      declaration: false,
      declarationMap: false,
      types: ['node'],
      // A block may show a value that it does nothing with.
      noUnusedLocals: false,
      noUnusedParameters: false
    }
    writeFileSync(join(OUT, 'tsconfig.json'), JSON.stringify({ extends: '../../tsconfig.json', compilerOptions, include: ['*.ts'] }))
    if (programs.length === 0) return
    const { code, stdout } = await runNode([join('node_modules', 'typescript', 'bin', 'tsc'), '-p', OUT, '--pretty', 'false'])
    expect(code, stdout).to.equal(0)
  })

  it('have programs to run', () => {
    expect(programs.some(({ name }) => name.startsWith('README'))).to.equal(true)
  })

  for (const { name, title, output } of programs) {
    it(`${title} runs to its end`, async function () {
      this.timeout(30_000)
      const file = join(OUT, 'compiled', `${name}.js`)
      const { code, signal, stdout, stderr } = await runNode(['--enable-source-maps', file], { killAfter: 25_000 })
      expect({ code, signal, stderr }, stdout).to.deep.equal({ code: 0, signal: null, stderr: '' })
      if (output !== undefined) expect(stdout.trim()).to.equal(output.trim())
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
})

function programsOf(document: string, text: string): Program[] {
  const frames = new Map([...text.matchAll(/^<!-- frame ([\w-]+)\n(.*?)^-->/gms)].map(([, name, code]) => [name as string, code as string]))
  const shown = text.replaceAll(/^<!-- frame [\w-]+\n.*?^-->/gms, (frame) => '\n'.repeat(frame.split('\n').length - 1))
  const blocks = shown.matchAll(/^(?:<!-- frame: ([\w-]+) -->\n+)?```ts\n(.*?)^```\n(?:\n*^```text\n(.*?)^```)?/gms)
  return [...blocks].map(({ 0: all, 1: frameName, 2: code = '', 3: output, index }) => {
    const line = shown.slice(0, index + all.indexOf('```ts')).split('\n').length
    const name = `${basename(document, '.md')}-${line}`
    const frame = frameName === undefined ? '// block' : frames.get(frameName)
    if (frame === undefined) throw new Error(`${document}:${line} names a frame that is not there: ${frameName}`)
    if (!/^\/\/ block$/m.test(frame)) throw new Error(`${document}:${line} uses a frame without a line '// block': ${frameName}`)
    return { name, title: `${document}:${line}`, code: `${frame.replace(/^\/\/ block$/m, () => code)}\nexport {}\n`, output }
  })
}
