// What the servers under load speak: a line that says what is wanted, then bytes, with a digest wherever they end here.

import { createHash, randomBytes } from 'node:crypto'
import type { Connection } from '../../src/index.ts'

const POOL = randomBytes(1024 * 1024)
const CHUNK = 65_536

/** What the handlers have seen. */
export interface Ledger {
  answered: number
  /** Uploads that looked whole and were not. */
  truncated: number
}

export function newLedger(): Ledger {
  return { answered: 0, truncated: 0 }
}

/** A handler that answers `question …`, `echo N`, `download N`, `upload N`, and a client that asks nothing. */
export function answering(ledger: Ledger): (connection: Connection) => Promise<void> {
  return async (connection) => {
    const { reader, writer } = connection
    let line = await reader.readLine()
    if (line === null) writer.write('bye\n')
    for (; line !== null; line = await reader.readLine()) {
      const [command, count] = line.split(' ')
      const length = Number(count)
      if (command === 'echo') await writer.writeAll(reader)
      else if (command === 'download') await writer(numbered(length))
      else if (command === 'upload') await receive(connection, length, ledger)
      else writer.write(`${line}\n`)
      ledger.answered++
    }
  }
}

/** `length` bytes that no other run has, then their digest. */
async function* numbered(length: number): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256')
  for (let left = length; left > 0; ) {
    const start = Math.floor(Math.random() * (POOL.byteLength - CHUNK))
    const chunk = POOL.subarray(start, start + Math.min(CHUNK, left))
    hash.update(chunk)
    left -= chunk.byteLength
    yield chunk
  }
  yield Buffer.from(hash.digest('hex'), 'latin1')
}

async function receive({ reader, writer }: Connection, length: number, ledger: Ledger): Promise<void> {
  const hash = createHash('sha256')
  let left = length
  while (left > 0) {
    const chunk = await reader.read()
    if (chunk === null) {
      ledger.truncated++
      return
    }
    hash.update(chunk)
    left -= chunk.byteLength
  }
  writer.write(hash.digest('hex'))
}

/** `bytes` bytes in chunks that are made one by one, counted by `onChunk`. */
export function* fresh(bytes: number, onChunk: (length: number) => void): Generator<Uint8Array> {
  for (let left = bytes; left > 0; left -= CHUNK) {
    onChunk(CHUNK)
    yield new Uint8Array(CHUNK)
  }
}
