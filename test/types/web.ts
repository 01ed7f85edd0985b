// What web streams and fetch's classes take of a reader, with the types of Node.js and with the DOM's.

import { ReadableStream } from 'node:stream/web'
import { type Bytes, connect, toHostAndPort } from 'it-tcp'
import { same } from './same.ts'

const { reader } = await connect(toHostAndPort('localhost', 80))

const stream = ReadableStream.from(reader)
same<ReadableStream<Bytes>, typeof stream>()
for await (const chunk of stream) chunk.subarray(0, 4)
const bytes = await reader.readAll()
new Response(bytes)
new Blob([bytes])
await crypto.subtle.digest('SHA-256', bytes)
// @ts-expect-error strings do not come out of a reader
for await (const text of stream) text.toUpperCase()
