// A listening socket whose gate can be shut: bind, listen, open, shut, close.

import net from 'node:net'
import { inspect } from 'node:util'
import type { SocketAddress } from '../address.ts'
import { ListenError } from '../errors.ts'
import { keepAliveSeconds } from '../options.ts'
import { adoptDuplicate, isUserlandAskedFor, kernelGateAvailable } from '../system/descriptors.ts'
import { libc, libcFailure } from '../system/libc.ts'
import { handleOf, hasNodeHandles, type NodeHandle } from '../system/node-internals.ts'
import { setUserTimeout, waitingClients } from '../system/socket-facts.ts'
import type { ListenTarget, WhereToListen } from '../where-to-listen.ts'
import { type BindOptions, type Bound, bind } from './bind.ts'
import type { Gate, GateOptions } from './gate.ts'
import { KernelGate } from './kernel-gate.ts'
import type { UnixSocketFile } from './unix-socket-file.ts'
import { UserlandGate } from './userland-gate.ts'

export { type Accepted, discard } from './gate.ts'

export interface ListeningSocketOptions extends BindOptions, GateOptions {
  /**
   * Milliseconds that sent bytes may stay unacknowledged before the kernel breaks an accepted connection, where the listening socket can pass
   * that on (Linux, with libc); `Infinity` for the system's own limit.
   *
   * @default the system's own limit
   */
  readonly userTimeout?: number
}

/** The longest queue that listen(2) can be asked for: a C `int`. */
const LONGEST_BACKLOG = 2 ** 31 - 1

/**
 * A bound and listening socket, with a gate that lets clients in.
 *
 * - A client that connects while the gate is shut succeeds, and waits: in the kernel's queue (`gate` is `'kernel'`), or accepted
 *   but unread (`'userland'`: `backlog` of them at most, those beyond are closed).
 * - All microtasks run between one client and the next.
 * - An open listener keeps the process alive also while the gate is shut.
 */
export class GatedListener<A extends SocketAddress = SocketAddress> {
  /** As asked for, for unix sockets; really bound, for inet. */
  readonly address: A
  /** Whether accepted sockets have TCP_NODELAY, keep-alive and `userTimeout` as asked for without being told. */
  readonly inheritsSocketOptions: boolean
  readonly #gate: Gate
  readonly #file: UnixSocketFile | undefined
  readonly #release: (() => void) | undefined
  #closed: Promise<void> | undefined

  private constructor(gate: Gate, { address, file, release }: Omit<Bound, 'listener'>, inheritsSocketOptions: boolean) {
    this.address = address as A
    this.inheritsSocketOptions = inheritsSocketOptions
    this.#gate = gate
    this.#file = file
    this.#release = release
  }

  /**
   * Binds and listens, with the gate shut. Resolves when a connect begun after that succeeds.
   *
   * @throws {ListenError} If that fails; nothing is left behind then, and a descriptor to be adopted is left alone.
   * @throws {RangeError} If `backlog` is more than the system can be asked for.
   */
  static async bind<A extends SocketAddress>(where: WhereToListen<A, unknown>, options: ListeningSocketOptions): Promise<GatedListener<A>> {
    const { target } = where
    const { backlog } = options
    if (backlog > LONGEST_BACKLOG) {
      throw new RangeError(`Cannot listen as 'backlog' must be a whole number from 1 to ${LONGEST_BACKLOG}: received ${inspect(backlog)}`)
    }
    try {
      if (target.kind === 'custom') {
        const { gate, address } = target.bind(options)
        return new GatedListener<A>(gate, { address }, true)
      }
      const bound = await bind(target, options)
      // On the socket, which both gates have from here: so before it has its gate, and of two descriptors only one.
      const inheritsSocketOptions = setSocketOptions(bound.listener, options)
      const gate = await publishBehindGate(bound, target, options)
      return new GatedListener<A>(gate, bound, inheritsSocketOptions)
    } catch (error) {
      throw new ListenError(askedFor(target, error), error)
    }
  }

  get gate(): 'kernel' | 'userland' {
    return this.#gate.kind
  }

  /** The listening descriptor; -1 if this runtime does not tell, or once closed. */
  get fd(): number {
    return this.#closed === undefined ? this.#gate.fd : -1
  }

  get isOpen(): boolean {
    return this.#gate.isOpen
  }

  /** Whether one more client can be accepted. */
  get hasRoom(): boolean {
    return this.#gate.hasRoom()
  }

  /** Clients accepted while the gate was shut; always 0 where `gate` is `'kernel'`. */
  get parked(): number {
    return this.#gate.parked
  }

