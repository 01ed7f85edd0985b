// What web streams and fetch's classes take of a reader, where Node.js's types are the only ones: the DOM's lack ReadableStream.from.

import { connect, toHostAndPort } from 'it-tcp'

const { reader } = await connect(toHostAndPort('localhost', 80))

const stream = ReadableStream.from(reader)
stream.pipeThrough(new DecompressionStream('gzip')).pipeThrough(new TextDecoderStream())
new Response(stream)
new Response(reader)
