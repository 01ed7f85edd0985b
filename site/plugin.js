// Makes the site of TypeDoc's parts: guides by their headings, the API by what it is about.

import { basename } from 'node:path'
import { Comment, CommentTag, Converter, JSX, ReflectionKind } from 'typedoc'

// The sources have one concept per file, so the file tells the category. Options stand together, wherever they come from.
const CATEGORIES = {
  'connect.ts': 'Clients',
  'where-to-connect.ts': 'Clients',
  'connection.ts': 'Connections',
  'reader.ts': 'Connections',
  'proxy-header.ts': 'PROXY protocol',
  'header.ts': 'PROXY protocol',
  'read-header.ts': 'PROXY protocol',
  'writer.ts': 'Connections',
  'streams.ts': 'Connections',
  'duplex.ts': 'Connections',
  'web-streams.ts': 'Connections',
  'relay.ts': 'Connections',
  'server.ts': 'Servers',
  'listen.ts': 'Servers',
  'server-statistics.ts': 'Servers',
  'tls.ts': 'TLS',
  'tls-context.ts': 'TLS',
  'consumer-pool.ts': 'Servers',
  'where-to-listen.ts': 'Servers',
  'address.ts': 'Addresses',
  'options.ts': 'Options',
  'errors.ts': 'Errors',
  'peer-error.ts': 'Errors',
  'diagnostics.ts': 'Diagnostics'
}

/** Documents that tell of the project and not of its use. */
const ABOUT_THE_PROJECT = ['rationale.md', 'CHANGELOG.md']

const OPEN_GUIDES = "try { localStorage['tsd-accordion-Guides'] ??= 'true' } catch {}"

export function load(app) {
  app.converter.on(Converter.EVENT_CREATE_DOCUMENT, (_, document) => {
    const file = document.project.files.getReflectionPath(document) ?? ''
    const [, heading] = /^\s*# (.+)\n/.exec(document.content.map(({ text }) => text).join('')) ?? []
    if (heading === undefined) throw new Error(`${file} does not start with a heading`)
    document.name = heading.replaceAll('`', '')
    // The list of a page's headings leaves out what is code in them.
    let line = ''
    for (const part of document.content) {
      if (part.kind === 'code' && /^#+ /.test(line)) Object.assign(part, { kind: 'text', text: part.text.replaceAll('`', '') })
      line = `${line}${part.text}`.split('\n').at(-1) ?? ''
    }
    document.frontmatter.category = ABOUT_THE_PROJECT.includes(basename(file)) ? 'Project' : 'Guides'
  })

  app.converter.on(Converter.EVENT_CREATE_DECLARATION, (context, reflection) => {
    // What an override says nothing of is said by what it overrides, also where that is not exported: as editors have it.
    if (reflection.kindOf(ReflectionKind.Property) && !reflection.hasComment()) {
      const said = context.getSymbolFromReflection(reflection)?.getDocumentationComment(context.checker) ?? []
      if (said.length > 0) reflection.comment = new Comment(said.map(({ text }) => ({ kind: 'text', text })))
    }
    if (reflection.parent !== context.project || !reflection.kindOf(ReflectionKind.SomeExport)) return
    const file = basename(context.getSymbolFromReflection(reflection)?.declarations?.[0]?.getSourceFile().fileName ?? '')
    const category = reflection.name.endsWith('Options') ? 'Options' : CATEGORIES[file]
    if (category === undefined) throw new Error(`${reflection.name} of ${file} has no category: name one in site/plugin.js`)
    reflection.comment ??= new Comment()
    reflection.comment.blockTags.push(new CommentTag('@category', [{ kind: 'text', text: category }]))
  })

  app.converter.on(Converter.EVENT_RESOLVE_END, (context) => {
    for (const { comment } of Object.values(context.project.reflections)) {
      if (comment === undefined) continue
      for (const part of comment.summary)
        part.text = part.text.replaceAll(/(^|\n)(Ownership|Cancellation|Differs from Async): /g, '\n\n**$2:** ')
      gatherThrows(comment, context.project)
    }
  })

  // All of the navigation is closed at first. Who comes for the first time wants the guides.
  app.renderer.hooks.on('head.end', () => JSX.createElement('script', null, JSX.createElement(JSX.Raw, { html: OPEN_GUIDES })))
}

/** TypeDoc gives each `@throws` a heading of its own: a list with links says the same in a fifth of the space. */
function gatherThrows(comment, project) {
  const all = comment.getTags('@throws')
  if (all.length === 0) return
  const list = all.flatMap((tag, index) => {
    const names = tag.typeAnnotation?.slice(1, -1).split(' | ') ?? []
    const links = names.flatMap((name, index) => [{ kind: 'text', text: index === 0 ? '' : ' or ' }, nameOf(name, project)])
    const condition = tag.content.map((part) => ({ ...part, text: part.text.replaceAll('\n', ' ') }))
    if (names.length > 0) condition[0].text = condition[0].text.replace(/^\s*If /, ' if ')
    return [{ kind: 'text', text: `${index === 0 ? '' : '\n'}- ` }, ...links, ...condition]
  })
  const first = comment.blockTags.indexOf(all[0])
  comment.blockTags[first] = new CommentTag('@throws', list)
  comment.blockTags = comment.blockTags.filter((tag) => tag.tag !== '@throws' || tag.content === list)
}

function nameOf(name, project) {
  const target = project.getChildByName(name)
  return target === undefined ? { kind: 'code', text: `\`${name}\`` } : { kind: 'inline-tag', tag: '@link', text: name, target }
}
