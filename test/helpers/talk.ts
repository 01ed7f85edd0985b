// A plain peer for programs that are tested from outside.

import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { setImmediate } from 'node:timers/promises'

/** Connects as soon as somebody listens on the port or path, sends `message`, half-closes, and gives the whole answer. */
export async function talk(target: number | string, message: string): Promise<string> {
  const socket = await dial(target)
  socket.end(message)
  return await text(socket)
}

/** {@link talk}, for a program that serves for ever: ends the process, with 0 only if the answer is `expected`. */
export async function talkAndExit(target: number | string, message: string, expected: string): Promise<never> {
  const answer = await talk(target, message)
  if (answer !== expected) console.error(`Expected ${JSON.stringify(expected)}: received ${JSON.stringify(answer)}`)
  process.exit(answer === expected ? 0 : 1)
}

async function dial(target: number | string): Promise<Socket> {
  for (;;) {
    try {
      const options = typeof target === 'string' ? { path: target } : { port: target, host: '127.0.0.1' }
      const socket = connect({ ...options, allowHalfOpen: true })
      await once(socket, 'connect')
      return socket
    } catch {
      await setImmediate()
    }
  }
}
