// A server's side before the handshake: where the context depends on it, reads which host the client asks for, and finds that context.

import type { SocketAddress } from '../address.ts'
import type { ByteConnection } from '../stream/byte-connection.ts'
import type { TlsContext, TlsContextOptions } from '../tls.ts'
import { type ClientHello, ClientHelloParser } from './client-hello.ts'
import { checkTlsContext, contextForOf, serverTerms } from './context.ts'
import { ServerHandshake } from './handshake.ts'
import type { Reservation } from './reservation.ts'
import { isOnHandle, type Prepare } from './shake-hands.ts'

type Choose = NonNullable<TlsContextOptions['contextFor']>
type Machine = ByteConnection<SocketAddress>

/** How a server with this context gets to its handshake. */
export function greet(context: TlsContext): Prepare {
  return (machine, reservation, early) => handshakeAtOnce(machine, context) ?? peek(machine, reservation, early, context)
}

/**
 * The handshake, if nothing needs to be known of the client before. OpenSSL then reads all by itself, and in larger pieces: what it is given of the ClientHello
 * sets the size of its buffer for good, 1 KiB instead of 64.
 */
export function handshakeAtOnce({ transport }: Machine, context: TlsContext): ServerHandshake | undefined {
  const terms = serverTerms(context)
  return contextForOf(context) === undefined && isOnHandle(transport, terms.closeNotify) ? new ServerHandshake(terms) : undefined
}

async function peek(machine: Machine, reservation: Reservation, early: Uint8Array[], context: TlsContext): Promise<ServerHandshake> {
  const choose = contextForOf(context)
  const hello = await readHello(machine, reservation, early)
  const isAsked = choose !== undefined && hello?.serverName !== undefined
  const chosen = isAsked ? await contextFor(machine, context, choose, hello.serverName) : context
  return new ServerHandshake(serverTerms(chosen), { serverName: hello?.serverName })
}

// Undefined if it is none: OpenSSL then says what is wrong with it, and sends the alert. So it does of one that ends too early.
async function readHello(machine: Machine, reservation: Reservation, early: Uint8Array[]): Promise<ClientHello | undefined> {
  const { incoming } = machine
  const parser = new ClientHelloParser()
  for (;;) {
    const chunks = incoming.takeUnread()
    early.push(...chunks)
    for (const chunk of chunks) {
      const found = parser.push(chunk)
      if (found !== 'more') return found
    }
    if (incoming.isOver) return undefined
    await reservation.news()
  }
}

async function contextFor(machine: Machine, context: TlsContext, choose: Choose, serverName: string): Promise<TlsContext> {
  // One that never answers is left behind when the connection is: by its deadline, or when the client leaves.
  const gone = machine.closed.then(() => Promise.reject(machine.signal.reason))
  const answer = (async () => await choose(serverName))()
  const chosen = await Promise.race([answer, gone])
  if (chosen === undefined) return context
  checkTlsContext('Cannot shake hands', 'contextFor', chosen)
  return chosen
}
