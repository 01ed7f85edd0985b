// node --expose-gc survivor.js tcp|unix, forked: a server with limits on time, which also dials itself. Tells how it is when asked.

import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  BufferAgeLimitError,
  ConnectionResetError,
  connect,
  DelimiterNotFoundError,
  IdleTimeoutError,
  onFile,
  onPort,
  Server,
  toFile,
  toHostAndPort
} from '../../src/index.ts'
import { descriptors } from '../helpers/descriptors.ts'
import type { Target } from '../helpers/raw.ts'
import { memoryWithoutGarbage } from './meter.ts'
import type { Health } from './mixture.ts'
import { answering, newLedger } from './protocol.ts'

const LIMIT = 3_000
const FROM_OUTSIDE = [BufferAgeLimitError, ConnectionResetError, DelimiterNotFoundError, IdleTimeoutError]
const KEPT_FAULTS = 10

const directory = mkdtempSync(join(tmpdir(), 'it-tcp-'))
const ledger = newLedger()
const faults: string[] = []
let dialled = 0
let isResting = false

const options = {
  maxConnections: 100,
  idleTimeout: LIMIT,
  bufferAgeLimit: LIMIT,
  onHandlerError(_: unknown, error: unknown): void {
    if (!FROM_OUTSIDE.some((Class) => error instanceof Class)) fault(error)
  }
}
const server =
  process.argv[2] === 'tcp'
    ? await Server.create(onPort(0, { host: '127.0.0.1' }), options, answering(ledger))
    : await Server.create(onFile(join(directory, 's')), options, answering(ledger))

process.on('message', async () => {
  server.invariant()
  isResting = true
  const { resident, held } = await memoryWithoutGarbage()
  const health: Health = {
    target: server.listeningOn as Target,
    open: server.numConnections,
    resident,
    held,
    descriptors: descriptors(),
    truncated: ledger.truncated,
    faults,
    dialled
  }
  isResting = false
  process.send?.(health)
})
process.on('disconnect', () => {
  rmSync(directory, { recursive: true, force: true })
  process.exit()
})
setInterval(() => void dialItself().catch(fault), 200)

/** What the library sends and receives itself, compared by digest; and an attempt that is given up. */
async function dialItself(): Promise<void> {
  if (isResting) return
  const { listeningOn } = server
  const where = typeof listeningOn === 'string' ? toFile(listeningOn) : toHostAndPort('127.0.0.1', listeningOn)
  const controller = new AbortController()
  const lost = connect(where, { signal: controller.signal }).then(
    (connection) => connection.abort(),
    () => {}
  )
  controller.abort()
  await lost
  await using connection = await connect(where)
  const data = randomBytes(1 + Math.floor(Math.random() * 500_000))
  const sent = connection.writer([Buffer.from(`echo ${data.byteLength}\n`), data])
  const received = await connection.reader.readAll()
  await sent
  if (digestOf(received) !== digestOf(data)) throw new Error(`${received.byteLength} of ${data.byteLength} bytes came back`)
  dialled++
}

function digestOf(data: Uint8Array): string {
  return createHash('sha256').update(data).digest('hex')
}

function fault(error: unknown): void {
  if (faults.length < KEPT_FAULTS) faults.push(String((error as Error).stack ?? error))
}
