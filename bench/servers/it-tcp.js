// This library, as its users write it.

import { connect, onPortChosenByOs, Server, TlsContext, toHostAndPort } from '../../dist/src/index.js'
import { BEHAVIOUR, BYTES, chunks, IS_SECURE, identity, ready, readyToDial } from './control.js'

/** @type {Record<string, (connection: import('../../dist/src/index.js').Connection) => Promise<void>>} */
const handlers = {
  async echo({ reader, writer }) {
    for await (const chunk of reader) writer.write(chunk)
  },
  async pipe({ reader, writer }) {
    await writer(reader)
  },
  async receive({ reader, writer }) {
    let received = 0
    for await (const chunk of reader) {
      received += chunk.byteLength
      if (received >= BYTES) writer.write(`${received}\n`)
    }
  },
  async into({ reader, writer }) {
    const buffer = new Uint8Array(65_536)
    let received = 0
    for (let length = await reader.readInto(buffer); length !== null; length = await reader.readInto(buffer)) {
      received += length
      if (received >= BYTES) writer.write(`${received}\n`)
    }
  },
  async send({ writer }) {
    await writer(chunks())
  }
}

async function dial(port) {
  const connection = await connect(toHostAndPort('127.0.0.1', port))
  connection.writer.write('a')
  await connection.reader.read()
  await connection.close()
}

if (BEHAVIOUR === 'dial') {
  readyToDial(dial)
} else {
  const options = IS_SECURE ? { tls: TlsContext.create(identity()) } : {}
  const server = await Server.create(onPortChosenByOs({ host: '127.0.0.1' }), options, handlers[BEHAVIOUR])
  ready(server.listeningOn)
}
