// The server of a program: who waits, who was served, which slots are taken.

import { getEventListeners } from 'node:events'
import { BusyError, type Connection, type Server, ServerClosedError } from '../../src/index.ts'
import { Direction } from './direction.ts'
import { LibraryEnd } from './library-end.ts'
import type { Program, Step } from './program.ts'
import type { RawEnd } from './raw-end.ts'
import { law, rejected } from './violation.ts'
import type { World } from './world.ts'

/** A client of the server. */
export interface Link {
  readonly number: number
  /** From the client to the server. */
  readonly up: Direction
  /** From the server to the client. */
  readonly down: Direction
  /** The client's port; undefined while it connects, and over unix sockets. */
  port: number | undefined
  /** An address that only this client has; undefined for the usual one. */
  readonly address: string | undefined
  client: LibraryEnd | RawEnd | undefined
  isAccepted: boolean
}

interface Slot {
  readonly end: LibraryEnd
  /** Ends the handler; undefined if there is none, or it has ended. */
  endHandler: ((error: unknown) => void) | undefined
  /** What the handler failed with, until its policy has been told. */
  untold: unknown
}

const HANDLER_POLICIES: readonly Program['server'][] = ['raise', 'ignore', 'callback']

export class ServerSide {
  readonly links: Link[] = []
  readonly slots: Slot[] = []
  /** Whether the file of the unix socket is gone; always true for TCP. Set by who made it. */
  isFileGone: () => boolean = () => true
  readonly #world: World
  readonly #program: Program
  readonly #onEnd: (end: LibraryEnd) => void
  readonly #pulls = new Set<AbortController>()
  #server: Server | undefined
  #controller: AbortController | undefined
  #limit: number
  #isDropping = false
  #isClosed = false
  #isCloseFinished = false
  #raised: { readonly error: unknown } | undefined

  constructor(world: World, program: Program, onEnd: (end: LibraryEnd) => void) {
    this.#world = world
    this.#program = program
    this.#onEnd = onEnd
    this.#limit = program.maxConnections
  }

