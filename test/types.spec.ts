import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { type Finished, runNode } from './helpers/programs.ts'

const TSC = join('node_modules', 'typescript', 'bin', 'tsc')

// The programs in test/types are never run: that they compile against the types that ship is the test. Each line of theirs
// that must not compile says so, and the compiler complains about one that does.
describe('the types that ship', () => {
  it('accept what test/types uses, and refuse what it marks as wrong', async () => {
    expect(await compile('test/types/tsconfig.json')).to.deep.equal({ code: 0, signal: null, stdout: '', stderr: '' })
  })

  it('are really looked at: the same program without its marks does not compile', async () => {
    // Beside the built files, so that the package finds itself by name.
    const directory = join('dist', 'types-without-marks')
    rmSync(directory, { recursive: true, force: true })
    mkdirSync(directory, { recursive: true })
    const text = readFileSync(join('test', 'types', 'where.ts'), 'utf8')
    const marks = text.match(/@ts-expect-error/g)?.length ?? 0
    writeFileSync(join(directory, 'where.ts'), text.replaceAll('@ts-expect-error', ''))
    writeFileSync(join(directory, 'same.ts'), readFileSync(join('test', 'types', 'same.ts')))
    writeFileSync(
      join(directory, 'tsconfig.json'),
      JSON.stringify({ extends: '../../test/types/tsconfig.json', compilerOptions: { rootDir: '.', outDir: 'out' }, include: ['.'] })
    )
    const { code, stdout } = await compile(join(directory, 'tsconfig.json'))
    expect(code).to.not.equal(0)
    expect(marks).to.be.greaterThan(5)
    expect(stdout.match(/error TS/g)).to.have.lengthOf(marks)
  })
})

function compile(project: string): Promise<Finished> {
  return runNode([TSC, '-p', project, '--pretty', 'false'])
}
