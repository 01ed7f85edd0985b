// Shows consumerPool as the gate in front of worker threads: as many clients are served as there are threads to compute for them.
// Run it: npm run build && node dist/examples/worker-pool.js [port] [threads]
// With a port, ask for primes: `echo 1000000 | nc -N localhost 8080`. Without one, eight clients come at once to two threads.

import { once } from 'node:events'
import { isMainThread, parentPort, Worker } from 'node:worker_threads'
import { consumerPool, listen, onPort, toHostAndPort, withConnection } from 'it-tcp'

const [port, threads = '2'] = process.argv.slice(2)

function countPrimes(limit: number): number {
  const isPrime = new Uint8Array(limit + 1).fill(1, 2)
  for (let n = 2; n * n <= limit; n++) {
    for (let multiple = n * n; multiple <= limit; multiple += n) isPrime[multiple] = 0
  }
  return isPrime.reduce((count, prime) => count + prime, 0)
}

function start(): Worker {
  const worker = new Worker(new URL(import.meta.url))
  worker.unref()
  return worker
}

async function main(): Promise<void> {
  const idle = Array.from({ length: Number(threads) }, start)
  const server = await listen(onPort(Number(port ?? 0)), { idleTimeout: 60_000 })
  console.log(`Listening on port ${server.listeningOn} with ${threads} threads`)

  // A client is taken from the kernel's queue when a consumer is free, and then so is a thread.
  const served = consumerPool(server, Number(threads), async ({ reader, writer, signal }) => {
    let worker = idle.pop() as Worker
    try {
      for await (const line of reader.lines({ maxLength: 20 })) {
        worker.postMessage(Math.min(Number(line), 10_000_000))
        const [count] = await once(worker, 'message', { signal })
        await writer.writeAll([`${count} primes up to ${line}, said thread ${worker.threadId}\n`])
      }
    } catch {
      // The client went away, or the thread failed: there is nothing left for it to do.
      void worker.terminate()
      worker = start()
    }
    idle.push(worker)
  })
  if (port !== undefined) await once(process, 'SIGINT')
  else await Promise.all(Array.from({ length: 8 }, (_, i) => ask(server.listeningOn, (i + 1) * 1_000_000)))
  await server.close()
  await served
}

const ask = (port: number, limit: number): Promise<void> =>
  withConnection(toHostAndPort('localhost', port), async ({ reader, writer }) => {
    writer.write(`${limit}\n`)
    console.log(await reader.readLine())
  })

if (isMainThread) await main()
else parentPort?.on('message', (limit: number) => parentPort?.postMessage(countPrimes(limit)))
