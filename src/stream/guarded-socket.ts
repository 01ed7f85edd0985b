// The socket that a connection shows: what is set on it is the user's to set, its bytes are the connection's.

import type { Socket } from 'node:net'
import { BusyError } from '../errors.ts'

// Whoever reads, writes or wraps the socket takes bytes that the connection has yet to see, or sends some into the middle of its own. In every small test
// that seems to work. So the members for it are replaced on the instance, once somebody looks at `connection.socket`. What Node.js itself and the transport
// use of a socket goes past them: `push`, `_read`, `_write`, `_final`, `destroy`, and `read(0)` at the peer's end.

const WRITING = 'write through connection.writer'
const READING = 'read through connection.reader'

// What listening for an event is a sign of; each source that is piped into a stream listens for 'unpipe' on it.
const TAKING_EVENTS: ReadonlyMap<string | symbol, readonly [action: string, instead: string]> = new Map([
  ['data', ["listen for 'data' on", READING]],
  ['readable', ["listen for 'readable' on", READING]],
  ['unpipe', ['pipe into', WRITING]]
])

const members: PropertyDescriptorMap = {
  write: refusing('write', WRITING),
  end: refusing('end', 'close it by connection.writer.close()'),
  pipe: refusing('pipe', READING),
  resume: refusing('resume', READING),
  setEncoding: refusing('setEncoding', READING),
  unshift: refusing('unshift', READING),
  [Symbol.asyncIterator]: refusing('iterate', READING),
  read: member(function (this: Socket, size?: number): unknown {
    if (size === 0) return ordinary(this).read.call(this, 0)
    throw refusal('read', READING)
  }),
  on: listening('on'),
  addListener: listening('addListener'),
  once: listening('once'),
  prependListener: listening('prependListener'),
  prependOnceListener: listening('prependOnceListener'),
  // A TLSSocket asks for the one as it is made, and a session of HTTP/2 for the other before it reads: no call of theirs could be refused.
  writableLength: getter('wrap', WRITING),
  readableLength: getter('wrap', READING)
}
const keys = Reflect.ownKeys(members)

/** Makes whatever would take a connection's bytes from it throw, and returns the socket. */
export function guard(socket: Socket): Socket {
  if (!Object.hasOwn(socket, 'readableLength')) Object.defineProperties(socket, members)
  return socket
}

/** Ends what {@link guard} began: the socket is an ordinary one again. */
export function unguard(socket: Socket): void {
  if (!Object.hasOwn(socket, 'readableLength')) return
  for (const key of keys) delete (socket as unknown as Record<string | symbol, unknown>)[key]
}

function refusal(action: string, instead: string): BusyError {
  return new BusyError(
    `Cannot ${action} connection.socket as its bytes are the connection's: ${instead}, or take a socket of your own with connection.detach()`
  )
}

// Hidden from console.log, and to be taken away again.
function member(value: unknown): PropertyDescriptor {
  return { value, configurable: true, enumerable: false, writable: true }
}

function refusing(action: string, instead: string): PropertyDescriptor {
  return member(() => {
    throw refusal(action, instead)
  })
}

function getter(action: string, instead: string): PropertyDescriptor {
  return {
    configurable: true,
    enumerable: false,
    get: () => {
      throw refusal(action, instead)
    }
  }
}

function listening(name: 'on' | 'addListener' | 'once' | 'prependListener' | 'prependOnceListener'): PropertyDescriptor {
  return member(function (this: Socket, event: string | symbol, listener: (...args: unknown[]) => void): Socket {
    const taking = TAKING_EVENTS.get(event)
    if (taking !== undefined) throw refusal(...taking)
    return (ordinary(this)[name] as Listen).call(this, event, listener)
  })
}

type Listen = (event: string | symbol, listener: (...args: unknown[]) => void) => Socket

function ordinary(socket: Socket): Socket {
  return Object.getPrototypeOf(socket)
}
