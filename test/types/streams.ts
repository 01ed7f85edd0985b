// Streams of Node.js and of the web, with the types of Node.js and with those of the DOM.

import type { Duplex } from 'node:stream'
import { PassThrough, pipeline, Readable } from 'node:stream'
import { pipeline as pipelineOf } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import {
  type ByteStream,
  type Bytes,
  type Connection,
  type ConnectionDuplex,
  type ConnectionOptions,
  fromDuplex,
  type Relayed,
  relay,
  toDuplex,
  toWebStreams,
  type WebStreams
} from 'it-tcp'
import { same } from './same.ts'

declare const connection: Connection
declare const options: ConnectionOptions

// a connection is a byte stream, and what is made of a Duplex is one, without a socket or addresses
const stream = fromDuplex(new PassThrough(), options)
same<ByteStream, typeof stream>()
connection satisfies ByteStream
// @ts-expect-error a stream has no socket
stream.socket
// @ts-expect-error nor a peer's address
stream.remoteAddress
// @ts-expect-error half of a Duplex is none
fromDuplex(new Readable())
// @ts-expect-error no such option
fromDuplex(new PassThrough(), { timeout: 1 })

// as a Duplex
const duplex = toDuplex(connection)
same<ConnectionDuplex, typeof duplex>()
duplex satisfies Duplex
toDuplex(stream)
  .setTimeout(1_000, () => {})
  .setNoDelay()
  .setKeepAlive(true, 1_000)
  .ref()
  .unref()
duplex.remotePort satisfies number | undefined
await pipelineOf(duplex, createGzip(), duplex)
pipeline(duplex, createGzip(), duplex, () => {})
// @ts-expect-error a Duplex is no connection
toDuplex(duplex)

// as web streams
const streams = toWebStreams(connection)
same<WebStreams, typeof streams>()
const { readable, writable, closed } = streams
same<Promise<void>, typeof closed>()
await readable.pipeThrough(new CompressionStream('gzip')).pipeTo(writable)
const text: string = await new Response(toWebStreams(connection).readable).text()
const part = await toWebStreams(stream).readable.pipeThrough(new TextDecoderStream()).getReader().read()
part.value satisfies string | undefined
const byob = toWebStreams(connection).readable.getReader({ mode: 'byob' })
const { value } = await byob.read(new Uint8Array(16))
value?.byteLength satisfies number | undefined
const chunk = await toWebStreams(connection).readable.getReader().read()
chunk.value satisfies Bytes | undefined
await crypto.subtle.digest('SHA-256', chunk.value ?? new Uint8Array())
await writable.getWriter().write(new TextEncoder().encode(text))
// @ts-expect-error text has to be encoded
await writable.getWriter().write(text)

// joined
same<Promise<Relayed>, ReturnType<typeof relay>>()
const { aToB, bToA } = await relay(connection, stream)
aToB satisfies typeof bToA
// @ts-expect-error two are needed
await relay(connection)
