// node handler-error.js raise|ignore|callback [watched]: a server whose handler fails; prints what becomes of `finished`, if that is watched.

import { createConnection } from 'node:net'
import { onPort, Server } from '../../../src/index.ts'

const [policy, watched] = process.argv.slice(2)
const onHandlerError =
  policy === 'callback'
    ? (): void => {
        throw new Error('of the callback')
      }
    : (policy as 'raise' | 'ignore')

let handled = 0
const server = await Server.create(onPort(0, { host: '127.0.0.1' }), { onHandlerError }, () => {
  handled++
  throw new Error('raised')
})
if (watched !== undefined) server.finished.catch((error: Error) => console.log(error.message))

const client = createConnection(server.listeningOn, '127.0.0.1').resume()
client.on('close', async () => {
  // Nothing else is to be waited for where the error is ignored.
  if (policy !== 'ignore' || handled !== 1) return
  await server.close()
  await server.finished
  console.log('finished')
})
