// Runs a program against real sockets, and holds everything that happens against the model.

import { randomUUID } from 'node:crypto'
import { getEventListeners } from 'node:events'
import { existsSync } from 'node:fs'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { setImmediate, setTimeout } from 'node:timers/promises'
import { ConnectError, type Connection, connect, listen, onFile, onPort, Server, toFile, toHostAndPort } from '../../src/index.ts'
import { openDescriptors } from '../helpers/descriptors.ts'
import { type RawServer, rawClient, rawServer, type Target } from '../helpers/raw.ts'
import type { Scope } from '../helpers/scope.ts'
import { Direction } from './direction.ts'
import { LibraryEnd } from './library-end.ts'
import type { Program, Step } from './program.ts'
import { RawEnd } from './raw-end.ts'
import { ServerSide } from './server-side.ts'
import { law, Violation, violated } from './violation.ts'
import { World } from './world.ts'

type End = LibraryEnd | RawEnd

interface DialOptions {
  readonly signal?: AbortSignal
  readonly localAddress?: string | undefined
}

/** Enough for everything a program does: clients that are turned away are another test's matter. */
const BACKLOG = 64
const MAX_LINKS = 6
/** Given to a service that nobody runs any more. */
const CLOSED_PORT = 1

export interface RunOptions {
  /** For unix sockets. */
  readonly directory: string
  /** Milliseconds after which what does not happen never will. */
  readonly patience: number
}

/** Resolves if the program did nothing that the model does not allow. */
export async function runProgram(program: Program, { directory, patience }: RunOptions): Promise<void> {
  const before = sockets().length
  const run = new Run(program, directory, new World(patience))
  try {
    await run.start()
    await run.steps()
    await run.finish()
    await run.release()
    await run.world.until('no socket is left', () => sockets().length <= before)
  } catch (error) {
    const what = error instanceof Violation ? error.message : String((error as Error)?.stack)
    throw new Error(`${what}\n${run.world.record}`, { cause: (error as Error)?.cause })
  } finally {
    await run.release()
  }
}

function sockets(): string[] {
  return [...openDescriptors().values()].filter((target) => target.startsWith('socket:'))
}

// When all microtasks have run.
function tick(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve))
}

class Run {
  readonly world: World
  readonly #program: Program
  readonly #directory: string
  readonly #side: ServerSide
  readonly #ends: End[] = []
  readonly #draining = new Set<End>()
  readonly #closers: (() => unknown)[] = []
  readonly #scope: Scope
  #raw: RawServer | undefined
  #rawLinks = 0
  #isFinishing = false

