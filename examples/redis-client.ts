// Shows a client that pipelines: commands are written at once, replies are read in their order, each with the type of its command.
// Run it: npm run build && node dist/examples/redis-client.js [port or path] [command …]
// Without a command, it tries some on the Redis at port 6379, and removes what it has made.

import { type Connection, connect, type Reader, toFile, toHostAndPort } from 'it-tcp'

type Reply = string | number | null | RedisError | readonly Reply[]

// What goes in and what comes out. Any other command can be sent with send().
interface Commands {
  DEL: (...keys: string[]) => number
  GET: (key: string) => string | null
  INCR: (key: string) => number
  LPUSH: (key: string, ...values: string[]) => number
  LRANGE: (key: string, start: number, stop: number) => readonly string[]
  PING: () => 'PONG'
  SET: (key: string, value: string) => 'OK'
}

/** What Redis answers to a command that it refuses. */
class RedisError extends Error {
  override readonly name = 'RedisError'
}

class RedisClient implements AsyncDisposable {
  readonly #connection: Connection
  #last: Promise<unknown> = Promise.resolve()

  constructor(connection: Connection) {
    this.#connection = connection
  }

  /** Sends a command, whether or not those before it have been answered. */
  async call<C extends keyof Commands>(command: C, ...args: Parameters<Commands[C]>): Promise<ReturnType<Commands[C]>> {
    return (await this.send(command, ...args)) as ReturnType<Commands[C]>
  }

  async send(...words: (string | number)[]): Promise<Reply> {
    const { reader, writer } = this.#connection
    const parts = words.map((word) => `$${Buffer.byteLength(`${word}`)}\r\n${word}\r\n`)
    // Commands of one turn of the event loop leave together.
    writer.write(`*${words.length}\r\n${parts.join('')}`)
    const reply = this.#last.then(() => readReply(reader))
    // After half a reply nobody knows where the next one begins.
    this.#last = reply.catch((error) => this.#connection.abort(error))
    const value = await reply
    if (value instanceof RedisError) throw value
    return value
  }

  /** Waits for the replies that are due, then closes the connection. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#last
    await this.#connection.close()
  }
}

const CLOSED = 'Redis has closed the connection'

async function readReply(reader: Reader): Promise<Reply> {
  const line = await reader.readLine()
  if (line === null) throw new Error(CLOSED)
  const rest = line.slice(1)
  switch (line[0]) {
    case '+':
      return rest
    case '-':
      return new RedisError(rest)
    case ':':
      return Number(rest)
    case '$': {
      const length = Number(rest)
      if (length < 0) return null
      // With the line end that follows.
      const bytes = await reader.readExactly(length + 2)
      if (bytes === null) throw new Error(CLOSED)
      return new TextDecoder().decode(bytes.subarray(0, length))
    }
    case '*': {
      const length = Number(rest)
      if (length < 0) return null
      const replies: Reply[] = []
      while (replies.length < length) replies.push(await readReply(reader))
      return replies
    }
    default:
      throw new Error(`Redis does not talk like that: ${line}`)
  }
}

async function demonstrate(redis: RedisClient): Promise<void> {
  const [greeting, counter, list] = ['greeting', 'counter', 'list'].map((name) => `it-tcp:${process.pid}:${name}`) as [
    string,
    string,
    string
  ]
  // None of these waits for the one before: Redis takes them in order.
  const replies = await Promise.all([
    redis.call('SET', greeting, 'hello,\r\nwörld'),
    redis.call('GET', greeting),
    redis.call('INCR', greeting).catch((error: Error) => error.message),
    redis.call('LPUSH', list, 'one', 'two'),
    redis.call('LRANGE', list, 0, -1),
    redis.call('GET', `${list}:missing`)
  ])
  for (const reply of replies) console.log(reply)
  const counts = await Promise.all(Array.from({ length: 10_000 }, () => redis.call('INCR', counter)))
  console.log(`${counts.length} times counted in one go, up to ${counts.at(-1)}`)
  console.log(`${await redis.call('DEL', greeting, counter, list)} keys removed`)
}

const [where = '6379', ...words] = process.argv.slice(2)
try {
  const address = where.includes('/') ? toFile(where) : toHostAndPort('localhost', Number(where))
  await using redis = new RedisClient(await connect(address, { timeout: 5_000 }))
  if (words.length === 0) await demonstrate(redis)
  else console.log(await redis.send(...words))
} catch (error) {
  console.error((error as Error).message)
  process.exitCode = 1
}
