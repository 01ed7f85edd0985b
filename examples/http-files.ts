// Shows a program for strangers: the files of a directory over HTTP/1.0, with a limit on whatever a client can make it wait for or hold.
// Run it: npm run build && node dist/examples/http-files.js [directory] [port] [milliseconds for a request]
// With a directory, try `curl -i localhost:8080/file`. Without one, it serves the examples and asks itself for some.

import { once } from 'node:events'
import { constants } from 'node:fs'
import { type FileHandle, open, realpath } from 'node:fs/promises'
import { extname, join, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Connection, DelimiterNotFoundError, onPort, type Reader, Server, toHostAndPort, withConnection } from 'it-tcp'

const [directory, port = directory === undefined ? '0' : '8080', patience = '10000'] = process.argv.slice(2)
const root = await realpath(directory ?? fileURLToPath(new URL('.', import.meta.url)))

const TYPES = new Map([
  ['.css', 'text/css'],
  ['.html', 'text/html; charset=utf-8'],
  ['.jpg', 'image/jpeg'],
  ['.js', 'text/javascript'],
  ['.json', 'application/json'],
  ['.png', 'image/png'],
  ['.svg', 'image/svg+xml'],
  ['.txt', 'text/plain; charset=utf-8']
])

/** What is answered in place of a file. */
class Refusal extends Error {
  readonly status: string
  readonly header: string

  constructor(status: string, header = '') {
    super(status)
    this.status = status
    this.header = header
  }
}

async function readRequest(reader: Reader): Promise<{ method: string; path: string } | null> {
  // One limit for the whole head: a limit on each read would let a client send a byte now and then forever.
  const signal = AbortSignal.timeout(Number(patience))
  try {
    const request = await reader.readLine({ signal, maxLength: 8_000 })
    if (request === null) return null
    let size = 0
    for (let line: string | null = request; line !== ''; size += line.length) {
      line = await reader.readLine({ signal, maxLength: 8_000 })
      if (line === null) throw new Refusal('400 Bad Request')
      if (size > 32_000) throw new Refusal('431 Request Header Fields Too Large')
    }
    const [, method, target] = /^([A-Z]+) (\/[^\s]*) HTTP\/1\.[01]$/.exec(request) ?? []
    if (method === undefined || target === undefined) throw new Refusal('400 Bad Request')
    return { method, path: target.replace(/[?#].*/, '') }
  } catch (error) {
    if (signal.aborted) throw new Refusal('408 Request Timeout')
    if (error instanceof DelimiterNotFoundError) throw new Refusal('431 Request Header Fields Too Large')
    throw error
  }
}

async function openFile(path: string): Promise<{ file: FileHandle; size: number; type: string }> {
  let name: string
  try {
    name = decodeURIComponent(path)
  } catch {
    throw new Refusal('400 Bad Request')
  }
  if (name.includes('\0')) throw new Refusal('400 Bad Request')
  if (name.split(/[/\\]/).includes('..')) throw new Refusal('403 Forbidden')
  if (name.endsWith('/')) name += 'index.html'
  try {
    // A symbolic link inside the directory may lead out of it.
    const real = await realpath(join(root, name))
    if (!real.startsWith(root.endsWith(sep) ? root : root + sep)) throw new Refusal('403 Forbidden')
    // Opening a named pipe would wait for somebody to write to it.
    const file = await open(real, constants.O_RDONLY | constants.O_NONBLOCK)
    const stats = await file.stat()
    if (stats.isFile()) return { file, size: stats.size, type: TYPES.get(extname(real)) ?? 'application/octet-stream' }
    await file.close()
    throw new Refusal('404 Not Found')
  } catch (error) {
    if (error instanceof Refusal) throw error
    throw new Refusal((error as NodeJS.ErrnoException).code === 'EACCES' ? '403 Forbidden' : '404 Not Found')
  }
}

async function serve({ reader, writer }: Connection): Promise<void> {
  let isHead = false
  try {
    const request = await readRequest(reader)
    if (request === null) return
    isHead = request.method === 'HEAD'
    if (!isHead && request.method !== 'GET') throw new Refusal('405 Method Not Allowed', 'Allow: GET, HEAD\r\n')
    const { file, size, type } = await openFile(request.path)
    await using _ = file
    writer.write(head('200 OK', size, type))
    // Reads from the disk only as fast as the client takes the bytes, then half-closes.
    if (!isHead && size > 0) await writer(whole(file.createReadStream({ end: size - 1, highWaterMark: 262_144 }), size))
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    const body = `${error.status}\n`
    writer.write(head(error.status, body.length, 'text/plain', error.header) + (isHead ? '' : body))
    // The end of the handler closes the connection in order: what the client still sends does not cost it this answer.
  }
}

function head(status: string, length: number, type: string, more = ''): string {
  const headers = `Date: ${new Date().toUTCString()}\r\nContent-Length: ${length}\r\nContent-Type: ${type}\r\n`
  return `HTTP/1.0 ${status}\r\n${headers}X-Content-Type-Options: nosniff\r\nConnection: close\r\n${more}\r\n`
}

/** Throws if the file has become shorter: the writer then resets the connection, and nobody takes a part for the whole. */
async function* whole(source: AsyncIterable<Uint8Array>, size: number): AsyncGenerator<Uint8Array> {
  let sent = 0
  for await (const chunk of source) {
    sent += chunk.byteLength
    yield chunk
  }
  if (sent < size) throw new Error(`The file had ${size} bytes and now has ${sent}`)
}

async function demonstrate(port: number): Promise<void> {
  for (const request of ['GET /http-files.js', 'HEAD /http-files.js', 'GET /%2e%2e/secret', 'GET /missing', 'DELETE /http-files.js']) {
    await withConnection(toHostAndPort('localhost', port), async ({ reader, writer }) => {
      writer.write(`${request} HTTP/1.0\r\n\r\n`)
      const status = await reader.readLine()
      await reader.readUntil('\r\n\r\n')
      console.log(`${request}: ${status}, then ${(await reader.discard()) > 0 ? 'a body' : 'nothing'}`)
    })
  }
}

const options = {
  maxConnections: 200,
  // A client that takes no byte for so long is cut off. One that takes them slowly is served, at no cost but its slot.
  bufferAgeLimit: 30_000,
  // What a client brings about does not stop the server anyhow; whatever else happens doesn't either.
  onHandlerError: (_: unknown, error: unknown): void => console.error((error as Error).message)
}
await using server = await Server.create(onPort(Number(port)), options, serve)
console.log(`Listening on port ${server.listeningOn}: ${root}`)
if (directory === undefined) await demonstrate(server.listeningOn)
else await once(process, 'SIGINT')
