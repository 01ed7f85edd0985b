// Makes the JavaScript of the published package: a few files in place of one for each source, since each costs some 0.6 ms to load.
// Run by `prepack`; types come from tsc, and specs run what `npm run build` makes.

import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

// What a program takes one of without the others. esbuild puts sources together that are needed by the same of these, so that a bundler
// still leaves out what a program does not use, by whole files: most statements at their top can't be shown to be without effect.
const PARTS = {
  pool: ['consumer-pool'],
  client: ['connect', 'where-to-connect', 'relay', 'streams', 'proxy-header', 'tls-context'],
  // The pool once more: what it shares with servers needs no file of its own then.
  server: ['server', 'listen', 'where-to-listen', 'consumer-pool']
}
const root = fileURLToPath(new URL('..', import.meta.url))
const settings = {
  absWorkingDir: root,
  outdir: 'dist',
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'es2022',
  packages: 'external'
}

const parts = {
  name: 'parts',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^part:/ }, ({ path }) => ({ path, namespace: 'part' }))
    onLoad({ filter: /^part:/ }, ({ path }) => {
      const sources = PARTS[path.slice('part:'.length)]
      return { contents: sources.map((name) => `export * from './src/${name}.ts'`).join('\n'), resolveDir: root }
    })
  }
}
const entries = ['index', 'testing'].map((name) => ({ in: `src/${name}.ts`, out: `src/${name}` }))
const library = await build({
  ...settings,
  entryPoints: [...entries, ...Object.keys(PARTS).map((name) => ({ in: `part:${name}`, out: `part-${name}` }))],
  chunkNames: 'src/chunk-[hash]',
  splitting: true,
  plugins: [parts],
  write: false
})
// The command gets the library by its name, as everybody does.
const command = await build({ ...settings, entryPoints: [{ in: 'cli/main.ts', out: 'cli/main' }], write: false })

for (const { path, text } of [...library.outputFiles, ...command.outputFiles]) {
  // The parts themselves only name what is in the other files.
  if (/\bpart-\w+\.js$/.test(path)) continue
  mkdirSync(dirname(path), { recursive: true })
  // Each file imports what it needs: to import another for its effects only would make bundlers warn, since none has any.
  const code = text.replaceAll(/^import "\.\/chunk-\w+\.js";\n/gm, '')
  // esbuild calls a class that names itself `_Server`, which stack traces and `console.log` would show.
  const names = [...code.matchAll(/ = class _(\w+)/g)].map(([, name]) => name)
  writeFileSync(path, names.length === 0 ? code : code.replaceAll(new RegExp(`\\b_(${names.join('|')})\\b`, 'g'), '$1'))
}
