// The measured part of docs/reliability.md, which is written by the programs that measure.

import { readFileSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'

const DOCS = new URL('../../../docs/reliability.md', import.meta.url)

/** Replaces what stands between the marks of `name` by `text` and a line on where and when it was measured. */
export function writeSection(name: 'load' | 'soak', text: string): void {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`]
  const page = readFileSync(DOCS, 'utf8')
  const [before, rest] = page.split(begin)
  const after = rest?.split(end)[1]
  if (before === undefined || after === undefined) throw new Error(`There is no ${begin} … ${end} in the page`)
  writeFileSync(DOCS, `${before}${begin}\n\n${text}\n\n${machine()}\n\n${end}${after}`)
}

function machine(): string {
  const [cpu] = cpus()
  const hardware = `${cpu?.model.trim()}, ${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB`
  return `${hardware}, ${process.platform} ${release()}. Node.js ${process.versions.node}; ${new Date().toISOString().slice(0, 10)}.`
}