  constructor(program: Program, directory: string, world: World) {
    this.world = world
    this.#program = program
    this.#directory = directory
    this.#side = new ServerSide(world, program, (end) => this.#add(end))
    this.#scope = {
      defer: (close) => void this.#closers.push(close),
      open: violated.bind(undefined, 'not for use') as never,
      tempDir: () => directory
    }
  }

  get #isTcp(): boolean {
    return this.#program.transport === 'tcp'
  }

  async start(): Promise<void> {
    const { gate, maxConnections, bufferSize, server: kind, served } = this.#program
    const controller = new AbortController()
    const options = { maxConnections, readerBufferSize: bufferSize, backlog: BACKLOG, signal: controller.signal }
    const path = this.#path()
    const where = (this.#isTcp ? onPort(0, { host: '127.0.0.1' }) : onFile(path)) as ReturnType<typeof onFile>
    const onHandlerError = kind === 'callback' ? this.#side.onHandlerError : (kind as 'raise' | 'ignore')
    const asBefore = process.env.IT_TCP_GATE
    if (gate === 'userland') process.env.IT_TCP_GATE = gate
    try {
      const listening =
        kind === 'listen' ? listen(where, options) : Server.create(where, { ...options, onHandlerError }, this.#side.handler as never)
      this.#side.isFileGone = () => this.#isTcp || !existsSync(path)
      this.#side.start((await listening) as Server, controller)
    } finally {
      if (asBefore === undefined) delete process.env.IT_TCP_GATE
      else process.env.IT_TCP_GATE = asBefore
    }
    law(existsSync(path) !== this.#isTcp, 'The server listens, and there is no file')
    for (const by of served) {
      if (kind === 'listen') this.#side.pull('accept', false)
      await this.#connect({ do: 'connect', by, to: 'server', bufferSize })
    }
  }

  async steps(): Promise<void> {
    for (const { step, turns } of this.#program.steps) {
      this.world.note(`${JSON.stringify(step)} + ${turns}`)
      await this.#step(step)
      // What was settled at once is told before the next step. Several writes in one turn go out together, after a tick: none comes between.
      if (step.do === 'write' || step.do === 'flush') for (let i = 0; i < 12; i++) await Promise.resolve()
      else await tick()
      this.#check(false)
      for (let turn = 0; turn < turns; turn++) await this.#turn()
    }
  }

  async #turn(): Promise<void> {
    await setImmediate()
    this.#check(true)
  }

  #check(hasTurned: boolean): void {
    this.world.throwIfFailed()
    this.#side.check(hasTurned)
    for (const end of this.#ends) if (end instanceof LibraryEnd) end.check(hasTurned)
  }

  // Steps -------------------------------------------------------------------------------------------------------------

  async #step(step: Step): Promise<void> {
    switch (step.do) {
      case 'connect':
        await this.#connect(step)
        break
      case 'dialInVain':
        await this.#dialInVain(step.how)
        break
      case 'accept':
        this.#side.pull(step.how, step.signal)
        break
      case 'abortAccept':
        this.#side.abortPull()
        break
      case 'endHandler':
        this.#side.endHandler(step.end, step.how)
        break
      case 'setLimit':
        this.#side.setLimit(step.limit)
        break
      case 'setDropping':
        this.#side.setDropping(step.isDropping)
        break
      case 'closeServer':
        this.#side.close(step.how)
        break
      case 'dribble':
        await this.#dribble(step)
        break
      case 'read':
        await this.#read(step)
        break
      case 'settle':
        await this.#settle()
        break
      case 'turns':
        for (let turn = 0; turn < step.count; turn++) await this.#turn()
        break
      default: {
        const end = this.#ends[step.end % this.#ends.length]
        if (end instanceof LibraryEnd) this.#stepOfLibrary(end, step)
        else if (end !== undefined) this.#stepOfRaw(end, step)
      }
    }
  }

  #stepOfLibrary(end: LibraryEnd, step: Step): void {
    switch (step.do) {
      case 'write':
        end.write(step.size, step.shape)
        break
      case 'flush':
        end.flush()
        break
      case 'pour':
        end.pour(step)
        break
      case 'halfClose':
        end.halfClose()
        break
      case 'close':
        end.close(step.how)
        break
      case 'abort':
      case 'destroy':
        end.abort()
        break
      case 'abortRead':
        end.abortRead()
        break
      case 'leave':
        end.leave()
        break
    }
  }

  #stepOfRaw(end: RawEnd, step: Step): void {
    switch (step.do) {
      case 'write':
        end.write(step.size)
        break
      case 'pour':
        for (const size of step.sizes) end.write(size)
        break
      case 'halfClose':
      case 'close':
        end.halfClose()
        break
      case 'abort':
        end.reset()
        break
      case 'destroy':
        end.destroy()
        break
    }
  }

  async #read({ end: index, requests }: Extract<Step, { do: 'read' }>): Promise<void> {
    const end = this.#ends[index % this.#ends.length]
    if (end instanceof RawEnd) end.toggle()
    if (!(end instanceof LibraryEnd)) return
    for (const request of requests) {
      // One beside one that is pending is enough.
      const wasReading = end.isReading
      void end.read(request)
      if (wasReading) return
      await tick()
    }
  }

  async #dribble({ end: index, size }: Extract<Step, { do: 'dribble' }>): Promise<void> {
    const end = this.#ends[index % this.#ends.length]
    for (let i = 0; i < size && end !== undefined; i++) {
      if (end instanceof LibraryEnd) end.write(1, 'bytes')
      else end.write(1)
      await this.#turn()
    }
  }

  async #settle(): Promise<void> {
    const unsettled = (): string[] => [
      ...(this.#side.isSettled ? [] : ['the server']),
      ...this.#ends.filter((end) => !end.isSettled).map(({ state }) => state)
    ]
    try {
      await this.world.until('what must happen has happened', () => unsettled().length === 0)
    } catch (error) {
      if (unsettled().length > 0) this.world.note(`unsettled: ${unsettled().join('; ')}`)
      throw error
    }
    await this.#turn()
  }

  // Connecting --------------------------------------------------------------------------------------------------------

  #path(): string {
    return join(this.#directory, randomUUID().slice(0, 8))
  }

  get #target(): Target {
    return this.#side.server.listeningOn as Target
  }

  async #connect({ by, to, bufferSize }: Extract<Step, { do: 'connect' }>): Promise<void> {
    if (to === 'raw') {
      await this.#connectToRaw(bufferSize)
      return
    }
    if (this.#side.isClosed) {
      // Somebody else may have the port by now.
      if (this.#side.isCloseFinished && !this.#isTcp) await this.#refused(this.#target)
      return
    }
    if (this.#side.links.length >= MAX_LINKS) return
    const link = this.#side.arrive()
    const directions = { incoming: link.down, outgoing: link.up }
    const name = `client ${link.number}`
    if (by === 'raw') {
      const socket = await rawClient(this.#scope, this.#target)
      link.port = socket.localPort ?? 0
      link.client = new RawEnd(this.world, name, socket, directions)
    } else {
      const connection = await this.#dial(this.#target, bufferSize)
      link.port = connection.localAddress.family === 'unix' ? 0 : connection.localAddress.port
      const { isWatched } = this.#program
      link.client = new LibraryEnd(this.world, name, connection, directions, { bufferSize, isWatched })
    }
    this.#add(link.client)
  }

  async #connectToRaw(bufferSize: number): Promise<void> {
    if (this.#rawLinks >= 2) return
    this.#rawLinks++
    this.#raw ??= await rawServer(this.#scope, this.#isTcp ? undefined : this.#path())
    const connection = await this.#dial(this.#raw.target, bufferSize)
    const socket: Socket = await this.#raw.accept()
    const [up, down] = [new Direction(500_000 * this.#rawLinks, this.#isTcp), new Direction(500_000 * this.#rawLinks + 1000, this.#isTcp)]
    const { isWatched } = this.#program
    const settings = { bufferSize, isWatched }
    this.#add(new LibraryEnd(this.world, `dialler ${this.#rawLinks}`, connection, { incoming: down, outgoing: up }, settings))
    this.#add(new RawEnd(this.world, `foreign end ${this.#rawLinks}`, socket, { incoming: up, outgoing: down }))
  }

  #dial(target: Target, readerBufferSize: number, { signal, localAddress }: DialOptions = {}): Promise<Connection> {
    const bind = localAddress === undefined ? {} : { localAddress }
    const where = (typeof target === 'number' ? toHostAndPort('127.0.0.1', target, bind) : toFile(target)) as ReturnType<typeof toFile>
    return connect(where, { readerBufferSize, timeout: 5_000, ...(signal && { signal }) }) as Promise<Connection>
  }

  async #dialInVain(how: 'aborted' | 'aborted soon' | 'refused'): Promise<void> {
    if (how === 'refused') {
      await this.#refused(this.#isTcp ? CLOSED_PORT : this.#path())
      return
    }
    if (this.#side.isClosed || this.#side.links.length >= MAX_LINKS) return
    const reason = new Error('Aborted by the program')
    const controller = new AbortController()
    // To tell a client that gave up from others takes an address of its own.
    const isSoon = how === 'aborted soon' && this.#isTcp && process.platform === 'linux'
    if (!isSoon) controller.abort(reason)
    const localAddress = isSoon ? `127.0.0.${2 + this.#side.links.length}` : undefined
    const dialling = this.#dial(this.#target, 1000, { signal: controller.signal, localAddress })
    const link = isSoon ? this.#side.arrive(localAddress) : undefined
    void setImmediate().then(() => controller.abort(reason))
    let connection: Connection
    try {
      connection = await dialling
    } catch (error) {
      law(error === reason, 'A dial that was aborted fails of something else', error)
      law(getEventListeners(controller.signal, 'abort').length === 0, 'A dial that was aborted left a listener on its signal')
      // It may have been on its way, and the server may get to see it.
      link?.up.cutOff('close', 0)
      return
    }
    law(link !== undefined, 'A dial that was aborted before is connected')
    law(getEventListeners(controller.signal, 'abort').length === 0, 'A dial left a listener on its signal')
    link.port = connection.localAddress.family === 'unix' ? 0 : connection.localAddress.port
    const settings = { bufferSize: 1000, isWatched: this.#program.isWatched }
    const directions = { incoming: link.down, outgoing: link.up }
    link.client = new LibraryEnd(this.world, `client ${link.number}`, connection, directions, settings)
    this.#add(link.client)
  }

  async #refused(target: Target): Promise<void> {
    let connection: Connection
    try {
      connection = await this.#dial(target, 1000)
    } catch (error) {
      law(error instanceof ConnectError, 'A dial to nobody fails of something else', error)
      return
    }
    await connection.close()
    violated('A dial to nobody is connected')
  }

  #add(end: End): void {
    this.#ends.push(end)
    if (this.#isFinishing) this.#drain(end)
  }

  // The end -----------------------------------------------------------------------------------------------------------

  #drain(end: End): void {
    const drain = async (): Promise<void> => {
      try {
        await end.drain()
        if (end instanceof LibraryEnd) this.#side.endHandlerOf(end)
      } catch (error) {
        this.world.hold(end.name, () => {
          throw error
        })
      } finally {
        this.#draining.delete(end)
      }
    }
    this.#draining.add(end)
    void drain()
  }

  /** Ends all connections in an orderly way, and looks whether everything arrived and nothing is left. */
  async finish(): Promise<void> {
    const { last, server: kind } = this.#program
    this.world.note(`finish: ${last}`)
    if (last === 'shut') this.#side.close('close')
    this.#isFinishing = true
    for (const end of this.#ends) this.#drain(end)
    let isServing = kind === 'listen'
    const serve = async (): Promise<void> => {
      while (isServing && !this.#side.isClosed) {
        if (this.#side.isIdle) this.#side.pull('accept', false)
        await setImmediate()
      }
    }
    const serving = serve()
    const clients = this.#ends.filter((end) => !this.#side.slots.some((slot) => slot.end === end))
    try {
      await this.world.until('all clients are done', () => !clients.some((end) => this.#draining.has(end)))
    } finally {
      isServing = false
      await serving
    }
    this.#side.close('close')
    await this.world.until('all connections are done', () => this.#draining.size === 0)
    await this.world.until('everything has settled', () => this.world.unsettled.length === 0)
    await this.#turn()
    this.#side.checkEnd()
  }

  /** Lets go of everything, whatever the model says. */
  async release(): Promise<void> {
    this.#side.endAllHandlers()
    const release = async (): Promise<void> => {
      await Promise.all(this.#ends.map((end) => end.release()))
      await this.#side.server?.close({ closeExistingConnections: true })
      for (const close of this.#closers.splice(0).reverse()) await close()
    }
    // What is broken may not end at all.
    const givenUp = new AbortController()
    await Promise.race([release(), setTimeout(this.world.patience, undefined, { signal: givenUp.signal }).catch(() => {})])
    givenUp.abort()
  }
}
