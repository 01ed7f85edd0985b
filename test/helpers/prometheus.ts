// What Prometheus makes of figures, by a parser of others.

import { createRequire } from 'node:module'
import { expect } from 'chai'

interface Family {
  readonly name: string
  readonly type: string
  readonly help: string
  readonly metrics: readonly { readonly value: string; readonly labels?: Readonly<Record<string, string>> }[]
}

const parse = createRequire(import.meta.url)('parse-prometheus-text-format') as (text: string) => Family[]

/** The values by `name` or `name{label="value"}`; fails where a family lacks its type or its help. */
export function figuresIn(text: string): Record<string, number> {
  const figures: Record<string, number> = {}
  for (const { name, type, help, metrics } of parse(text)) {
    expect(type, name).to.equal(name.endsWith('_total') ? 'COUNTER' : 'GAUGE')
    expect(help, name).to.match(/^\S.*\.$/)
    for (const { value, labels = {} } of metrics) {
      const written = Object.entries(labels).map(([label, text]) => `${label}="${text}"`)
      figures[written.length === 0 ? name : `${name}{${written.join(',')}}`] = Number(value)
    }
  }
  return figures
}
