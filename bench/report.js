// What samples come to: ratios to the baseline with their spread, as tables.

import { readFileSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem, type } from 'node:os'
import { BASELINE, here } from './peers.js'
import { PLACEMENT } from './processes.js'

/**
 * One slice of one server.
 *
 * @typedef {object} Sample
 * @property {string} measure
 * @property {string} peer
 * @property {number} rate in the measure's unit
 * @property {number} [cost] CPU time of the server: microseconds an operation, or seconds a gigabyte
 * @property {number} [system] the part of it that is the kernel's
 * @property {number} [serverBusy] cores
 * @property {number} [generatorBusy] cores
 * @property {number} [baseRate] of the baseline's slices before and after
 * @property {number} [baseCost] the same
 * @property {number} [drift] by how much these two differ
 */

/** @typedef {{ median: number, low: number, high: number }} Spread the median, and what 80 % lie between */

/**
 * @typedef {object} Line
 * @property {import('./peers.js').Peer} peer
 * @property {number} count
 * @property {Spread} rate
 * @property {Spread | undefined} rateRatio to the baseline
 * @property {Spread | undefined} cost
 * @property {Spread | undefined} work an operation costs the baseline so many times as much; for memory this is undefined
 * @property {number | undefined} system
 * @property {number | undefined} generatorBusy
 */

/** @typedef {{ measure: import('./peers.js').Measure, lines: Line[] }[]} Summary */

// A ratio says nothing when the machine changed its speed by more than this between the two slices around it.
const MOST_DRIFT = 0.25

/**
 * @param {Sample[]} samples
 * @param {import('./peers.js').Measure[]} measures
 * @param {import('./peers.js').Peer[]} peers
 * @returns {Summary}
 */
export function summarize(samples, measures, peers) {
  return measures.map((measure) => {
    const lines = peers.flatMap((peer) => {
      const own = samples.filter((sample) => sample.measure === measure.name && sample.peer === peer.name)
      if (own.length === 0) return []
      const isBaseline = peer.name === BASELINE
      const steady = own.filter(({ drift = 0 }) => drift <= MOST_DRIFT)
      const costs = own.flatMap(({ cost }) => cost ?? [])
      return {
        peer,
        count: steady.length,
        rate: spread(own.map(({ rate }) => rate)),
        rateRatio: isBaseline ? ONE : spread(steady.flatMap(({ rate, baseRate }) => (baseRate === undefined ? [] : rate / baseRate))),
        cost: spread(costs),
        work: isBaseline
          ? costs.length > 0 && ONE
          : spread(steady.flatMap(({ cost, baseCost }) => (baseCost === undefined ? [] : baseCost / cost))),
        system: spread(own.flatMap(({ system }) => system ?? []))?.median,
        generatorBusy: spread(own.flatMap(({ generatorBusy }) => generatorBusy ?? []))?.median
      }
    })
    return { measure, lines }
  })
}

const ONE = { median: 1, low: 1, high: 1 }

/**
 * @param {number[]} values
 * @returns {Spread | undefined}
 */
function spread(values) {
  if (values.length === 0) return undefined
  const sorted = values.toSorted((a, b) => a - b)
  const at = (part) => {
    const place = (sorted.length - 1) * part
    const low = Math.floor(place)
    return sorted[low] + ((sorted[low + 1] ?? sorted[low]) - sorted[low]) * (place - low)
  }
  return { median: at(0.5), low: at(0.1), high: at(0.9) }
}

/**
 * The one in the middle; of an even number the upper one.
 * @param {number[]} values
 */
export function median(values) {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN
}

/** The machine, in words. */
export function machine() {
  const [{ model }] = cpus()
  return `${model.trim()}, ${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, ${type()} ${release()}`
}

/**
 * The machine and the versions of what was compared on it.
 *
 * @param {import('./peers.js').Peer[]} peers
 */
export function setting(peers) {
  const versions = peers.filter(({ name }) => name !== BASELINE && name !== 'for await').map(({ name, version }) => `${name} ${version}`)
  return [
    `${machine()}; ${PLACEMENT}`,
    `Node.js ${process.versions.node}, ${versions.join(', ')}; ${new Date().toISOString().slice(0, 10)}`
  ].join('. ')
}

/**
 * All of it, for people who ran the benchmark.
 *
 * @param {Summary} summary
 */
