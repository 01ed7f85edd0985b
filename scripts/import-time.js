// What `import 'it-tcp'` adds to the start of a bare Node.js: medians of interleaved runs. Run: npm run package:import-time -- [RUNS]

import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const RUNS = Number(process.argv[2] ?? 31)
const built = new URL('../dist/src/index.js', import.meta.url).href

const PROGRAMS = {
  'bare Node.js': '',
  "import 'node:net'": "import 'node:net'",
  "import 'it-tcp'": `import ${JSON.stringify(built)}`
}

const directory = mkdtempSync(join(tmpdir(), 'it-tcp-import-'))
const times = Object.fromEntries(Object.keys(PROGRAMS).map((name) => [name, []]))
try {
  for (const [index, text] of Object.values(PROGRAMS).entries()) writeFileSync(join(directory, `${index}.mjs`), text)
  // The first round fills the caches of the file system and is not counted.
  for (let round = 0; round <= RUNS; round++) {
    for (const [index, name] of Object.keys(PROGRAMS).entries()) {
      const start = performance.now()
      const { status } = spawnSync(process.execPath, [join(directory, `${index}.mjs`)], { stdio: 'inherit' })
      if (status !== 0) throw new Error(`${name} ended with ${status}`)
      if (round > 0) times[name].push(performance.now() - start)
    }
  }
} finally {
  rmSync(directory, { recursive: true, force: true })
}

const [bare, ...others] = Object.entries(times).map(([name, values]) => ({ name, ...quartiles(values) }))
console.log(`Node.js ${process.versions.node}, ${RUNS} interleaved runs of each, milliseconds: median (quartiles)`)
for (const { name, low, median, high } of [bare, ...others]) {
  console.log(
    `${name.padEnd(18)} ${median.toFixed(1).padStart(6)} (${low.toFixed(1)} to ${high.toFixed(1)})  +${(median - bare.median).toFixed(1)}`
  )
}

function quartiles(values) {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (part) => sorted[Math.floor((sorted.length - 1) * part)]
  return { low: at(0.25), median: at(0.5), high: at(0.75) }
}
