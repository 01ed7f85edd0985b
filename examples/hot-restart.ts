// Shows restarting without losing a client: a parent holds the listening socket, its child serves, and at SIGHUP another child takes over.
// Run it: npm run build && node dist/examples/hot-restart.js [port or path] [milliseconds to get ready] [milliseconds to drain]
// A new child that crashes, hangs or is late changes nothing; one that dies later is replaced. SIGTERM to the parent drains and stops.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { listen, onFile, onFileDescriptor, onPort, Server } from 'it-tcp'

const [where = '0', patience = '10000', drain = '300000'] = process.argv.slice(2)
if (process.env.HOT_RESTART_CHILD === undefined) await supervise()
else await serve()

async function supervise(): Promise<void> {
  // Nobody is accepted here: this is the queue in which clients wait, whichever child comes or goes.
  const server = await (where.includes('/') ? listen(onFile(where)) : listen(onPort(Number(where), { host: '127.0.0.1' })))
  const program = [...process.execArgv, ...process.argv.slice(1)]
  const env = { ...process.env, HOT_RESTART_CHILD: '1' }
  const children = new Set<ChildProcess>()
  let current: ChildProcess | undefined
  let lastTurn = Promise.resolve()

  function restart(): void {
    lastTurn = lastTurn.then(() => (server.isClosed ? undefined : replace()))
  }
  async function replace(): Promise<void> {
    const child = spawn(process.execPath, program, { env, stdio: ['ignore', 'inherit', 'inherit', server.listeningSocket.fd, 'ipc'] })
    children.add(child)
    child.once('exit', () => children.delete(child) && child === current && restart())
    const ready = once(child, 'message', { signal: AbortSignal.timeout(Number(patience)) }).then(() => true)
    if (await Promise.race([ready, once(child, 'exit').then(() => false)]).catch(() => false)) {
      child.on('message', restart).send('serve', () => {})
      current?.kill('SIGTERM')
      current = child
    } else {
      console.error(`The new process did not get ready within ${patience} ms`)
      // It was not told to serve, so it has accepted nobody.
      child.kill('SIGKILL')
      if (current === undefined || !children.has(current)) setTimeout(restart, 1_000)
    }
  }
  process.on('SIGHUP', restart)
  restart()
  console.log(`listening on ${typeof server.listeningOn === 'number' ? `127.0.0.1:${server.listeningOn}` : server.listeningOn}`)
  await Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')])
  await server.close()
  for (const child of children) child.kill('SIGTERM')
}

async function serve(): Promise<void> {
  process.on('SIGHUP', () => process.connected && process.send?.('restart')).send?.('ready')
  await once(process, 'message')
  const server = await Server.create(onFileDescriptor(3), { onHandlerError: 'ignore' }, async ({ reader, writer }) => {
    for await (const line of reader.lines()) await writer.writeAll([`${process.pid} ${line}\n`])
  })
  await Promise.race(['SIGTERM', 'SIGINT', 'disconnect'].map((end) => once(process, end)))
  await server.close({ forceAfter: Number(drain) })
  await server.finished
  process.exit()
}
