import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { expect } from 'chai'
import { runNode } from './helpers/programs.ts'

interface Expectation {
  /** What it is started with. */
  readonly args?: readonly string[]
  /** Given to its standard input. */
  readonly input?: string
  /** What its output must contain, in this order. */
  readonly prints: readonly (string | RegExp)[]
}

// Every example ends by itself. Its name, how it is run, and what it then prints.
const EXAMPLES: Readonly<Record<string, Expectation>> = {}

// Programs of more than one screen.
const LONG = ['digest']

describe('the examples', () => {
  const files = readdirSync('examples').filter((file) => file.endsWith('.ts'))

  it('are all run here', () => {
    expect(files.map((file) => basename(file, '.ts'))).to.have.members(Object.keys(EXAMPLES))
  })

  for (const file of files) {
    const name = basename(file, '.ts')
    const { args = [], input = '', prints } = EXAMPLES[name] ?? { prints: [] }
    const text = readFileSync(join('examples', file), 'utf8')

    describe(name, () => {
      it('says at its head what it shows and how to run it', () => {
        const head = /^(?:\/\/.*\n)+/.exec(text)?.[0] ?? ''
        expect(head).to.match(/^\/\/ [A-Z]/)
        expect(head).to.satisfy(
          (lines: string) => lines.includes(`node dist/examples/${name}.js`) || lines.includes('npm start'),
          'It does not say how to run it'
        )
      })

      if (!LONG.includes(name)) {
        it('fits on a screen', () => {
          expect(text.split('\n').length).to.be.lessThan(61)
        })
      }

      it('imports the package as its users do', () => {
        expect(text).to.match(/ from 'it-tcp'/)
        expect(text).to.not.match(/ from '\.\.\//)
      })

      it('ends by itself with exit code 0 and prints what it promises', async function () {
        this.timeout(60_000)
        const { code, signal, stdout, stderr } = await runNode(['--enable-source-maps', join('dist', 'examples', `${name}.js`), ...args], {
          input,
          killAfter: 50_000
        })
        expect({ code, signal, stderr }, stdout).to.deep.equal({ code: 0, signal: null, stderr: '' })
        let rest = stdout
        for (const text of prints) {
          const at = typeof text === 'string' ? rest.indexOf(text) : rest.search(text)
          expect(at, `${text} is not in what is left of:\n${stdout}`).to.be.at.least(0)
          rest = rest.slice(at)
        }
      })
    })
  }
})