export function tables(summary) {
  return summary
    .map(({ measure, lines }) => {
      const isMemory = measure.load === 'idle'
      const isBulk = measure.unit === 'GB/s'
      const head = isMemory
        ? ['', measure.unit, 'ratio', '80 % between', 'n']
        : [
            '',
            measure.unit,
            'ratio',
            '80 % between',
            isBulk ? 'CPU s/GB' : 'CPU µs/op',
            'work per CPU',
            '80 % between',
            'kernel',
            'load busy',
            'n'
          ]
      const rows = lines.map(({ peer, count, rate, rateRatio, cost, work, system, generatorBusy }) => {
        const start = [`${peer.name} (${peer.what})`, figure(rate.median), ...ratio(rateRatio)]
        if (isMemory) return [...start, String(count)]
        return [...start, figure(cost?.median), ...ratio(work), percent(system), percent(generatorBusy), String(count)]
      })
      return `${measure.title}\n\n${table(head, rows)}`
    })
    .join('\n\n')
    .concat(
      "\n\nratio: to node:net in the slices before and after. work per CPU: the same for what a second of the server's CPU time does.",
      '\nn: slices, without those during which the machine changed its speed by more than a quarter.',
      '\nWhere the load is 100 % busy it sets the pace, and only the work per CPU tells servers apart.'
    )
}

/**
 * The ratios alone, for the docs.
 *
 * @param {Summary} summary
 */
export function summaryTables(summary) {
  const names = [...new Set(summary.flatMap(({ lines }) => lines.map(({ peer }) => peer.name)))].filter((name) => name !== BASELINE)
  const rows = (pick) =>
    summary.flatMap(({ measure, lines }) => {
      const base = lines.find(({ peer }) => peer.name === BASELINE)
      const cells = names.map((name) => pick(lines.find(({ peer }) => peer.name === name)))
      if (cells.every((cell) => cell === undefined) || base === undefined) return []
      return [[measure.title, absolute(measure, base), ...cells.map((cell) => (cell === undefined ? '–' : brief(cell)))]]
    })
  const head = ['', BASELINE, ...names]
  const memory = summary.filter(({ measure }) => measure.load === 'idle')
  const parts = [
    "Work per second of the server's CPU time, as a multiple of `node:net` (more is better; in brackets, what 80 % of the slices lie between):",
    table(
      head,
      rows((line) => line?.work)
    ),
    'Rate, the load generator on the other core (more is better):',
    table(
      head,
      rows((line) => (line === undefined || line.work === undefined ? undefined : line.rateRatio))
    )
  ]
  if (memory.length > 0) {
    const lines = memory.map(({ measure, lines }) => {
      const cells = names.map((name) => lines.find(({ peer }) => peer.name === name)?.rateRatio)
      const base = lines.find(({ peer }) => peer.name === BASELINE)
      return [measure.title, `${figure(base?.rate.median)} KiB`, ...cells.map((cell) => (cell === undefined ? '–' : brief(cell)))]
    })
    parts.push('Memory (less is better):', table(head, lines))
  }
  if (summary.some(({ measure }) => measure.isSecure))
    parts.push('In the rows of TLS, `node:net` stands for `node:tls` with event handlers.')
  return parts.join('\n\n')
}

/**
 * @param {import('./peers.js').Measure} measure
 * @param {Line} line
 */
function absolute(measure, line) {
  return `${figure(line.rate.median)} ${measure.unit}, ${figure(line.cost?.median)} ${measure.unit === 'GB/s' ? 's/GB' : 'µs'}`
}

/** @param {Spread} spread */
function brief(spread) {
  return `**${spread.median.toFixed(2)}** (${between(spread)})`
}

/** @param {Spread} spread */
function between({ low, high }) {
  return `${low.toFixed(2)}–${high.toFixed(2)}`
}

/** @param {Spread | undefined} spread */
function ratio(spread) {
  return spread === undefined ? ['–', '–'] : [spread.median.toFixed(2), between(spread)]
}

/** @param {number | undefined} value */
export function figure(value) {
  if (value === undefined) return '–'
  return value >= 100 ? Math.round(value).toLocaleString('en-US') : value.toPrecision(3)
}

/** @param {number | undefined} value */
function percent(value) {
  return value === undefined ? '–' : `${Math.round(value * 100)} %`
}

/**
 * @param {string[]} head
 * @param {string[][]} rows
 */
export function table(head, rows) {
  const widths = head.map((_, i) => Math.max(3, ...[head, ...rows].map((row) => row[i].length)))
  const line = (row) => `| ${row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join(' | ')} |`
  return [
    line(head),
    `| ${widths.map((width, i) => (i === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`)).join(' | ')} |`,
    ...rows.map(line)
  ].join('\n')
}

/**
 * Replaces what stands between the two marks of that name in a page of the docs.
 *
 * @param {string} file
 * @param {string} name
 * @param {string} text
 */
export function writeDocs(file, name, text) {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`]
  const path = here(`../docs/${file}`)
  const page = readFileSync(path, 'utf8')
  const from = page.indexOf(begin)
  const to = page.indexOf(end)
  if (from === -1 || to < from) throw new Error(`Cannot write to docs/${file} as it has no marks: ${begin} … ${end}`)
  writeFileSync(path, `${page.slice(0, from + begin.length)}\n\n${text}\n\n${page.slice(to)}`)
  console.log(`\nWritten to docs/${file}`)
}
