// Shows the gate at work: a server that takes 8 clients at once, and 32 that come together with a real file each.
// Run it: npm start, or npm start -- FILE. The default FILE is Node.js itself.
//
// The server computes the SHA-256 of what a client sends while it reads; the client streams the file, half-closes, reads
// the digest and compares it with its own. The 24 that are not served wait in the kernel, and what they have to send waits
// in their files: nobody holds more than a few chunks.

import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { getSystemErrorMap } from 'node:util'
import { onPortChosenByOs, Server, toHostAndPort, withConnection } from 'it-tcp'

const LIMIT = 8
const CLIENTS = 32
const file = process.argv[2] ?? process.execPath

async function run(size: number): Promise<boolean> {
  let received = 0
  let mostOpen = 0
  let finished = 0
  let matched = 0

  await using server = await Server.create(
    onPortChosenByOs({ host: 'localhost' }),
    { maxConnections: LIMIT },
    async ({ reader, writer }) => {
      mostOpen = Math.max(mostOpen, server.numConnections)
      const hash = createHash('sha256')
      for await (const chunk of reader) {
        hash.update(chunk)
        received += chunk.byteLength
      }
      writer.write(hash.digest())
    }
  )
  const where = toHostAndPort('localhost', server.listeningOn)

  // Whoever waits in the queue can't send: without a limit on its age, what it has written waits as long as it takes.
  const options = { bufferAgeLimit: Number.POSITIVE_INFINITY }
  const client = (): Promise<void> =>
    withConnection(where, options, async ({ reader, writer }) => {
      const hash = createHash('sha256')
      // Pulls from the file only as fast as the server takes the bytes, then half-closes.
      await writer(hashed(createReadStream(file, { highWaterMark: 262_144 }), hash))
      const digest = await reader.readAll()
      if (hash.digest().equals(digest)) matched++
      finished++
    })

  console.log(`${CLIENTS} clients, at most ${LIMIT} at once, send ${megabytes(size)} each: ${file}`)
  const start = performance.now()
  const status = new Status(() => {
    const seconds = (performance.now() - start) / 1_000
    const connected = server.numConnections
    return {
      share: size === 0 ? finished / CLIENTS : Math.min(1, received / (size * CLIENTS)),
      text: `${megabytes(received / seconds)}/s, ${connected} connected, ${Math.max(0, CLIENTS - finished - connected)} waiting`
    }
  })
  try {
    await Promise.all(Array.from({ length: CLIENTS }, client))
  } finally {
    status.stop()
  }
  const seconds = (performance.now() - start) / 1_000

  console.log(`${matched} of ${CLIENTS} digests match`)
  console.log(`${mostOpen} connections were open at once at most, of ${LIMIT} allowed`)
  console.log(`${received} bytes in ${seconds.toFixed(1)} s, ${megabytes(received / seconds)}/s`)
  return matched === CLIENTS && mostOpen <= LIMIT
}

async function* hashed(source: AsyncIterable<Uint8Array>, hash: Hash): AsyncGenerator<Uint8Array> {
  for await (const chunk of source) {
    hash.update(chunk)
    yield chunk
  }
}

/** A line that is written over and over on a terminal, and now and then elsewhere. */
class Status {
  readonly #look: () => { readonly share: number; readonly text: string }
  readonly #timer: NodeJS.Timeout

  constructor(look: () => { readonly share: number; readonly text: string }) {
    this.#look = look
    this.#timer = setInterval(() => this.#show(), process.stdout.isTTY ? 100 : 2_000)
    // That the server is full is what this program is about. Any other warning is shown as ever.
    process.removeAllListeners('warning').on('warning', ({ message, code }: Error & { code?: string }) => {
      if (code !== 'IT_TCP_AT_LIMIT') console.error(`Warning: ${message}`)
    })
  }

  stop(): void {
    clearInterval(this.#timer)
    if (process.stdout.isTTY) process.stdout.write('\r\x1b[K')
  }

  #show(): void {
    const { share, text } = this.#look()
    const percent = `${Math.floor(share * 100)} %`.padStart(5)
    if (process.stdout.isTTY) {
      const full = Math.round(share * 24)
      process.stdout.write(`\r${'█'.repeat(full)}${'░'.repeat(24 - full)} ${percent}, ${text}\x1b[K`)
    } else {
      console.log(`${percent}, ${text}`)
    }
  }
}

/** Tells at once, and not at the first of 32 connections, that a file can't be read. */
async function sizeOf(path: string): Promise<number> {
  await using handle = await open(path)
  const stats = await handle.stat()
  if (!stats.isFile()) throw new Error(`Cannot read ${path}: not a file`)
  return stats.size
}

function plain(error: unknown): string {
  const { errno, path, message } = error as NodeJS.ErrnoException
  const words = errno === undefined ? undefined : getSystemErrorMap().get(errno)?.[1]
  return words === undefined || path === undefined ? message : `Cannot read ${path}: ${words}`
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`
}

try {
  const size = await sizeOf(file)
  process.exitCode = (await run(size)) ? 0 : 1
} catch (error) {
  console.error(plain(error))
  process.exitCode = 1
}
