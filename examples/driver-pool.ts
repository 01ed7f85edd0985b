// Shows a driver whose pool gets its streams from a function: every address of a name is tried, under one deadline.
// Run it: npm run build && node dist/examples/driver-pool.js 'select version()' [host or path] [port] [user] [database]
// It wants a PostgreSQL, whose password it takes from PGPASSWORD; ends by itself.

import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { connectSocket, toFile, toHostAndPort } from 'it-tcp'
import pg from 'pg'

const [sql = 'select version()', host = 'localhost', port = '5432', user = 'postgres', database = user] = process.argv.slice(2)
const where = host.includes('/') ? toFile(host) : toHostAndPort(host, Number(port))

/** Drivers want a stream at once, not the promise of one: this one dials by itself, and holds back what is written meanwhile. */
class DialledStream extends Duplex {
  #socket: Socket | undefined

  override _construct(callback: (error?: Error) => void): void {
    connectSocket(where, { timeout: 5_000 }).then((socket) => {
      this.#socket = socket
      socket.on('data', (chunk) => this.push(chunk) || socket.pause())
      socket.on('end', () => this.push(null))
      socket.on('error', (error) => this.destroy(error))
      callback()
      this.emit('connect')
    }, callback)
  }
  override _read(): void {
    this.#socket?.resume()
  }
  override _write(chunk: Buffer, encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.#socket?.write(chunk, encoding, callback)
  }
  override _final(callback: () => void): void {
    this.#socket?.end(callback)
  }
  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    this.#socket?.destroy()
    callback(error)
  }

  // What pg calls of a net.Socket besides: connect(), after which it waits for 'connect'. TCP_NODELAY is on already.
  connect(): void {}
  setNoDelay(): void {}
  ref(): void {}
  unref(): void {}
}

const pool = new pg.Pool({ user, database, max: 3, stream: () => new DialledStream({ allowHalfOpen: false }) as Duplex as Socket })
try {
  // Nine queries, each over a connection of its own as long as there are no more than three.
  const results = await Promise.all(Array.from({ length: 9 }, () => pool.query({ text: sql, rowMode: 'array' })))
  for (const row of results[0]?.rows ?? []) console.log(row.join(' | '))
  console.log(`${results.length} answers over ${pool.totalCount} connections`)
} catch (error) {
  console.error((error as Error).message)
  process.exitCode = 1
} finally {
  await pool.end()
}
