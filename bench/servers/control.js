// What every server of the benchmark has in common, on Node.js, Deno and Bun: its arguments, and a line to its parent.

import process from 'node:process'

const [behaviour = 'echo', bytes = '0'] = process.argv.slice(-2)

/** What this server is to do with each connection. */
export const BEHAVIOUR = behaviour

/** Bytes that a `receive` server expects, and that a `send` server sends, on each connection. */
export const BYTES = Number(bytes)

const CHUNK = new Uint8Array(65_536).fill(0x61)

/** What a `send` server sends: `BYTES` in chunks of 64 KiB. */
export function* chunks() {
  for (let left = BYTES; left > 0; left -= CHUNK.byteLength) yield left < CHUNK.byteLength ? CHUNK.subarray(0, left) : CHUNK
}

/**
 * Tells the parent the port; from then on each line from it is answered with what the process has used so far. The end of
 * the parent is the end of the server.
 *
 * @param {number} port
 */
export function ready(port) {
  tell({ port })
  process.stdin.on('data', () => {
    const { user, system } = process.cpuUsage()
    tell({
      pid: process.pid,
      cpu: (user + system) / 1e6,
      system: system / 1e6,
      rss: process.memoryUsage.rss?.() ?? process.memoryUsage().rss
    })
  })
  process.stdin.on('end', () => process.exit())
}

/** @param {object} message */
function tell(message) {
  process.stdout.write(`${JSON.stringify(message)}\n`)
}
