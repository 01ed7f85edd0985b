// node few-descriptors.js 0|PATH MODE MAX: a server that answers each line with one, in a process that is short of descriptors. Prints where
// it listens, and when its standard input ends how many clients it had.

import { closeSync, openSync } from 'node:fs'
import { createServer } from 'node:net'
import { devNull } from 'node:os'
import { createInterface } from 'node:readline'
import { setImmediate } from 'node:timers/promises'
import { type Connection, consumerPool, listen, onFile, onPort, Server } from '../../../src/index.ts'

const [path, mode, max] = process.argv.slice(2) as [string, string, string]
const hoard: number[] = []
let handled = 0
process.on('warning', (warning) => {
  if ((warning as { code?: string }).code !== 'IT_TCP_OUT_OF_DESCRIPTORS') return
  // What the gate has given back when it was shut.
  if (mode === 'none-left') takeAllBut(0)
  console.log('warned')
})

const commands = createInterface({ input: process.stdin })
const closed = new Promise((resolve) => commands.once('close', resolve))

if (mode === 'net.Server') await plainServer()
else await server()
process.exit()

async function server(): Promise<void> {
  const where = path === '0' ? onPort(0, { host: '127.0.0.1' }) : onFile(path)
  const options = max === 'default' ? {} : { maxConnections: Number(max) }
  const isByHand = mode === 'accept' || mode === 'pool' || mode === 'taken-while-open'
  const server = (isByHand ? await listen(where, options) : await Server.create(where, options, answer)) as Server
  // Until it is clear that the gate needs no more for itself.
  await setImmediate()
  if (mode === 'accept') void acceptAll(server)
  if (mode === 'pool') void consumerPool(server, 10_000, answer)
  if (mode === 'all-but-three') {
    server.maxConnections += 1
    takeAllBut(3)
  }
  if (mode === 'none-left') takeAllBut(1)
  if (mode === 'taken-while-open') {
    void acceptAll(server)
    takeAllBut(0)
  }
  const give = (): void => {
    for (const fd of hoard.splice(0)) closeSync(fd)
  }
  commands.on('line', async () => {
    // Not before the last connection has gone: its end is a reason to look for descriptors too.
    if (mode === 'none-left') while (server.numConnections > 0) await setImmediate()
    give()
    if (mode === 'taken-while-open') console.log('released')
  })
  console.log(JSON.stringify({ target: server.listeningOn, maxConnections: server.maxConnections }))
  await closed
  await server.close()
  give()
  while (server.numConnections > 0) await setImmediate()
  server.invariant()
  console.log(JSON.stringify({ handled, numConnections: server.numConnections }))
}

async function answer({ reader, writer }: Connection): Promise<void> {
  if ((await reader.readLine()) === null) return
  handled++
  writer.write('here is one\n')
}

async function acceptAll(server: Server): Promise<void> {
  for await (const connection of server) {
    void answer(connection).finally(() => connection.close().catch(() => {}))
  }
}

async function plainServer(): Promise<void> {
  const plain = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () => socket.end('here is one\n'))
  })
  await new Promise<void>((resolve) => plain.listen(path === '0' ? { port: 0, host: '127.0.0.1' } : { path }, resolve))
  const address = plain.address()
  console.log(JSON.stringify({ target: typeof address === 'string' ? address : address?.port, maxConnections: 0 }))
  await closed
  console.log(JSON.stringify({ handled: 0 }))
}

function takeAllBut(count: number): void {
  for (;;) {
    try {
      hoard.push(openSync(devNull, 'r'))
    } catch {
      break
    }
  }
  for (const fd of hoard.splice(hoard.length - count, count)) closeSync(fd)
}
