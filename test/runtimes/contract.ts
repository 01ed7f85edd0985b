// Runs the specs of the public contract on a runtime other than Node.js: bun dist/test/runtimes/contract.js [--differing] [SPEC …]
//
// Mocha's own command reads its arguments in a way that not every runtime knows, so mocha is used as a library here.

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import Mocha, { type Suite, type Test } from 'mocha'
import { mochaHooks } from '../helpers/root-hooks.ts'
import { type Difference, differences, NOT_RUN, runtime } from './differences.ts'

// Tests by name, as on Node.js: the same files, the same time.
const SPECS = fileURLToPath(new URL('..', import.meta.url))
const TIMEOUT = 10_000

const wanted = process.argv.slice(2).filter((argument) => !argument.startsWith('--'))
/** To see whether what differs still does: these tests alone, and none of them left out. */
const onlyDiffering = process.argv.includes('--differing')

const mocha = new Mocha({ timeout: TIMEOUT, color: false, reporter: 'spec', forbidOnly: true, rootHooks: mochaHooks })
for (const file of specs()) mocha.addFile(join(SPECS, file))
await mocha.loadFilesAsync()

const tests = allTests(mocha.suite)
const unused = differences.filter((difference) => !tests.some((test) => difference.tests.test(test.fullTitle())))
for (const test of tests) {
  const difference = differences.find(({ tests }) => tests.test(test.fullTitle()))
  if (difference !== undefined && !onlyDiffering) leaveOut(test, difference)
  if (difference === undefined && onlyDiffering) test.pending = true
}

mocha.run((failures) => {
  const isWhole = wanted.length === 0 && !onlyDiffering
  for (const [spec, reason] of Object.entries(NOT_RUN)) if (isWhole) console.log(`Not run: ${spec}, which ${reason}`)
  for (const { tests } of unused) if (isWhole) console.log(`A difference that is in no test: ${tests}`)
  if (isWhole && unused.length > 0) process.exitCode = 1
  if (failures > 0) process.exitCode = 1
})

function specs(): string[] {
  const all = readdirSync(SPECS, { recursive: true }).map(String)
  const found = all.filter((file) => file.endsWith('.spec.js') && !isLeftOut(nameOf(file)))
  return found.filter((file) => wanted.length === 0 || wanted.includes(nameOf(file))).sort()
}

/** By its name, or by its folder's. */
function isLeftOut(name: string): boolean {
  return Object.keys(NOT_RUN).some((left) => (left.endsWith('/') ? name.startsWith(left) : name === left))
}

function nameOf(file: string): string {
  return file.slice(0, -'.spec.js'.length)
}

function leaveOut(test: Test, { reason }: Difference): void {
  test.title += ` (skipped on ${runtime}: ${reason})`
  test.pending = true
}

function allTests(suite: Suite): Test[] {
  return [...suite.tests, ...suite.suites.flatMap(allTests)]
}
