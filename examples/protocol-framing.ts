// Shows framing by hand: peek to tell two formats apart, readUntil for headers, readExactly for bodies, and a limit on each.
// Run it: npm run build && node dist/examples/protocol-framing.js [port]
// With a port, try `printf 'length: 5\n\nhello' | nc -N localhost 8080`. Without one, it sends itself some frames, the last one bad.

import { once } from 'node:events'
import { type Connection, onPort, type Reader, Server, toHostAndPort, withConnection } from 'it-tcp'

const port = process.argv[2]
const [MAX_HEADERS, MAX_BODY] = [1_000, 1_000_000]

/** Lines such as `length: 5` up to an empty one, then the body. */
async function readText(reader: Reader): Promise<string> {
  const headers = new TextDecoder().decode((await reader.readUntil('\n\n', { maxLength: MAX_HEADERS })) ?? undefined)
  const [, length] = /^length: (\d{1,15})$/m.exec(headers) ?? []
  if (!headers.endsWith('\n\n') || length === undefined) throw new Error('headers without an end, or without a length')
  return `text, ${(await readBody(reader, Number(length))).byteLength} bytes`
}

/** A zero, the length in four bytes, then the body. */
async function readBinary(reader: Reader): Promise<string> {
  const header = await readWhole(reader, 5)
  const length = new DataView(header.buffer, header.byteOffset).getUint32(1)
  return `binary, ${(await readBody(reader, length)).byteLength} bytes`
}

async function readBody(reader: Reader, length: number): Promise<Uint8Array> {
  // Before anything of it is held: the length is whatever the peer says.
  if (length > MAX_BODY) throw new Error(`a body of ${length} bytes`)
  return await readWhole(reader, length)
}

/** Within a frame an end is never in place; between bytes readExactly says so itself, before the first it gives null. */
async function readWhole(reader: Reader, length: number): Promise<Uint8Array> {
  const bytes = await reader.readExactly(length)
  if (bytes === null) throw new Error('an end inside a frame')
  return bytes
}

async function serve({ reader, writer }: Connection): Promise<void> {
  try {
    // Looks at the first byte of each frame and takes nothing; null is an end between frames, where it belongs.
    for (let first = await reader.peek(1); first !== null; first = await reader.peek(1)) {
      writer.write(`${first[0] === 0 ? await readBinary(reader) : await readText(reader)}\n`)
      await writer.flushed() // a client that reads no answers is not read from either
    }
  } catch (error) {
    if (!writer.isClosed) writer.write(`Cannot read a frame: ${(error as Error).message}\n`)
  }
}

await using server = await Server.create(onPort(Number(port ?? 0)), { maxConnections: 100, idleTimeout: 60_000 }, serve)
console.log(`Listening on port ${server.listeningOn}`)
if (port !== undefined) await once(process, 'SIGINT')
else
  await withConnection(toHostAndPort('localhost', server.listeningOn), async ({ reader, writer }) => {
    await writer.writeAll(['colour: blue\nlength: 5\n\nhello', new Uint8Array([0, 0, 0, 0, 3, 1, 2, 3]), 'length: 999999999\n\n'])
    for await (const line of reader.lines()) console.log(line)
  })