  /** Clients that wait to be let in: in the kernel's queue, or parked. Null where the kernel does not tell. */
  get waiting(): number | null {
    return this.#gate.waiting ?? (this.gate === 'userland' ? this.parked : waitingClients(this.fd))
  }

  /**
   * Lets clients in, parked ones first. Returns false, with the gate still shut, if there are no descriptors for the listener and a
   * client: libuv would accept and close clients unseen.
   *
   * @throws {ListenError} If the system does not let it listen again.
   */
  open(): boolean {
    if (this.#closed !== undefined) return false
    try {
      return this.#gate.open()
    } catch (error) {
      throw new ListenError(this.address, error)
    }
  }

  /** Lets nobody in any more, from now on; also from inside `onAccept`. */
  shut(): void {
    this.#gate.shut()
  }

  /** Keeps the process alive while the socket listens, as from the start. */
  ref(): void {
    if (this.#closed === undefined) this.#gate.ref()
  }

  /** Lets the process end although the socket listens. */
  unref(): void {
    this.#gate.unref()
  }

  /**
   * Removes the unix socket's file, if it is still ours, then closes the socket. Resolves when it can be bound again. Clients that wait are
   * reset. Idempotent.
   */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  #close(): Promise<void> {
    // First the file, then the socket: once the socket is closed a successor may have the path.
    this.#file?.remove()
    const closed = this.#gate.close()
    return this.#release === undefined ? closed : closed.then(this.#release)
  }
}

/** Gives what is bound its gate, and then its path. If that fails it is closed, and nothing is left. */
async function publishBehindGate(bound: Bound, target: ListenTarget, options: ListeningSocketOptions): Promise<Gate> {
  const { listener, file, release } = bound
  let gate: Gate | undefined
  try {
    gate = makeGate(listener, options)
    await file?.publish(target.kind === 'unix' ? target.mode : undefined)
  } catch (error) {
    await gate?.close()
    await file?.cleanUp()
    file?.remove()
    release?.()
    throw error
  }
  await file?.cleanUp()
  return gate
}

/** The one place where a gate is made. What listens is closed if that fails. */
function makeGate(listener: net.Server | NodeHandle, options: GateOptions): Gate {
  if (!(listener instanceof net.Server)) return new KernelGate(listener, options)
  const first = handleOf(listener)
  if (first === undefined || !kernelGateAvailable()) {
    warnOfUserland()
    return new UserlandGate(listener, options)
  }
  try {
    return new KernelGate(adoptDuplicate(first.fd), options)
  } finally {
    listener.close()
  }
}

let hasWarned = false

/** Once, where the kernel's gate could be had and is missed; whoever wants it so says so with the variable. */
function warnOfUserland(): void {
  if (hasWarned || !hasNodeHandles() || isUserlandAskedFor()) return
  const failure = libcFailure()
  if (failure === undefined) return
  hasWarned = true
  const [reason] = failure.message.split('\n')
  process.emitWarning(
    `The accept gate is in userland, since koffi can't be loaded: ${reason}. Install koffi next to the program, or set IT_TCP_GATE=userland to silence this warning`,
    { code: 'IT_TCP_USERLAND_GATE' }
  )
}

/** Sets on the listening socket what Linux then gives to every socket accepted on it; returns whether it does. */
function setSocketOptions(listener: net.Server | NodeHandle, { keepAlive, userTimeout }: ListeningSocketOptions): boolean {
  const handle = listener instanceof net.Server ? (hasNodeHandles() ? handleOf(listener) : undefined) : listener
  if (process.platform !== 'linux' || handle === undefined) return false
  // A unix socket has none of them.
  if (handle.setNoDelay === undefined || handle.setKeepAlive === undefined) return true
  if (handle.setNoDelay(true) !== 0) return false
  if (userTimeout !== undefined) setUserTimeout(handle.fd, userTimeout, libc())
  const seconds = keepAliveSeconds(keepAlive)
  return seconds === undefined || handle.setKeepAlive(true, seconds) === 0
}

function askedFor(target: ListenTarget, error: unknown): SocketAddress | { readonly fd: number } {
  if (target.kind === 'custom') return target.address
  if (target.kind === 'descriptor') return { fd: target.fd }
  if (target.kind === 'unix') return { family: 'unix', path: target.path }
  const resolved = (error as { address?: unknown } | null)?.address
  const address = typeof resolved === 'string' && net.isIP(resolved) !== 0 ? resolved : (target.host ?? '::')
  return { family: address.includes(':') ? 'IPv6' : 'IPv4', address, port: target.port }
}