  start(server: Server, controller: AbortController): void {
    this.#server = server
    this.#controller = controller
    const world = this.#world
    void world.track('server closeFinished', server.closeFinished, () => this.#closeFinished(), rejected)
    void world.track(
      'server finished',
      server.finished,
      () => {
        law(this.#raised === undefined, 'ended well although a handler failed')
        law(this.#isClosed, 'ended before the server was closed')
        law(!this.#hasHandler || this.#handlers === 0, `ended before ${this.#handlers} handlers`)
      },
      (error) => law(this.#raised?.error === error, 'failed of something else than a handler', error)
    )
  }

  get server(): Server {
    return this.#server as Server
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  get isCloseFinished(): boolean {
    return this.#isCloseFinished
  }

  get #hasHandler(): boolean {
    return HANDLER_POLICIES.includes(this.#program.server)
  }

  get #handlers(): number {
    return this.slots.filter((slot) => slot.endHandler !== undefined).length
  }

  /** Slots in use. */
  get #taken(): number {
    return this.slots.filter(({ end, endHandler, untold }) => !end.isReleased || endHandler !== undefined || untold !== undefined).length
  }

  /** Checks what must hold at any time; when the event loop has turned, slots are what the model counts. */
  check(hasTurned: boolean): void {
    const { server } = this
    server.invariant()
    law(server.isClosed === this.#isClosed, `server.isClosed is ${server.isClosed}`)
    law(server.maxConnections === this.#limit, `server.maxConnections is ${server.maxConnections}`)
    if (this.#program.isWatched) law(server.signal.aborted === this.#isClosed, `server.signal.aborted is ${server.signal.aborted}`)
    if (hasTurned) law(server.numConnections === this.#taken, `server.numConnections is ${server.numConnections} instead of ${this.#taken}`)
  }

  /** Whether all that must have happened by itself has happened. */
  get isSettled(): boolean {
    if (this.#isClosed) return this.#isCloseFinished
    const waiting = this.links.filter(({ isAccepted, up, port }) => !isAccepted && up.cut === 'no' && port !== undefined).length
    const served = this.server.numDropped
    if (this.#isDropping) return waiting <= served
    const isWanted = this.#taken < this.#limit && (this.#hasHandler || this.#pulls.size > 0)
    return !isWanted || waiting <= served
  }

  // Clients -----------------------------------------------------------------------------------------------------------

  /** A client that is about to connect. */
  arrive(address?: string): Link {
    const number = this.links.length + 1
    const isTcp = this.#program.transport === 'tcp'
    const [up, down] = [new Direction(2000 * number, isTcp), new Direction(2000 * number + 1000, isTcp)]
    const link: Link = { number, up, down, port: undefined, address, client: undefined, isAccepted: false }
    this.links.push(link)
    if (this.#isDropping || this.#isClosed) down.cutOff('close', 0)
    return link
  }

  #admit(connection: Connection): LibraryEnd {
    const link = this.#linkOf(connection)
    law(!this.#isClosed, `client ${link.number} is handed out after the server was closed`)
    law(!link.isAccepted, `client ${link.number} is handed out twice`)
    const later = this.links.find((other) => other.number > link.number && other.isAccepted)
    law(later === undefined, `client ${link.number} is handed out after client ${later?.number}`)
    link.isAccepted = true
    link.down.mend()
    const { bufferSize, isWatched } = this.#program
    const directions = { incoming: link.up, outgoing: link.down }
    const end = new LibraryEnd(this.#world, `server's end ${link.number}`, connection, directions, { bufferSize, isWatched })
    this.slots.push({ end, endHandler: undefined, untold: undefined })
    law(this.#taken <= this.#limit, `client ${link.number} is handed out at the limit of ${this.#limit}`)
    return end
  }

  #linkOf({ remoteAddress }: Connection): Link {
    let link: Link | undefined
    if (remoteAddress.family === 'unix') {
      law(remoteAddress.path === '', `A client is named ${remoteAddress.path}`)
      link = this.links[this.server.numDropped + this.slots.length]
    } else {
      const { address, port } = remoteAddress
      const isUsual = address === '127.0.0.1'
      link =
        this.links.find((one) => (isUsual ? one.address === undefined && one.port === port : one.address === address)) ??
        this.links.find((one) => isUsual && one.address === undefined && one.port === undefined)
    }
    law(link !== undefined, 'a client that never connected is handed out')
    return link
  }

  /** Takes a client, once there is one. */
  pull(how: 'accept' | 'next', hasSignal: boolean): void {
    const { server } = this
    const wasClosed = this.#isClosed
    const controller = new AbortController()
    const { signal } = controller
    const promise = how === 'next' ? server.next() : server.accept(hasSignal ? { signal } : {})
    const isWaiting = !wasClosed && !this.#hasHandler
    if (isWaiting) this.#pulls.add(controller)
    void this.#world.track(
      `server ${how}`,
      promise as Promise<unknown>,
      (result) => {
        this.#pulls.delete(controller)
        law(getEventListeners(signal, 'abort').length === 0, 'left a listener on its signal')
        law(!this.#hasHandler, 'took a client beside the handler')
        const connection = how === 'next' ? (result as IteratorResult<Connection>).value : result
        if (how === 'next' && (result as IteratorResult<Connection>).done === true) {
          law(this.#isClosed, 'is done although the server is open')
          return
        }
        law(!wasClosed, 'gave a client after the server was closed')
        this.#onEnd(this.#admit(connection as Connection))
      },
      (error) => {
        this.#pulls.delete(controller)
        law(getEventListeners(signal, 'abort').length === 0, 'left a listener on its signal')
        if (signal.aborted && error === signal.reason) return
        if (error instanceof BusyError) law(this.#hasHandler, 'found a handler, and there is none', error)
        else law(how === 'accept' && error instanceof ServerClosedError && this.#isClosed, `failed of ${String(error)}`, error)
      }
    )
  }

  /** Aborts the signal of the first who waits. */
  abortPull(): void {
    for (const controller of this.#pulls) {
      controller.abort(new Error('Aborted by the program'))
      return
    }
  }

  // Handlers ----------------------------------------------------------------------------------------------------------

  readonly handler = (connection: Connection): Promise<void> => {
    let ended: Promise<void> = Promise.resolve()
    this.#world.hold('server handler', () => {
      const end = this.#admit(connection)
      ended = new Promise((resolve, reject) => {
        const slot = this.slots.at(-1) as Slot
        slot.endHandler = (error) => (error === undefined ? resolve() : reject(error))
      })
      this.#onEnd(end)
    })
    return ended
  }

  readonly onHandlerError = (_address: unknown, error: unknown): void => {
    this.#world.hold('server onHandlerError', () => {
      const slot = this.slots.find(({ untold }) => untold === error)
      law(slot !== undefined, 'was called for no handler')
      law(slot.end.connection.socket.destroyed, 'was called before the connection was closed')
      slot.untold = undefined
    })
  }

  /** Ends one of the running handlers. */
  endHandler(index: number, how: 'return' | 'throw' | 'rethrow'): void {
    const running = this.slots.filter(({ endHandler }) => endHandler !== undefined)
    const slot = running[index % running.length]
    if (slot === undefined) return
    const error = how === 'return' ? undefined : how === 'throw' ? new Error('The handler failed') : slot.end.lastError
    const { endHandler } = slot
    slot.endHandler = undefined
    // A connection that is closed stays as it is: what it has can still be read.
    if (!slot.end.isReleased) slot.end.noteClosed()
    if (this.#program.server === 'callback') slot.untold = error
    if (this.#program.server === 'raise' && how === 'throw') {
      this.#raised ??= { error }
      this.#noteClosed()
    }
    endHandler?.(error)
  }

  /** Ends all handlers, whatever the model says. */
  endAllHandlers(): void {
    for (const { endHandler } of this.slots) endHandler?.(undefined)
  }

  /** Whether nobody waits for a client. */
  get isIdle(): boolean {
    return this.#pulls.size === 0
  }

  /** Ends the handler of `end`, if it has one. */
  endHandlerOf(end: LibraryEnd): void {
    const index = this.slots.filter(({ endHandler }) => endHandler !== undefined).findIndex((slot) => slot.end === end)
    if (index !== -1) this.endHandler(index, 'return')
  }

  // Settings and the end ----------------------------------------------------------------------------------------------

  setLimit(limit: number): void {
    this.#limit = limit
    this.server.maxConnections = limit
  }

  setDropping(isDropping: boolean): void {
    this.#isDropping = isDropping
    if (isDropping && !this.#isClosed) this.#cutOffWaiting()
    this.server.dropIncomingConnections = isDropping
  }

  close(how: Extract<Step, { do: 'closeServer' }>['how']): void {
    const { server } = this
    this.#noteClosed()
    const open = this.slots.map(({ end }) => end).filter(({ isReleased }) => !isReleased)
    if (how === 'connections' || how === 'force') for (const end of open) end.noteAborted()
    const promise = this.#callClose(how)
    law(server.isClosed, 'The server is open after close()')
    if (how === 'close') law(promise === server.close(), 'close() of the server gives several promises')
    void this.#world.track(
      `server close (${how})`,
      promise as Promise<unknown>,
      () => {
        law(how === 'signal' || this.isFileGone(), 'resolved although the file of the socket is there')
        if (how === 'connections') {
          const left = open.filter(({ connection }) => !connection.socket.destroyed)
          law(left.length === 0, `resolved before ${left.length} connections were closed`)
        }
        if (how === 'dispose') law(this.#taken === 0, `resolved with ${this.#taken} slots taken`)
      },
      (error) => law(how === 'dispose' && this.#raised?.error === error, `failed of ${String(error)}`, error)
    )
  }

  #callClose(how: Extract<Step, { do: 'closeServer' }>['how']): Promise<unknown> {
    const { server } = this
    switch (how) {
      case 'close':
        return server.close()
      case 'connections':
        return server.close({ closeExistingConnections: true })
      case 'force':
        return server.close({ forceAfter: 0 })
      case 'return':
        return server.return()
      case 'dispose':
        return server[Symbol.asyncDispose]()
      case 'signal':
        this.#controller?.abort(new Error('Aborted by the program'))
        return Promise.resolve()
    }
  }

  #noteClosed(): void {
    this.#isClosed = true
    this.#cutOffWaiting()
  }

  // Who waits may be closed at once.
  #cutOffWaiting(): void {
    for (const { isAccepted, down } of this.links) if (!isAccepted) down.cutOff('close', 0)
  }

  #closeFinished(): void {
    law(this.#isClosed, 'resolved although the server is open')
    law(this.isFileGone(), 'resolved although the file of the socket is there')
    this.#isCloseFinished = true
  }

  /** What must hold when everything has ended. */
  checkEnd(): void {
    law(this.server.numConnections === 0, `${this.server.numConnections} slots are left`)
    const untold = this.slots.filter((slot) => slot.untold !== undefined)
    law(untold.length === 0, `${untold.length} failures of handlers were not told`)
    const { signal } = this.#controller as AbortController
    law(getEventListeners(signal, 'abort').length === 0, 'The server left a listener on its signal')
  }
}
