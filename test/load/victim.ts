// node victim.js, forked: a server that is to be killed. Waits for where to listen, listens, says so, and answers.

import { onFile, onPort, Server } from '../../src/index.ts'
import type { Target } from '../helpers/raw.ts'
import { answering, newLedger } from './protocol.ts'

process.on('message', async (target: Target) => {
  const answer = answering(newLedger())
  const options = { onHandlerError: 'ignore' } as const
  try {
    const server =
      typeof target === 'string'
        ? await Server.create(onFile(target), options, answer)
        : await Server.create(onPort(target, { host: '127.0.0.1' }), options, answer)
    process.send?.({ target: server.listeningOn })
  } catch (error) {
    process.send?.({ error: (error as Error).message })
  }
})
process.on('disconnect', () => process.exit())
process.send?.('ready')
