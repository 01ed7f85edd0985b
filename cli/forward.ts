// The command `forward`: each client gets a connection of its own to the target, or to the first of several that takes it.

import { ConnectError, type Connection, ConnectTimeoutError, connect, type ProxyHeaderInit, type TlsClientOptions, TlsError } from 'it-tcp'
import { formatAddress, formatTarget, type ListenPlace, type Target } from './address.ts'
import { explain } from './failure.ts'
import { relay } from './relay.ts'
import type { Report } from './report.ts'
import { type ServeOptions, serve } from './serve.ts'
import type { Session } from './session.ts'
import { clientTls } from './tls.ts'

export interface ForwardOptions extends ServeOptions {
  /** Milliseconds for reaching a target. */
  readonly connectTimeout?: number
  /** The version of the PROXY header to send. */
  readonly sendProxy?: 1 | 2
  /** The name to verify that a target has; '' for the host that is dialled. */
  readonly targetTls?: string
  /** The file of the authority of its certificate. */
  readonly targetCa?: string
  /** The files of the certificate that the target is shown. */
  readonly targetTlsCert?: string
  readonly targetTlsKey?: string
}

/** The client's connection, and the one to the target. */
const DESCRIPTORS = 2

/** Forwards until a signal comes. Gives the exit code. */
export async function forward(from: ListenPlace, targets: readonly Target[], options: ForwardOptions): Promise<number> {
  const { targetTls: name, targetCa: ca, targetTlsCert: cert, targetTlsKey: key } = options
  const tls =
    name === undefined ? [] : await Promise.all(targets.map((target) => clientTls({ name, ca, cert, key }, target, '--target-tls')))
  const upstreams = new Upstreams(targets, tls, options)
  return await serve(from, options, DESCRIPTORS, async (client, session, report) => {
    const upstream = await upstreams.connect(client, session, report)
    session.upstream = formatAddress(upstream.remoteAddress)
    session.sent = () => upstream.reader.bytesRead
    await relay(client, upstream)
  })
}

/** None of several targets can be reached. */
class NoTargetError extends AggregateError {
  readonly code = 'ERR_CONNECT'
}

/** The targets, in the order in which they are tried for each client. */
class Upstreams {
  readonly #targets: readonly {
    readonly where: Target
    readonly tls: TlsClientOptions | undefined
    readonly name: string
    isDown: boolean
  }[]
  readonly #timeout: { readonly timeout?: number }
  readonly #version: 1 | 2 | undefined

  constructor(targets: readonly Target[], tls: readonly TlsClientOptions[], { connectTimeout: timeout, sendProxy }: ForwardOptions) {
    this.#targets = targets.map((where, index) => ({ where, tls: tls[index], name: formatTarget(where), isDown: false }))
    this.#timeout = timeout === undefined ? {} : { timeout }
    this.#version = sendProxy
  }

  /** Connects to the first target that can be reached. A client that goes while it is tried takes the attempt along. */
  async connect(client: Connection, session: Session, report: Report): Promise<Connection> {
    const failures: unknown[] = []
    const { signal } = client
    const header = this.#version === undefined ? {} : { proxyHeader: headerFor(client, this.#version) }
    for (const target of this.#targets) {
      const { where, tls, name } = target
      try {
        const upstream = await connect(where, { ...this.#timeout, ...header, ...(tls !== undefined && { tls }), signal })
        if (target.isDown) report.say(`${name} can be reached again`)
        target.isDown = false
        report.detail(`${session.client}: connected to ${name}`)
        return upstream
      } catch (error) {
        if (!(error instanceof ConnectError || error instanceof ConnectTimeoutError || error instanceof TlsError)) throw error
        failures.push(error)
        report.detail(`${session.client}: ${explain(error)}`)
        // Where another takes its place that is told once; where none does, of each client who finds none.
        if (target === this.#targets.at(-1)) continue
        if (!target.isDown) report.say(`${explain(error)}; its clients go to the next target`)
        target.isDown = true
      }
    }
    if (failures.length === 1) throw failures[0]
    throw new NoTargetError(failures, `no target can be reached: ${failures.map(explain).join('; ')}`)
  }
}

// What came with a header goes on with one, its values too. A client of a unix socket has no address that a receiver could use.
function headerFor({ proxy, remoteAddress, localAddress }: Connection, version: 1 | 2): ProxyHeaderInit {
  if (proxy?.command === 'local' && version === 2) return { command: 'local' }
  const isKnown = remoteAddress.family !== 'unix' && localAddress.family !== 'unix'
  const ends = isKnown ? { source: remoteAddress, destination: localAddress } : { source: null, destination: null }
  const { source, destination } = proxy?.source?.family === 'IPv4' || proxy?.source?.family === 'IPv6' ? proxy : ends
  return { source, destination, version, ...(version === 2 && proxy !== null && { tlvs: proxy.tlvs }) }
}
