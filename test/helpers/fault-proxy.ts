// A proxy that does what networks do: splits, joins, delays, stalls, drops, ends and resets. On plain `node:net`, so that it shares
// nothing with what it tests.

import { once } from 'node:events'
import { type AddressInfo, createConnection, createServer, type Socket } from 'node:net'
import { closeAtEnd, type Target } from './raw.ts'
import type { Scope } from './scope.ts'
import { turns } from './until.ts'

/** Bytes that the proxy holds at most, plus one chunk. */
const MOST_HELD = 65_536

/** When a fault happens: before the first byte after so many, in place of the sender's FIN, or once that is passed on. */
export type Moment = number | 'end' | 'ended'

/** How the bytes of one direction travel. */
export interface Course {
  /** The most bytes that are passed on at once. */
  readonly split?: number
  /** Bytes are held back until there are so many of them, or the end. */
  readonly join?: number
  /** Turns of the event loop before each piece. */
  readonly delay?: number
  readonly at?: Moment
  /** Called once, at that moment. */
  readonly fault?: (link: Link) => void
}

/** From the client to the server, and back. */
export interface Courses {
  readonly up?: Course
  readonly down?: Course
}

export interface FaultProxy {
  /** Where clients find it: of the kind that its server has. */
  readonly target: Target
  /** Its connections, in the order of arrival. */
  readonly links: readonly Link[]
}

/** A connection of the proxy: one to the client, one to the server, and what flows between them. */
export class Link {
  readonly client: Socket
  readonly server: Socket
  readonly up: Flow
  readonly down: Flow

  constructor(client: Socket, server: Socket, courses: Courses) {
    this.client = client
    this.server = server
    this.up = new Flow(this, client, server, courses.up ?? {})
    this.down = new Flow(this, server, client, courses.down ?? {})
  }

  /** Holds everything back, both ways, until `resume()`. */
  stall(): void {
    this.up.stall()
    this.down.stall()
  }

  resume(): void {
    this.up.resume()
    this.down.resume()
  }

  /** Takes everything and passes nothing on any more, both ways: not even an end or a reset. */
  drop(): void {
    this.up.drop()
    this.down.drop()
  }

  /** Resets both connections. */
  reset(): void {
    this.drop()
    reset(this.client)
    reset(this.server)
  }
}

/** One direction of a link. */
export class Flow {
  readonly #link: Link
  readonly #from: Socket
  readonly #inbox: Inbox
  readonly #to: Socket
  readonly #course: Course
  #passed = 0
  #isDropping = false
  #stalled: { readonly over: Promise<void>; readonly end: () => void } | undefined
  #isFaultDue: boolean

  constructor(link: Link, from: Socket, to: Socket, course: Course) {
    this.#link = link
    this.#from = from
    this.#inbox = new Inbox(from)
    this.#to = to
    this.#course = course
    this.#isFaultDue = course.fault !== undefined
    void this.#run()
  }

  /** How many bytes have been passed on. */
  get passed(): number {
    return this.#passed
  }

