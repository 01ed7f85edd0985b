// What every server of the benchmark has in common, on Node.js, Deno and Bun: its arguments, and a line to its parent.

import { readFileSync } from 'node:fs'
import process from 'node:process'

const [behaviour = 'echo', bytes = '0'] = process.argv.slice(-2)

/** Whether clients speak TLS. */
export const IS_SECURE = behaviour.startsWith('tls-')

/** What this server is to do with each connection. */
export const BEHAVIOUR = behaviour.replace('tls-', '')

/** Key and certificate of the server, where clients speak TLS. */
export const identity = () => ({
  key: readFileSync(`${process.env.BENCH_IDENTITY}.key`),
  cert: readFileSync(`${process.env.BENCH_IDENTITY}.crt`)
})

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
  process.stdin.on('data', (line) => {
    if (String(line).startsWith('{')) return
    if (String(line).startsWith('gc')) {
      const begin = performance.now()
      globalThis.gc()
      tell({ milliseconds: performance.now() - begin })
      return
    }
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

/**
 * Instead of {@link ready}, for a process that dials: it is told where and for how long, and does so with some at a time.
 *
 * @param {(port: number) => Promise<void>} dial a connection from its beginning to its end
 */
export function readyToDial(dial) {
  ready(0)
  process.stdin.on('data', async (line) => {
    if (!String(line).startsWith('{')) return
    const { port, connections, milliseconds } = JSON.parse(String(line))
    const begin = performance.now()
    let amount = 0
    const dialAgain = async () => {
      for (; performance.now() - begin < milliseconds; amount++) await dial(port)
    }
    await Promise.all(Array.from({ length: connections }, dialAgain))
    tell({ amount, seconds: (performance.now() - begin) / 1000 })
  })
}

/** @param {object} message */
function tell(message) {
  process.stdout.write(`${JSON.stringify(message)}\n`)
}
