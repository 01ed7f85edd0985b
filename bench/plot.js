// Draws how costs grow: a panel for each, both axes logarithmic; what costs the same at every size is a level line.

import { escaped, STYLE } from './chart.js'
import { figure } from './report.js'

const PANEL = { width: 400, height: 190, left: 62, top: 40 }
const MARGIN = 24
const HEAD = 62

/**
 * @param {{ title: string, unit: string, points: { size: number, cost: number }[] }[]} lines
 * @param {string} where the machine and the version
 */
export function plot(lines, where) {
  const width = 2 * PANEL.width + 3 * MARGIN
  const foot = HEAD + Math.ceil(lines.length / 2) * (PANEL.height + PANEL.top + MARGIN)
  const label = lines.map(({ title, points }) => `${title}: ${points.map(({ size, cost }) => `${size} ${figure(cost)}`).join(', ')}`)
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${foot + 36}" width="${width}" height="${foot + 36}" role="img" aria-label="${escaped(label.join('. '))}">`,
    `<style>${STYLE}\n</style>`,
    `<rect class="card" x=".5" y=".5" width="${width - 1}" height="${foot + 35}" rx="8"/>`,
    `<text class="head" x="${MARGIN}" y="34">CPU time of one operation as the work grows</text>`,
    `<text class="quiet" x="${MARGIN}" y="54">Both axes are logarithmic. A level line: each costs the same, however many there are.</text>`,
    ...lines.map((line, i) =>
      drawPanel(line, MARGIN + (i % 2) * (PANEL.width + MARGIN), HEAD + Math.floor(i / 2) * (PANEL.height + PANEL.top + MARGIN))
    ),
    `<text class="quiet" x="${MARGIN}" y="${foot + 20}">${escaped(where)}</text>`,
    '</svg>',
    ''
  ].join('\n')
}

/**
 * @param {{ title: string, unit: string, points: { size: number, cost: number }[] }} line
 * @param {number} x
 * @param {number} y
 */
function drawPanel({ title, unit, points }, x, y) {
  const [left, top] = [x + PANEL.left, y + PANEL.top]
  const [width, height] = [PANEL.width - PANEL.left - 20, PANEL.height - 30]
  const costs = points.map(({ cost }) => cost)
  // Whole powers of ten, so that a small change does not look like a large one.
  const [low, high] = [Math.floor(Math.log10(Math.min(...costs))), Math.ceil(Math.log10(Math.max(...costs)) + 0.01)]
  const sizes = points.map(({ size }) => Math.log10(size))
  const [first, last] = [Math.min(...sizes), Math.max(...sizes)]
  const across = (size) => left + ((Math.log10(size) - first) / (last - first || 1)) * width
  const up = (cost) => top + height - ((Math.log10(cost) - low) / (high - low)) * height
  const grid = Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i))
  return [
    `<text class="title" x="${x}" y="${y + 20}">${escaped(title)}</text>`,
    ...grid.flatMap((cost) => [
      `<path class="base" d="M${left} ${up(cost).toFixed(1)}h${width}"/>`,
      `<text class="quiet" x="${left - 8}" y="${(up(cost) + 4).toFixed(1)}" text-anchor="end">${Number(cost.toPrecision(1))} ${unit}</text>`
    ]),
    ...points.map(
      ({ size }) => `<text class="quiet" x="${across(size).toFixed(1)}" y="${top + height + 20}" text-anchor="middle">${short(size)}</text>`
    ),
    `<path class="line" d="${points.map(({ size, cost }, i) => `${i === 0 ? 'M' : 'L'}${across(size).toFixed(1)} ${up(cost).toFixed(1)}`).join('')}"/>`,
    ...points.map(({ size, cost }) => `<circle class="own" cx="${across(size).toFixed(1)}" cy="${up(cost).toFixed(1)}" r="3.5"/>`)
  ].join('\n')
}

/** @param {number} size */
function short(size) {
  if (size >= 1e6) return `${size / 1e6} M`
  return size >= 1e3 ? `${size / 1e3} k` : String(size)
}
