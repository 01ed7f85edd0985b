import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { runNode, skipIf } from './helpers/programs.ts'

const PROGRAM = `
const { Server, onPortChosenByOs, toHostAndPort, withConnection, ConnectError } = require('it-tcp')

async function main() {
  const server = await Server.create(onPortChosenByOs({ host: '127.0.0.1' }), async ({ reader, writer }) => {
    writer.write('Hello, ' + (await reader.readLine()))
  })
  const answer = await withConnection(toHostAndPort('127.0.0.1', server.listeningOn), async ({ reader, writer }) => {
    writer.write('world\\n')
    return await reader.readLine()
  })
  console.log(answer)
  const modules = await import('it-tcp')
  console.log(modules.ConnectError === ConnectError)
  await server.close()
}

main()
`

describe('the package', () => {
  it("gives CommonJS programs the same by require('it-tcp') as by import", async function () {
    skipIf(this, (process.features as { require_module?: boolean }).require_module !== true, 'needs a Node.js with require(esm)')
    // Beside the built files, so that the package finds itself by name.
    const directory = join('dist', 'commonjs')
    rmSync(directory, { recursive: true, force: true })
    mkdirSync(directory, { recursive: true })
    const file = join(directory, 'program.cjs')
    writeFileSync(file, PROGRAM)
    expect(await runNode(['--no-warnings', file])).to.deep.equal({ code: 0, signal: null, stdout: 'Hello, world\ntrue\n', stderr: '' })
  })
})