  stall(): void {
    if (this.#stalled !== undefined) return
    let end = (): void => {}
    const over = new Promise<void>((resolve) => {
      end = resolve
    })
    this.#stalled = { over, end }
  }

  resume(): void {
    this.#stalled?.end()
    this.#stalled = undefined
  }

  /** Takes everything and passes nothing on any more, not even an end or a reset. */
  drop(): void {
    this.#isDropping = true
    this.resume()
  }

  /** Sends FIN to whoever receives, and drops what comes after it. */
  end(): void {
    this.drop()
    if (!this.#to.destroyed) this.#to.end()
  }

  /** Resets the connection with whoever receives, and says nothing to the other. */
  reset(): void {
    this.#link.drop()
    reset(this.#to)
  }

  async #run(): Promise<void> {
    // The courses of both directions are known before anything flows.
    await turns(1)
    this.#strike(0)
    for (;;) {
      await this.#passable()
      const data = await this.#inbox.take(this.#course.join ?? 1)
      await this.#passable()
      if (data === 'broken') {
        if (!this.#isDropping) reset(this.#to)
        return
      }
      if (data === null) {
        this.#strike('end')
        await this.#passable()
        if (this.#isDropping) return
        // A reset while shutdown(2) is pending would lose the descriptor.
        await new Promise<void>((resolve) => this.#to.end(resolve))
        this.#strike('ended')
        return
      }
      await this.#pass(data)
    }
  }

  async #pass(data: Buffer): Promise<void> {
    const { split = data.byteLength, delay = 0, at } = this.#course
    for (let rest = data; rest.byteLength > 0; ) {
      await turns(delay)
      await this.#passable()
      if (this.#isDropping) return
      if (this.#to.destroyed) {
        // As a system answers what is sent to nobody.
        reset(this.#from)
        return
      }
      const untilFault = this.#isFaultDue && typeof at === 'number' ? at - this.#passed : Number.POSITIVE_INFINITY
      const piece = rest.subarray(0, Math.min(split, untilFault))
      rest = rest.subarray(piece.byteLength)
      this.#passed += piece.byteLength
      if (!this.#to.write(piece)) await drained(this.#to)
      this.#strike(this.#passed)
    }
  }

  #strike(moment: Moment): void {
    if (!this.#isFaultDue || moment !== this.#course.at) return
    this.#isFaultDue = false
    this.#course.fault?.(this.#link)
  }

  async #passable(): Promise<void> {
    while (this.#stalled !== undefined) await this.#stalled.over
  }
}

/** What has arrived from a socket and is not passed on yet. */
class Inbox {
  readonly #socket: Socket
  #chunks: Buffer[] = []
  #length = 0
  #isOver = false
  #wake = (): void => {}

  constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk)
      this.#length += chunk.byteLength
      if (this.#length >= MOST_HELD) socket.pause()
      this.#wake()
    })
    const over = (): void => {
      this.#isOver = true
      this.#wake()
    }
    socket.on('end', over).on('close', over)
    if (socket.destroyed) over()
    else socket.resume()
  }

  /**
   * At least `atLeast` bytes, or what there is at the end; then null, or 'broken' after a reset. A reset that comes together with bytes may
   * look like an end (libuv/libuv#4997): tests that tell the two apart let the proxy reset, and not the sender.
   */
  async take(atLeast: number): Promise<Buffer | null | 'broken'> {
    while (this.#length < Math.min(atLeast, MOST_HELD) && !this.#isOver) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    if (this.#length === 0) return this.#socket.readableEnded ? null : 'broken'
    const all = Buffer.concat(this.#chunks)
    this.#chunks = []
    this.#length = 0
    if (!this.#isOver) this.#socket.resume()
    return all
  }
}

/** Listens, and passes what its clients send on to `target`, on the courses that `plan` gives for each of them. */
export async function faultProxy(scope: Scope, target: Target, plan: Courses | (() => Courses), path?: string): Promise<FaultProxy> {
  const links: Link[] = []
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
    const where = typeof target === 'string' ? { path: target } : { port: target, host: '127.0.0.1' }
    const upstream = createConnection({ ...where, allowHalfOpen: true })
    for (const socket of [client, upstream]) closeAtEnd(scope, socket.setNoDelay(true))
    links.push(new Link(client, upstream, typeof plan === 'function' ? plan() : plan))
  })
  server.listen(path ?? { port: 0, host: '127.0.0.1' })
  await once(server, 'listening')
  scope.defer(() => new Promise((resolve) => server.close(resolve)))
  return { links, target: path ?? (server.address() as AddressInfo).port }
}

function reset(socket: Socket): void {
  if (socket.destroyed) return
  try {
    socket.resetAndDestroy()
  } catch {
    // A unix socket has no reset: its peer sees an end, or a reset where something was unread.
    socket.destroy()
  }
}

async function drained(socket: Socket): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = (): void => {
      socket.off('drain', done).off('close', done)
      resolve()
    }
    socket.on('drain', done).on('close', done)
  })
}
