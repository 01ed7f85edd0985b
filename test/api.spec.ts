import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { runNode } from './helpers/programs.ts'

// Names, signatures, options and type parameters are promises. A change of one shows here, before a user's compiler finds it.
describe('the types of the public API', function () {
  this.timeout(60_000)

  it('are those of the snapshot; `npm run types:snapshot` takes a new one', async () => {
    const { NODE_V8_COVERAGE: _, ...env } = process.env
    const { code, stdout, stderr } = await runNode([join('scripts', 'types-snapshot.js'), '--print'], { env, killAfter: 50_000 })
    expect(code, stderr).to.equal(0)
    const snapshot = declarationsIn(readFileSync(join('test', 'types', 'api.snapshot.txt'), 'utf8'))
    const built = declarationsIn(stdout)
    // Only what differs, so that the failure can be read.
    const differing = [...new Set([...snapshot.keys(), ...built.keys()])].filter((name) => snapshot.get(name) !== built.get(name))
    const only = (declarations: ReadonlyMap<string, string>) => differing.map((name) => `${name}\n${declarations.get(name) ?? 'absent'}`)
    expect(only(built).join('\n\n')).to.equal(only(snapshot).join('\n\n'))
    expect(built.size).to.be.greaterThan(100)
  })
})

/** The declarations of a snapshot, by the line that names each. */
function declarationsIn(text: string): ReadonlyMap<string, string> {
  return new Map(text.split(/\n\n(?=\/\/ )/).map((part) => part.trim().split(/\n([\s\S]*)/, 2) as [string, string]))
}
