// Shows fan-out: each member has a queue of outgoing messages, from which the writer pulls as fast as that member reads.
// Run it: npm run build && node dist/examples/chat.js [port] [milliseconds a member may go without reading]
// With a port, join with `nc localhost 8080`: the first line is your name. Without one, Ada and Grace talk, and Rip never reads.

import { once } from 'node:events'
import { setTimeout } from 'node:timers/promises'
import { type Pushable, pushable } from 'it-pushable'
import { type Connection, connect, type InetWhereToConnect, onPort, Server, toHostAndPort } from 'it-tcp'

const [port, age = '500'] = process.argv.slice(2)
const FAR_BEHIND = 64_000_000
const members = new Map<string, { readonly connection: Connection; readonly queue: Pushable<Uint8Array> }>()

function tell(text: string): void {
  // The members' queues share these bytes: a writer does not change them.
  const message = new TextEncoder().encode(`${text}\n`)
  for (const { connection, queue } of members.values()) {
    queue.push(message)
    // A queue has no limit of its own, and to read a byte now and then is enough for bufferAgeLimit.
    if (queue.readableLength > FAR_BEHIND) connection.abort(new Error(`${queue.readableLength} bytes behind`))
  }
}

async function join(connection: Connection): Promise<void> {
  const { reader, writer, signal } = connection
  const name = await reader.readLine({ maxLength: 50 })
  if (name === null) return
  if (name === '' || members.has(name)) return writer.write('That name is taken\n')
  const queue = pushable()
  members.set(name, { connection, queue })
  tell(`${name} joined`)

  const listen = async (): Promise<void> => {
    for await (const line of reader.lines({ maxLength: 10_000 })) {
      tell(`${name}: ${line}`)
      // Whoever talks faster than they read what they said is not listened to either.
      await queue.onEmpty({ signal })
    }
    queue.end()
  }
  let farewell = 'left'
  try {
    await Promise.all([writer(queue), listen()])
  } catch (error) {
    farewell = `was dropped: ${(error as Error).message}`
  } finally {
    members.delete(name)
    tell(`${name} ${farewell}`)
  }
}

async function demonstrate(where: InetWhereToConnect): Promise<void> {
  const enter = async (name: string): Promise<Connection> => {
    const connection = await connect(where)
    connection.writer.write(`${name}\n`)
    await connection.reader.readLine()
    return connection
  }
  await using rip = await enter('Rip')
  await using grace = await enter('Grace')
  await using ada = await enter('Ada')

  let heard = 0
  const hear = async (): Promise<void> => {
    for await (const line of grace.reader.lines()) {
      if (line.startsWith('Ada: ')) heard++
      else console.log(`Grace heard: ${line}`)
      if (line === 'Ada left') break
    }
  }
  let said = 0
  const talk = async (): Promise<void> => {
    for (; members.has('Rip'); said++) {
      ada.writer.write(`${'blah '.repeat(1_000)}\n`)
      if (said % 25 === 0) await setTimeout(10)
    }
    await ada.writer.close()
  }
  await Promise.all([hear(), talk(), ada.reader.discard()])
  console.log(`Grace heard ${said === heard ? 'all' : `${heard} of ${said}`} that Ada said. Rip read ${rip.reader.bytesRead} bytes.`)
}

await using server = await Server.create(onPort(Number(port ?? 0)), { maxConnections: 1_000, bufferAgeLimit: Number(age) }, join)
console.log(`Listening on port ${server.listeningOn}`)
if (port === undefined) {
  await demonstrate(toHostAndPort('localhost', server.listeningOn))
} else {
  await once(process, 'SIGINT')
  tell('The server stops')
  await server.close({ forceAfter: 1_000 })
}
