// Shows a server and a client on a unix socket: the same code, with a path in place of a port.
// Run it: npm run build && node dist/examples/unix-socket.js [path]

import { stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onFile, Server, toFile, withConnection } from 'it-tcp'

const path = process.argv[2] ?? join(tmpdir(), `it-tcp-example-${process.pid}.sock`)

{
  // The mode is set before the first client can connect. A socket that a crashed server left at the path is taken over; one
  // on which a live server answers, or a file of any other kind, is refused.
  await using server = await Server.create(onFile(path, { mode: 0o600 }), async ({ reader, writer }) => {
    writer.write(`You said ${await reader.readLine()}\n`)
  })
  const { mode } = await stat(server.listeningOn)
  console.log(`Listening on ${server.listeningOn}, mode ${(mode & 0o777).toString(8)}`)

  const answer = await withConnection(toFile(path), async ({ reader, writer }) => {
    writer.write('hello\n')
    return await reader.readLine()
  })
  console.log(answer)
}

const isThere = await stat(path).then(
  () => true,
  () => false
)
console.log(`The file is ${isThere ? 'still there' : 'gone'}`)
