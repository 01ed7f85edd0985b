import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { expect } from 'chai'
import { runNode, skipIf } from './helpers/programs.ts'

// The site is built as `npm run docs` does it. What TypeDoc has understood of the sources is then asked for holes, and every link is followed, as
// far as it stays here: nothing is fetched.

const TYPEDOC = join('site', 'node_modules', 'typedoc', 'bin', 'typedoc')
const SITE = join('dist', 'site-under-test')
const MODEL = join('dist', 'site-under-test.json')

const Kind = { function: 64, class: 128, interface: 256, constructor: 512, property: 1024, method: 2048, accessor: 262_144 } as const

interface Part {
  readonly text: string
}

interface Comment {
  readonly summary: readonly Part[]
  readonly blockTags?: readonly { readonly tag: string; readonly content: readonly Part[] }[]
}

/** What is here of TypeDoc's model. */
interface Name {
  readonly name: string
  readonly variant: string
  readonly kind: number
  readonly comment?: Comment
  readonly children?: readonly Name[]
  readonly signatures?: readonly Name[]
  readonly getSignature?: Name
  readonly type?: { readonly name?: string; readonly declaration?: Name }
  readonly inheritedFrom?: unknown
}

// These throw nothing that a caller could expect: they have no arguments to be wrong, or ignore them, and their promises don't reject.
const NEVER_THROW = [
  'Server.statistics',
  'ByteStream.abort',
  'ListeningSocket.ref',
  'ListeningSocket.unref',
  'Server.return',
  'isPeerError',
  'ConnectionDuplex.ref',
  'ConnectionDuplex.unref'
]

// An error is shown by the function that throws it.
const isError = (name: string): boolean => /^[A-Z].*Error$/.test(name)

