// node alive.js tcp|unix MODE: prints the kind of gate, and whether the process is kept alive by its server or has ended by itself.

import { once } from 'node:events'
import { mkdtempSync } from 'node:fs'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { listen, onFile, onPort } from '../../../src/index.ts'

const [kind, mode] = process.argv.slice(2) as [string, string]
const where = kind === 'tcp' ? onPort(0, { host: '127.0.0.1' }) : onFile(join(mkdtempSync(join(tmpdir(), 'it-tcp-')), 's'))
const server = await listen(where, { maxConnections: 1 })
const { acceptGate, listeningOn, listeningSocket } = server

if (mode.startsWith('unref')) listeningSocket.unref()
if (mode === 'ref') {
  listeningSocket.unref()
  listeningSocket.ref()
}
if (mode.endsWith('pulled')) void server.accept()
if (mode.endsWith('limit')) {
  const client = typeof listeningOn === 'string' ? createConnection(listeningOn) : createConnection(listeningOn, '127.0.0.1')
  const [connection] = await Promise.all([server.accept(), once(client, 'connect')])
  client.unref()
  connection.socket.unref()
  void server.accept()
}
if (mode === 'closed') await server.close()

process.on('beforeExit', () => {
  console.log(acceptGate, 'ended')
  process.exit()
})
// Keeps nothing alive itself: it fires only if something else does.
setTimeout(() => {
  console.log(acceptGate, 'alive')
  process.exit()
}, 100).unref()
