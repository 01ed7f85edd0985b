// Shows one listening socket with several threads: each serves clients of the one kernel queue under a gate of its own.
// Run it: npm run build && node dist/examples/worker-threads.js [port] [threads] [connections per thread]
// The main thread accepts nobody. SIGHUP terminates a thread, which cuts off whom it serves, and starts another: no waiting client is lost. SIGTERM drains all.

import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { isMainThread, parentPort, threadId, Worker, workerData } from 'node:worker_threads'
import { listen, onFileDescriptor, onPort, Server } from 'it-tcp'

const [port = '0', threads = '2', perThread = '2'] = process.argv.slice(2)

if (isMainThread) await main()
else await serve()

async function main(): Promise<void> {
  await using server = await listen(onPort(Number(port), { host: '127.0.0.1' }))
  const workers: Worker[] = []

  async function start(): Promise<void> {
    const worker = new Worker(fileURLToPath(import.meta.url), { workerData: server.listeningSocket.fd, argv: process.argv.slice(2) })
    workers.push(worker)
    await once(worker, 'message')
  }

  for (let i = 0; i < Number(threads); i++) await start()
  process.on('SIGHUP', async () => {
    await workers.shift()?.terminate()
    await start()
    console.log('A thread was replaced')
  })
  console.log(`Listening on ${server.listeningOn} with ${threads} threads, as ${process.pid}`)
  await once(process, 'SIGTERM')
  const exits = workers.map((worker) => once(worker, 'exit'))
  for (const worker of workers) worker.postMessage('stop')
  await Promise.all(exits)
  console.log('All threads have ended')
}

async function serve(): Promise<void> {
  // A duplicate: the number is the main thread's, and it would be closed for all if a thread that owns it were terminated.
  const server = await Server.create(
    onFileDescriptor(workerData, { duplicate: true }),
    { maxConnections: Number(perThread), onHandlerError: 'ignore' },
    async ({ reader, writer }) => {
      for await (const line of reader.lines()) {
        writer.write(`${threadId} ${line}\n`)
        await writer.flushed()
      }
    }
  )
  parentPort?.postMessage('ready')
  await once(parentPort as NonNullable<typeof parentPort>, 'message')
  await server.close({ forceAfter: 5_000 })
  await server.finished
  parentPort?.close()
}
