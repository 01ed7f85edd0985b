// node clients.js, forked: a process full of foreign clients, plain node:net sockets, that does what its parent says.

import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Target } from '../helpers/raw.ts'
import type { Errand, ErrandOptions, Held, Outcomes, Stay } from './crowd.ts'

type Outcome = 'served' | 'unanswered' | 'broken' | 'refused' | 'gone'

interface Request {
  readonly id: number
  readonly act: 'ready' | 'run' | 'hold' | 'held' | 'sip' | 'release'
}

const TRICKLE_EVERY = 1_000
const DIAL_AT_ONCE = 200
const KEPT_COMPLAINTS = 5
const FILLER = Buffer.alloc(65_536, 'x')

const errands: Record<Errand, (socket: Socket, bytes: number) => Promise<Outcome>> = {
  ask,
  'half-close': async (socket) => {
    socket.end()
    return (await toEnd(socket)).toString() === 'bye\n' ? 'served' : 'unanswered'
  },
  reset: async (socket) => await reset(socket),
  'ask-and-reset': async (socket) => {
    socket.write('a line, please\n')
    return await reset(socket)
  },
  leave: async (socket) => {
    socket.destroy()
    return 'gone'
  },
  echo,
  download: async (socket, bytes) => await download(socket, bytes, 0),
  'slow-download': async (socket, bytes) => await download(socket, bytes, 10),
  upload,
  'upload-and-reset': async (socket, bytes) => {
    socket.write(`upload ${bytes}\n`)
    socket.write(FILLER.subarray(0, Math.min(FILLER.byteLength, bytes - 1)))
    return await reset(socket)
  }
}

const stays: Record<Stay, (socket: Socket, bytes: number) => void> = {
  silent: (socket) => void socket.resume(),
  stubborn: (socket) => void socket.removeAllListeners('end').resume(),
  trickle: (socket) => {
    socket.resume()
    tricklers.add(socket)
  },
  deaf: (socket, bytes) => {
    socket.pause()
    socket.write(`download ${bytes}\n`)
  },
  sipping: (socket, bytes) => {
    socket.pause()
    socket.write(`download ${bytes}\n`)
  },
  'endless-line': (socket) => {
    // Whatever the server says.
    socket.removeAllListeners('end').resume()
    const fill = (): void => {
      while (!socket.destroyed && socket.write(FILLER));
    }
    socket.on('drain', fill)
    fill()
  },
  greedy: (socket, bytes) => {
    socket.write(`download ${bytes}\n`)
    socket.on('data', (chunk: Buffer) => {
      received += chunk.byteLength
    })
  }
}

const held = new Set<Socket>()
const tricklers = new Set<Socket>()
let received = 0
let complaints: string[] = []

setInterval(() => {
  for (const socket of tricklers) if (socket.writable) socket.write('x')
}, TRICKLE_EVERY).unref()

process.on('message', (request: Request) => {
  act(request).then(
    (result) => process.send?.({ id: request.id, result }),
    (error: Error) => process.send?.({ id: request.id, error: error.message })
  )
})
process.on('disconnect', () => process.exit())

async function act(request: Request): Promise<unknown> {
  switch (request.act) {
    case 'ready':
      return undefined
    case 'run':
      return await run(request as Request & ErrandOptions & { errand: Errand })
    case 'hold':
      return await hold(request as Request & { stay: Stay; target: Target; count: number; bytes?: number })
    case 'held':
      return { open: held.size, received } satisfies Held
    case 'sip':
      return sip(request as Request & { bytes: number })
    case 'release':
      return await release(request as Request & { how?: 'end' | 'reset' })
  }
}

async function run(options: ErrandOptions & { errand: Errand }): Promise<Outcomes> {
  const { errand, target, duration, count = Number.POSITIVE_INFINITY, concurrency = 50, bytes = 0, pause = 0 } = options
  const until = duration === undefined ? Number.POSITIVE_INFINITY : performance.now() + duration
  const outcomes: Record<string, number> = {}
  let left = duration === undefined && count === Number.POSITIVE_INFINITY ? 1 : count
  let worst = 0
  const before = moved
  complaints = []
  const client = async (): Promise<void> => {
    while (left-- > 0 && performance.now() < until) {
      const start = performance.now()
      const outcome = await runOne(errand, target, bytes)
      worst = Math.max(worst, performance.now() - start)
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
      if (pause > 0) await sleep(pause)
    }
  }
  await Promise.all(Array.from({ length: Math.min(concurrency, count) }, client))
  return { outcomes, worst, bytes: moved - before, wrong: complaints }
}

async function runOne(errand: Errand, target: Target, bytes: number): Promise<Outcome | 'wrong'> {
  let socket: Socket
  try {
    socket = await dial(target)
  } catch {
    return 'refused'
  }
  try {
    return await errands[errand](socket, bytes)
  } catch (error) {
    if (!(error instanceof WrongBytes)) return 'broken'
    if (complaints.length < KEPT_COMPLAINTS) complaints.push(`${errand}: ${error.message}`)
    return 'wrong'
  } finally {
    socket.destroy()
    moved += socket.bytesRead + socket.bytesWritten
    if (!socket.closed) await once(socket, 'close').catch(() => {})
  }
}

