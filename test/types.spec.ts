import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { type Finished, runNode } from './helpers/programs.ts'

// The newest, and the last that many users have; with the settings of this project, and with as few as users have, Node.js or a bundler.
const COMPILERS = ['typescript', 'typescript-5.9']
const PROJECTS = ['tsconfig.json', 'tsconfig.node16.json', 'tsconfig.bundler.json']

// The programs in test/types are never run: that they compile against the types that ship is the test. Each line of theirs
// that must not compile says so, and the compiler complains about one that does.
describe('the types that ship', function () {
  this.timeout(60_000)

  for (const compiler of COMPILERS) {
    for (const project of PROJECTS) {
      it(`accept what test/types uses, and refuse what it marks as wrong: ${compiler}, ${project}`, async () => {
        const finished = await compile(compiler, join('test', 'types', project))
        expect(finished).to.deep.equal({ code: 0, signal: null, stdout: '', stderr: '' })
      })
    }

    it(`are really looked at: the same program without its marks does not compile, ${compiler}`, async () => {
      // Beside the built files, so that the package finds itself by name.
      const directory = join('dist', `types-without-marks-${compiler}`)
      rmSync(directory, { recursive: true, force: true })
      mkdirSync(directory, { recursive: true })
      const text = readFileSync(join('test', 'types', 'where.ts'), 'utf8')
      const marks = text.match(/@ts-expect-error/g)?.length ?? 0
      writeFileSync(join(directory, 'where.ts'), text.replaceAll('@ts-expect-error', ''))
      writeFileSync(join(directory, 'same.ts'), readFileSync(join('test', 'types', 'same.ts')))
      writeFileSync(
        join(directory, 'tsconfig.json'),
        JSON.stringify({ extends: '../../test/types/tsconfig.json', compilerOptions: { rootDir: '.', outDir: 'out' }, include: ['*.ts'] })
      )
      const { code, stdout } = await compile(compiler, join(directory, 'tsconfig.json'))
      expect(code).to.not.equal(0)
      expect(marks).to.be.greaterThan(5)
      expect(stdout.match(/error TS/g)).to.have.lengthOf(marks)
    })
  }

  it('need @types/node, and no word of it in the settings of a program', async () => {
    // Older compilers take whatever is installed.
    const directory = join('dist', 'types-without-settings')
    rmSync(directory, { recursive: true, force: true })
    mkdirSync(directory, { recursive: true })
    for (const name of ['it-tcp', 'it-tcp/testing']) {
      writeFileSync(join(directory, `${name.replace('/', '-')}.ts`), `export * from '${name}'\n`)
    }
    for (const file of ['it-tcp.ts', 'it-tcp-testing.ts']) {
      const compilerOptions = { module: 'nodenext', target: 'es2022', strict: true, noEmit: true, skipLibCheck: false }
      writeFileSync(join(directory, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: [file] }))
      const finished = await compile('typescript', join(directory, 'tsconfig.json'))
      expect(finished, file).to.deep.equal({ code: 0, signal: null, stdout: '', stderr: '' })
    }
  })
})

function compile(compiler: string, project: string): Promise<Finished> {
  return runNode([join('node_modules', compiler, 'bin', 'tsc'), '-p', project, '--pretty', 'false'])
}
