// The public types of the package as text: what each export is declared as, and what those declarations name. `npm run types:snapshot` writes it to
// test/types/api.snapshot.txt, with which test/api.spec.ts compares what was built; `--print` writes it to standard output.

import { writeFileSync } from 'node:fs'
import { dirname, join, resolve, sep } from 'node:path'
import ts from 'typescript-5.9'

const ROOT = resolve(import.meta.dirname ?? '.', '..')
const BUILT = join(ROOT, 'dist', 'src') + sep
const SNAPSHOT = join(ROOT, 'test', 'types', 'api.snapshot.txt')
const ENTRIES = { 'it-tcp': 'index.d.ts', 'it-tcp/testing': 'testing.d.ts' }

const program = ts.createProgram(
  Object.values(ENTRIES).map((file) => BUILT + file),
  {
    module: ts.ModuleKind.NodeNext,
    target: ts.ScriptTarget.ESNext,
    lib: ['lib.esnext.d.ts', 'lib.dom.d.ts'],
    types: ['node'],
    strict: true
  }
)
const checker = program.getTypeChecker()
const printer = ts.createPrinter({ removeComments: true })

const exported = new Map()
for (const [entry, file] of Object.entries(ENTRIES)) {
  const module = checker.getSymbolAtLocation(program.getSourceFile(BUILT + file))
  for (const symbol of checker.getExportsOfModule(module)) exported.set(`${entry} ${symbol.name}`, resolved(symbol))
}

const known = new Set(exported.values())
const named = new Map()
for (const symbol of known) follow(symbol)

const text = [
  ...[...exported].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, symbol]) => `// ${name}\n${textOf(symbol)}`),
  ...[...named].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, symbol]) => `// not exported: ${name}\n${textOf(symbol)}`)
].join('\n\n')

if (process.argv.includes('--print')) console.log(text)
else writeFileSync(SNAPSHOT, `${text}\n`)

function resolved(symbol) {
  return symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol
}

function isOurs(declaration) {
  return resolve(declaration.getSourceFile().fileName).startsWith(BUILT)
}

function declarationsOf(symbol) {
  return (symbol.declarations ?? []).filter((declaration) => isOurs(declaration) && !ts.isTypeParameterDeclaration(declaration))
}

// Takes in what the declarations of `symbol` name, as far as it is of this package and stands at the top of a file that is no machinery: what users get at
// of the machinery is exported.
function follow(symbol) {
  const visit = (node) => {
    if (ts.isIdentifier(node)) {
      const found = checker.getSymbolAtLocation(node)
      if (found !== undefined) takeIn(resolved(found))
    }
    ts.forEachChild(node, visit)
  }
  for (const declaration of declarationsOf(symbol)) visit(declaration)
}

function takeIn(symbol) {
  const [declaration] = declarationsOf(symbol)
  if (known.has(symbol) || declaration === undefined) return
  const top = ts.isVariableDeclaration(declaration) ? declaration.parent.parent : declaration
  if (!ts.isSourceFile(top.parent) || dirname(resolve(top.parent.fileName)) + sep !== BUILT) return
  known.add(symbol)
  named.set(symbol.name, symbol)
  follow(symbol)
}

function textOf(symbol) {
  return declarationsOf(symbol)
    .map((declaration) => {
      const node = ts.isVariableDeclaration(declaration) ? declaration.parent.parent : declaration
      return printer.printNode(ts.EmitHint.Unspecified, node, declaration.getSourceFile()).replace(/^export (?:declare )?|^declare /, '')
    })
    .join('\n')
}