describe('the documentation', () => {
  let names: readonly { path: string; top: string; item: Name }[] = []

  before(async function () {
    this.timeout(150_000)
    skipIf(this, !existsSync(TYPEDOC), 'needs TypeDoc, which npm ci installs')
    rmSync(SITE, { recursive: true, force: true })
    const { NODE_V8_COVERAGE: _, ...env } = process.env
    const args = ['--options', 'site', '--out', SITE, '--json', MODEL, '--treatWarningsAsErrors', '--logLevel', 'Warn']
    const { code, stdout, stderr } = await runNode([TYPEDOC, ...args], { env, killAfter: 140_000 })
    expect(code, stdout + stderr).to.equal(0)
    const { children = [] } = JSON.parse(readFileSync(MODEL, 'utf8')) as Name
    names = children.filter(({ variant }) => variant !== 'document').flatMap((item) => namesIn(item, item.name, item.name))
  })

  it('has something to say of every public name', () => {
    expect(names.length).to.be.greaterThan(150)
    expect(names.filter(({ item }) => textOf(item) === '').map(({ path }) => path)).to.deep.equal([])
  })

  it('says it in whole sentences', () => {
    const isSentence = (text: string): boolean => /^[A-Z`'0-9].*[.:]$/s.test(text) || /^accept\(2\)/.test(text)
    const others = names.filter(({ item }) => textOf(item) !== '' && !isSentence(firstParagraphOf(item)))
    expect(others.map(({ path, item }) => `${path}: ${firstParagraphOf(item)}`)).to.deep.equal([])
  })

  it('names the default of every option', () => {
    const options = names.filter(({ top, path, item }) => /(?:Options)$/.test(top) && path !== top && item.type?.name !== 'AbortSignal')
    expect(options.length).to.be.greaterThan(15)
    expect(options.filter(({ item }) => !hasTag(item, '@default')).map(({ path }) => path)).to.deep.equal([])
  })

  it('names the unit of every option that is a number', () => {
    const numbers = names.filter(({ top, path, item }) => /Options$/.test(top) && path !== top && item.type?.name === 'number')
    const unit = /\b(?:milliseconds|bytes|connections|clients|port|bits)\b/i
    expect(numbers.filter(({ item }) => !unit.test(textOf(item))).map(({ path }) => path)).to.deep.equal([])
  })

  it('shows an example of every function and class', () => {
    const shown = names.filter(({ path, top, item }) => path === top && (item.kind === Kind.function || item.kind === Kind.class))
    expect(shown.filter(({ top, item }) => !isError(top) && !hasTag(item, '@example')).map(({ path }) => path)).to.deep.equal([])
  })

  it('tells what each function and method throws', () => {
    const called = names.filter(({ item }) => item.kind === Kind.function || item.kind === Kind.method)
    const silent = called.filter(({ path, item }) => !hasTag(item, '@throws') && !NEVER_THROW.includes(path))
    expect(silent.map(({ path }) => path)).to.deep.equal([])
  })

  it('fetches nothing from elsewhere', () => {
    const fetched = pages().flatMap((page) => {
      const html = readFileSync(page, 'utf8')
      const sources = html.matchAll(/<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)="((?:https?:)?\/\/[^"]*)"/g)
      return [...sources].map(([, url]) => `${page}: ${url}`)
    })
    expect(fetched).to.deep.equal([])
  })

  it('has no page whose links lead nowhere', () => {
    const broken = pages().flatMap((page) => {
      const links = readFileSync(page, 'utf8').matchAll(/\b(?:href|src)="((?![a-z]+:)[^"]*)"/g)
      return [...links].map(([, link = '']) => decodeURI(link)).filter((link) => !leadsSomewhere(page, link))
    })
    expect(pages().length).to.be.greaterThan(70)
    expect([...new Set(broken)]).to.deep.equal([])
  })

  it('has every document among its pages', () => {
    const documents = readdirSync('docs', { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.md'))
    const { projectDocuments } = JSON.parse(readFileSync(join('site', 'typedoc.json'), 'utf8')) as { projectDocuments: string[] }
    expect(projectDocuments).to.include.members(documents.map((file) => `../docs/${file}`))
  })
})

/** `item` and what is in it, each by its path, such as `Server.close`. What is inherited is looked at where it comes from. */
function namesIn(item: Name, path: string, top: string): { path: string; top: string; item: Name }[] {
  const members = [...(item.children ?? []), ...(item.type?.declaration?.children ?? [])]
  const own = members.filter((member) => member.inheritedFrom === undefined && member.kind !== Kind.constructor && !/^\[/.test(member.name))
  return [{ path, top, item }, ...own.flatMap((member) => namesIn(member, `${path}.${member.name}`, top))]
}

function commentsOf(item: Name): Comment[] {
  const all = [item.comment, item.getSignature?.comment, ...(item.signatures ?? []).map(({ comment }) => comment)]
  const declaration = item.type?.declaration
  if (declaration?.signatures !== undefined) all.push(...commentsOf(declaration))
  return all.filter((comment) => comment !== undefined)
}

function textOf(item: Name): string {
  return commentsOf(item)
    .map(({ summary }) => summary.map(({ text }) => text).join(''))
    .join('\n\n')
    .trim()
}

function firstParagraphOf(item: Name): string {
  return textOf(item).split('\n\n')[0] as string
}

function hasTag(item: Name, tag: string): boolean {
  return commentsOf(item).some(({ blockTags = [] }) => {
    return blockTags.some((block) => block.tag === tag && block.content.some(({ text }) => text.trim() !== ''))
  })
}

function pages(): string[] {
  return readdirSync(SITE, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.html'))
    .map((file) => join(SITE, file))
}

const anchors = new Map<string, ReadonlySet<string>>()

function leadsSomewhere(page: string, link: string): boolean {
  const [path = '', fragment = ''] = link.replace(/\?.*?(?=#|$)/, '').split('#')
  const target = path === '' ? page : resolve(dirname(page), path)
  if (!existsSync(target)) return false
  if (fragment === '' || !target.endsWith('.html')) return true
  const key = relative('.', target)
  let ids = anchors.get(key)
  if (ids === undefined) {
    ids = new Set([...readFileSync(target, 'utf8').matchAll(/\bid="([^"]*)"/g)].map(([, id]) => id as string))
    anchors.set(key, ids)
  }
  return ids.has(fragment)
}
