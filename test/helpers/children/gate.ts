// node gate.js tcp|unix nobody|loop|pool|limit CLIENTS: prints how many of its own clients a server has accepted, and how many wait.

import { once } from 'node:events'
import { mkdtempSync } from 'node:fs'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { consumerPool, listen, onFile, onPort, Server } from '../../../src/index.ts'
import { canTellQueue, queue } from '../settings.ts'
import { turns } from '../until.ts'

const [kind, mode, clients] = process.argv.slice(2)
const where = kind === 'tcp' ? onPort(0, { host: '127.0.0.1' }) : onFile(join(mkdtempSync(join(tmpdir(), 'it-tcp-')), 's'))
const forever = new Promise(() => {})

const server = (mode === 'limit' ? await Server.create(where, { maxConnections: 2 }, () => forever) : await listen(where)) as Server
if (mode === 'pool') void consumerPool(server, 2, () => forever)
if (mode === 'loop') void loop()

for (let count = 0; count < Number(clients); count++) {
  const { listeningOn } = server
  await once(
    typeof listeningOn === 'string' ? createConnection(listeningOn) : createConnection(listeningOn as number, '127.0.0.1'),
    'connect'
  )
}
await turns(50)
console.log(
  JSON.stringify({
    acceptGate: server.acceptGate,
    accepted: server.numConnections,
    queue: canTellQueue() ? queue(server) : undefined
  })
)
await server.close()
process.exit()

async function loop(): Promise<void> {
  for await (const _ of server) await forever
}
