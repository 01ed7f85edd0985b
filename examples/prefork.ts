// Shows one listening socket with several processes: each child serves clients of the one kernel queue under a gate of its own.
// Run it: npm run build && node dist/examples/prefork.js [port] [processes] [connections per process]
// The parent accepts nobody. A child that dies is replaced, and no waiting client is lost. SIGTERM drains all.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { listen, onFileDescriptor, onPort, Server } from 'it-tcp'

const [port = '0', processes = '2', perProcess = '2'] = process.argv.slice(2)
const INHERITED = 3

if (process.env.PREFORK_CHILD === undefined) await parent()
else await child()

async function parent(): Promise<void> {
  await using server = await listen(onPort(Number(port), { host: '127.0.0.1' }))
  const children = new Set<ChildProcess>()
  let isStopping = false

  function start(): void {
    const child = spawn(process.execPath, [fileURLToPath(import.meta.url), port, processes, perProcess], {
      env: { ...process.env, PREFORK_CHILD: '1' },
      stdio: ['ignore', 'inherit', 'inherit', server.listeningSocket.fd]
    })
    children.add(child)
    child.once('exit', () => {
      children.delete(child)
      if (!isStopping) start()
    })
  }

  for (let i = 0; i < Number(processes); i++) start()
  console.log(`Listening on ${server.listeningOn} with ${processes} processes, as ${process.pid}`)
  await once(process, 'SIGTERM')
  isStopping = true
  const exits = [...children].map((child) => once(child, 'exit'))
  for (const child of children) child.kill('SIGTERM')
  await Promise.all(exits)
  console.log('All processes have ended')
}

async function child(): Promise<void> {
  const server = await Server.create(
    onFileDescriptor(INHERITED),
    { maxConnections: Number(perProcess), onHandlerError: 'ignore' },
    async ({ reader, writer }) => {
      for await (const line of reader.lines()) {
        writer.write(`${process.pid} ${line}\n`)
        await writer.flushed()
      }
    }
  )
  await once(process, 'SIGTERM')
  await server.close({ forceAfter: 5_000 })
  await server.finished
}
