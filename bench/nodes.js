// Which Node.js runs what is measured: those that are installed beside the benchmark, or named.

import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { here } from './peers.js'

/** The lines that `bench/package.json` installs where it can. */
const LINES = ['24', '26']

/**
 * The programs of the lines of Node.js that are named, such as `24,26`; without a name of all that are installed here, or the one that
 * runs this.
 *
 * @param {string | undefined} names
 * @returns {{ line: string, program: string }[]}
 */
export function nodes(names) {
  if (names !== undefined) return names.split(',').map((line) => ({ line, program: find(line) ?? missing(line) }))
  const installed = LINES.flatMap((line) => {
    const program = find(line)
    return program === undefined ? [] : [{ line, program }]
  })
  return installed.length > 0 ? installed : [{ line: own, program: process.execPath }]
}

const [own = ''] = process.versions.node.split('.')

/** @param {string} line */
function find(line) {
  const installed = here(`node_modules/node${line}/bin/node`)
  if (existsSync(installed)) return installed
  if (line === own) return process.execPath
  return spawnSync(`node${line}`, ['--version']).status === 0 ? `node${line}` : undefined
}

/**
 * @param {string} line
 * @returns {never}
 */
function missing(line) {
  throw new Error(`Cannot find Node.js ${line}: neither bench/node_modules/node${line} nor a program node${line} is there`)
}
