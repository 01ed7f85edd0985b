import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import type { Connection } from '../../src/index.ts'
import { inEverySetting } from '../helpers/settings.ts'

const ROOT = process.cwd()

/** Every program that a reader may copy, by where it stands. */
function programs(): [string, string][] {
  const pages = ['README.md', ...filesOf('docs', '.md')]
  const blocks = pages.flatMap((page) =>
    [...read(page).matchAll(/^```ts\n(.*?)^```/gms)].map(([, code], index): [string, string] => [`${page}, ${index + 1}`, code as string])
  )
  return [...blocks, ...filesOf('examples', '.ts').map((file): [string, string] => [file, read(file)])]
}

/** The loops of a program over what a peer sends, each with its body. */
function loopsOverInput(code: string): string[] {
  return [...code.matchAll(/^( *)for (?:await )?\(.*\breader\b.*$/gm)].map(({ 0: head, 1: indent = '', index }) => {
    if (!head.endsWith('{')) return head
    const end = code.indexOf(`\n${indent}}`, index)
    return code.slice(index, end)
  })
}

describe('Programs that everybody copies: one client that sends and does not read fills no memory', () => {
  it('no loop over what a client sends writes without waiting for the client to read', () => {
    const loops = programs().flatMap(([where, code]) => loopsOverInput(code).map((loop): [string, string] => [where, loop]))
    // But for the one that shows how a write fails.
    const writing = loops.filter(([, loop]) => loop.includes('writer.write(') && !loop.includes('break it'))
    expect(writing.length).to.be.greaterThan(8)
    expect(writing.filter(([, loop]) => !loop.includes('flushed()')).map(([where, loop]) => `${where}: ${loop}`)).to.deep.equal([])
  })

  inEverySetting(
    (setting) => {
      it('the first of them holds less than a chunk, however much a client sends', async () => {
        let held: Connection | undefined
        async function greet(connection: Connection) {
          held = connection
          const { reader, writer } = connection
          for await (const line of reader.lines()) {
            writer.write(`Hello, ${line}\n`)
            await writer.flushed()
          }
        }
        expect(read('README.md')).to.match(/writer\.write\(`Hello, \$\{line\}\\n`\)\n {4}await writer\.flushed\(\)/)
        const server = await setting.create({ onHandlerError: 'ignore' }, greet)
        const client = await setting.client(server)
        const feeds = Buffer.alloc(65_536, 10)
        let most = 0
        // The client's own system takes no more once the server reads no more.
        for (let sent = 0; sent < 64 && client.writableLength < 4 * feeds.byteLength; sent++) {
          client.write(feeds)
          await setting.turns(2)
          most = Math.max(most, held?.writer.bytesPending ?? 0)
        }
        expect(held).not.to.equal(undefined)
        expect(most).to.be.below(65_536)
        client.destroy()
      })
    },
    { isKernel: true }
  )
})

function filesOf(directory: string, extension: string): string[] {
  return readdirSync(join(ROOT, directory), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(extension))
    .map((entry) => join(entry.parentPath.slice(ROOT.length + 1), entry.name))
}

function read(file: string): string {
  return readFileSync(join(ROOT, file), 'utf8')
}
