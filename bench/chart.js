// Draws the chart: one panel a measure, one bar a peer, a whisker for the spread, a line where node:net is.

import { BASELINE } from './peers.js'
import { figure } from './report.js'

const PANEL = { width: 440, titleHeight: 40, barHeight: 20, gap: 16 }
const LABEL_WIDTH = 106
const BAR_WIDTH = 220
const MARGIN = 24
const HEAD = 62

// A card of its own in either theme: what is around the picture is not known to it.
export const STYLE = `
  text { font: 13px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #1f2328 }
  .card { fill: #ffffff; stroke: #d1d9e0 }
  text { paint-order: stroke; stroke: #ffffff; stroke-width: 3px; stroke-linejoin: round }
  .title { font-weight: 600 }
  .head { font-size: 17px; font-weight: 600 }
  .quiet { font-size: 11px; fill: #59636e }
  .bar { fill: #9aa7b5 }
  .own { fill: #1a7f5a }
  .ownText { font-weight: 600 }
  .base { stroke: #59636e; stroke-dasharray: 3 3 }
  .whisker { stroke: #1f2328; stroke-opacity: .55 }
  .line { fill: none; stroke: #1a7f5a; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; stroke: #0d1117 }
    .card { fill: #0d1117; stroke: #3d444d }
    .quiet { fill: #9198a1 }
    .bar { fill: #57606a }
    .own { fill: #2fb583 }
    .base { stroke: #9198a1 }
    .whisker { stroke: #f0f6fc }
    .line { stroke: #2fb583 }
  }`

/**
 * @param {import('./report.js').Summary} summary
 * @param {string} where the machine and the versions
 */
export function chart(summary, where) {
  const panels = summary.filter(({ lines }) => lines.length > 0)
  const heights = panels.map(({ lines }) => PANEL.titleHeight + lines.length * PANEL.barHeight + PANEL.gap)
  const notes = wrap(where, 130)
  const ends = [HEAD + MARGIN, HEAD + MARGIN]
  const places = panels.map((_, i) => {
    const column = ends[0] <= ends[1] ? 0 : 1
    const top = ends[column]
    ends[column] += heights[i]
    return { column, top }
  })
  const width = 2 * PANEL.width + 2 * MARGIN
  const foot = Math.max(...ends)
  const height = foot + 16 * notes.length + MARGIN / 2
  const label = panels.map(
    ({ measure, lines }) => `${measure.title}: ${lines.map((line) => `${line.peer.name} ${shown(line)?.median.toFixed(2)}`).join(', ')}`
  )
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escaped(label.join('. '))}">`,
    `<style>${STYLE}\n</style>`,
    `<rect class="card" x=".5" y=".5" width="${width - 1}" height="${height - 1}" rx="8"/>`,
    `<text class="head" x="${MARGIN}" y="34">Work per second of the server's CPU time, ${BASELINE} = 1</text>`,
    `<text class="quiet" x="${MARGIN}" y="54">Longer is better, except for memory. The thin lines show what 80 % of the slices lie between.</text>`,
    ...panels.map((panel, i) => drawPanel(panel, MARGIN + places[i].column * PANEL.width, places[i].top)),
    ...notes.map((note, i) => `<text class="quiet" x="${MARGIN}" y="${foot + 16 * i + 4}">${escaped(note)}</text>`),
    '</svg>',
    ''
  ].join('\n')
}

/** @param {import('./report.js').Line} line */
function shown({ work, rateRatio }) {
  return work || rateRatio
}

/**
 * @param {import('./report.js').Summary[number]} panel
 * @param {number} x
 * @param {number} y
 */
function drawPanel({ measure, lines }, x, y) {
  const isMemory = measure.load === 'idle'
  // One bar far above the others would press them flat.
  const most = Math.min(isMemory ? 4 : 3, Math.max(1.2, ...lines.map((line) => shown(line)?.high ?? 0)))
  const scale = (value) => (Math.min(value, most) / most) * BAR_WIDTH
  const base = lines.find(({ peer }) => peer.name === BASELINE)
  const absolute = base === undefined ? '' : `1 = ${figure(isMemory ? base.rate.median : base.cost?.median)} ${costUnit(measure)}`
  const left = x + LABEL_WIDTH
  const top = y + PANEL.titleHeight - 12
  const bars = lines.flatMap((line, i) => {
    const ratio = shown(line)
    const at = top + i * PANEL.barHeight
    const middle = at + PANEL.barHeight / 2
    const isOwn = line.peer.name === 'it-tcp'
    const name = `<text class="${isOwn ? 'ownText' : ''}" x="${left - 8}" y="${middle + 4.5}" text-anchor="end">${escaped(line.peer.name)}</text>`
    if (ratio === undefined) return [name, `<text class="quiet" x="${left + 8}" y="${middle + 4.5}">too unsteady to tell</text>`]
    const { median, low, high } = ratio
    const beyond = median > most ? ' →' : ''
    return [
      name,
      `<rect class="${isOwn ? 'own' : 'bar'}" x="${left}" y="${at + 3}" width="${scale(median).toFixed(1)}" height="${PANEL.barHeight - 6}" rx="2"/>`,
      high > low ? `<path class="whisker" d="M${(left + scale(low)).toFixed(1)} ${middle}H${(left + scale(high)).toFixed(1)}"/>` : '',
      `<text class="${isOwn ? 'ownText' : ''}" x="${(left + scale(Math.max(median, high)) + 8).toFixed(1)}" y="${middle + 4.5}">${median.toFixed(2)}${beyond}</text>`
    ]
  })
  return [
    `<text class="title" x="${x}" y="${y + 12}">${escaped(measure.title)}<tspan class="quiet" dx="10">${escaped(absolute)}${isMemory ? ', less is better' : ''}</tspan></text>`,
    `<path class="base" d="M${(left + scale(1)).toFixed(1)} ${top}v${lines.length * PANEL.barHeight}"/>`,
    ...bars
  ].join('\n')
}

/** @param {import('./peers.js').Measure} measure */
function costUnit({ unit, load }) {
  if (load === 'idle') return unit
  return unit === 'GB/s' ? 'CPU s/GB' : 'CPU µs'
}

/**
 * @param {string} text
 * @param {number} length
 */
function wrap(text, length) {
  return text.split(' ').reduce(
    (lines, word) => {
      const last = lines.length - 1
      if (lines[last] === '') lines[last] = word
      else if (lines[last].length + word.length < length) lines[last] += ` ${word}`
      else lines.push(word)
      return lines
    },
    ['']
  )
}

/** @param {string} text */
export function escaped(text) {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;')
}