/** Bytes that came whole, and are not those that were sent. */
class WrongBytes extends Error {}

let moved = 0
let asked = 0

async function ask(socket: Socket): Promise<Outcome> {
  const question = `question ${++asked}\n`
  socket.write(question)
  const answer = await toLength(socket, question.length)
  if (answer.length === 0) return 'unanswered'
  if (answer.length < question.length) return 'broken'
  if (answer.toString() !== question) throw new WrongBytes(`${question} was answered by ${answer.toString()}`)
  socket.end()
  return 'served'
}

async function reset(socket: Socket): Promise<Outcome> {
  try {
    socket.resetAndDestroy()
  } catch {
    // A unix socket.
    socket.destroy()
  }
  return 'gone'
}

async function echo(socket: Socket, bytes: number): Promise<Outcome> {
  const data = randomBytes(bytes)
  socket.write(`echo ${bytes}\n`)
  socket.end(data)
  const answer = await toEnd(socket)
  if (answer.length < bytes) return answer.length === 0 ? 'unanswered' : 'broken'
  compare(digestOf(answer), digestOf(data), answer.length, bytes)
  return 'served'
}

async function download(socket: Socket, bytes: number, pause: number): Promise<Outcome> {
  socket.write(`download ${bytes}\n`)
  const hash = createHash('sha256')
  let length = 0
  let tail: Buffer = Buffer.alloc(0)
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    // The digest follows, in hex.
    const all = Buffer.concat([tail, chunk])
    const body = all.subarray(0, Math.max(0, Math.min(bytes - length, all.byteLength)))
    hash.update(body)
    length += body.byteLength
    tail = all.subarray(body.byteLength)
    if (pause > 0) await sleep(pause)
  }
  if (length < bytes || tail.byteLength < 64) return length === 0 ? 'unanswered' : 'broken'
  compare(tail.toString('latin1'), hash.digest('hex'), length, bytes)
  return 'served'
}

async function upload(socket: Socket, bytes: number): Promise<Outcome> {
  const data = randomBytes(bytes)
  socket.write(`upload ${bytes}\n`)
  socket.write(data)
  const answer = await toLength(socket, 64)
  if (answer.length < 64) return answer.length === 0 ? 'unanswered' : 'broken'
  compare(answer.toString('latin1'), digestOf(data), bytes, bytes)
  return 'served'
}

function compare(actual: string, expected: string, length: number, bytes: number): void {
  if (actual !== expected || length !== bytes) throw new WrongBytes(`${length} of ${bytes} bytes: ${actual} instead of ${expected}`)
}

function digestOf(data: Uint8Array): string {
  return createHash('sha256').update(data).digest('hex')
}

/** Everything until the end; rejects on a reset. */
async function toEnd(socket: Socket): Promise<Buffer> {
  return await toLength(socket, Number.POSITIVE_INFINITY)
}

/** `length` bytes, or fewer at the end. */
function toLength(socket: Socket, length: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let sum = 0
    socket
      .on('data', (chunk: Buffer) => {
        chunks.push(chunk)
        sum += chunk.byteLength
        if (sum >= length) resolve(Buffer.concat(chunks))
      })
      .on('end', () => resolve(Buffer.concat(chunks)))
      .on('error', reject)
      .on('close', () => reject(new Error('closed')))
  })
}

async function hold({ stay, target, count, bytes = 0 }: { stay: Stay; target: Target; count: number; bytes?: number }): Promise<void> {
  let left = count
  const dialer = async (): Promise<void> => {
    while (left-- > 0) {
      const socket = await dial(target)
      held.add(socket)
      socket.on('end', () => socket.destroy())
      socket.on('close', () => {
        held.delete(socket)
        tricklers.delete(socket)
      })
      stays[stay](socket, bytes)
    }
  }
  await Promise.all(Array.from({ length: Math.min(DIAL_AT_ONCE, count) }, dialer))
}

function sip({ bytes }: { bytes: number }): void {
  for (const socket of held)
    received += (socket.read(Math.min(bytes, socket.readableLength) || undefined) as Buffer | null)?.byteLength ?? 0
}

async function release({ how = 'end' }: { how?: 'end' | 'reset' }): Promise<void> {
  const all = [...held]
  await Promise.all(
    all.map(async (socket) => {
      if (how === 'reset') await reset(socket)
      else socket.destroy()
      if (!socket.closed) await once(socket, 'close')
    })
  )
}

// Where the queue of a unix server is full, or the ports of a TCP client are used up, there is nothing to do but try again.
async function dial(target: Target): Promise<Socket> {
  for (;;) {
    const where = typeof target === 'string' ? { path: target } : { port: target, host: '127.0.0.1' }
    const socket = connect({ ...where, allowHalfOpen: true, noDelay: true })
    try {
      await once(socket, 'connect')
      socket.on('error', () => {})
      return socket
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code !== 'EAGAIN' && code !== 'EADDRNOTAVAIL') throw error
      await sleep(5)
    }
  }
}
