// An end of a link that is a connection of the library.

import { getEventListeners } from 'node:events'
import { Uint8ArrayList } from 'uint8arraylist'
import { BusyError, type Connection, ConnectionClosedError, ConnectionResetError } from '../../src/index.ts'
import type { Direction } from './direction.ts'
import type { Program, ReadRequest, Shape, Step } from './program.ts'
import { type Call, call, type Iterators, isDue, judge, judgeFailure, takesSignal, type View } from './reads.ts'
import { law, rejected } from './violation.ts'
import type { World } from './world.ts'

type PourStep = Extract<Step, { do: 'pour' }>

/** A chunk of 128 KiB at most comes on top of what the reader may hold. */
const CHUNK = 131_072
/** Chunks that are looked at again in the end: they are the caller's to keep. */
const KEPT = 50

interface Read {
  readonly request: ReadRequest
  readonly controller: AbortController | undefined
  readonly settled: Promise<void>
  isLeft: boolean
}

interface Pour {
  readonly isAsync: boolean
  /** Whether its source has ended, or was let go. */
  isOver: boolean
  /** Given to the writer, and not yet known to be accepted. */
  tentative: Uint8Array | undefined
}

export class LibraryEnd {
  readonly name: string
  readonly connection: Connection
  readonly incoming: Direction
  readonly outgoing: Direction
  readonly #world: World
  readonly #readerBufferSize: number
  readonly #isWatched: boolean
  readonly #kept: { readonly bytes: Uint8Array; readonly from: number }[] = []
  #iterators: Iterators
  #position = 0
  #read: Read | undefined
  #pour: Pour | undefined
  readonly #poured: Promise<void>[] = []
  #openSources = 0
  #written = 0
  #isReadingAhead = false
  #told: 'end' | 'reset' | undefined
  #hasEnded = false
  #own: 'open' | 'closed' | 'aborted' | 'vague' = 'open'
  #isReleased = false
  #lastError: unknown

  constructor(
    world: World,
    name: string,
    connection: Connection,
    directions: { incoming: Direction; outgoing: Direction },
    settings: { bufferSize: number; isWatched: boolean }
  ) {
    this.#world = world
    this.name = name
    this.connection = connection
    this.incoming = directions.incoming
    this.outgoing = directions.outgoing
    this.#readerBufferSize = settings.bufferSize
    this.#isWatched = settings.isWatched
    this.#iterators = { chunks: connection.reader[Symbol.asyncIterator]() }
    void world.track(`${name} closed`, connection.closed, () => this.#released(), rejected)
    if (settings.isWatched) {
      law(!connection.signal.aborted, `${name} starts with an aborted signal`)
      void world.track(`${name} ended`, connection.reader.ended, () => this.#ended(), rejected)
    }
  }

  /** Whether the descriptor is closed. */
  get isReleased(): boolean {
    return this.#isReleased
  }

  get isOpen(): boolean {
    return this.#own === 'open'
  }

  get told(): 'end' | 'reset' | undefined {
    return this.#told
  }

  /** Whether a read is pending. */
  get isReading(): boolean {
    return this.#read !== undefined
  }

  /** The last failure of a read that the peer brought about. */
  get lastError(): unknown {
    return this.#lastError
  }

  /** Checks what must hold at any time; `hasTurned` if the event loop has turned since the last step. */
  check(hasTurned: boolean): void {
    const { reader, writer } = this.#sides()
    const signal = this.#isWatched ? this.connection.signal : undefined
    const { bytesRead, bytesAvailable } = reader
    law(bytesRead <= this.incoming.length + this.incomingSlack, `${this.name} has received ${bytesRead} of ${this.incoming.length} bytes`)
    if (this.#own === 'open' && this.#read?.request.kind !== 'discard') {
      law(
        bytesRead - bytesAvailable === this.#position,
        `${this.name} has ${bytesRead} bytes of which ${bytesAvailable} are left, and gave ${this.#position}`
      )
    }
    if (!this.#isReadingAhead) {
      law(bytesAvailable < this.#readerBufferSize + CHUNK, `${this.name} holds ${bytesAvailable} bytes that nobody reads`)
    }
    const accepted = writer.bytesWritten + writer.bytesPending
    const tentative = this.#pour?.tentative?.byteLength ?? 0
    law(
      accepted === this.outgoing.length || accepted === this.outgoing.length - tentative,
      `${this.name} has accepted ${accepted} of ${this.outgoing.length} bytes`
    )
    law(writer.bytesWritten >= this.#written, `${this.name} had written ${this.#written} bytes, and now ${writer.bytesWritten}`)
    this.#written = writer.bytesWritten
    if (hasTurned && this.#own !== 'open' && this.#own !== 'vague') law(writer.isClosed, `${this.name} is closed, and its writer is not`)
    if (signal !== undefined) law(signal.aborted === this.#isReleased, `${this.name}: signal.aborted is ${signal.aborted}`)
    if (this.#isReleased) law(this.connection.socket.destroyed, `${this.name} is closed, and its socket is not`)
  }

  /** What the peer may have sent beyond what the model knows, set by the owner of the link. */
  incomingSlack = 0

  #sides(): Pick<Connection, 'reader' | 'writer'> {
    return this.connection
  }

  // Reading -----------------------------------------------------------------------------------------------------------

  read(request: ReadRequest): Promise<void> {
    const isBusy = this.#read !== undefined
    const wasOwn = this.#own
    const controller = request.signal !== 'none' && takesSignal(request.kind) ? new AbortController() : undefined
    const abortReason = new Error('Aborted by the program')
    if (request.signal === 'aborted') controller?.abort(abortReason)
    const signal = controller?.signal
    const before = this.#position
    if (request.kind !== 'next' && request.kind !== 'read' && request.kind !== 'readInto' && request.kind !== 'discard') {
      this.#isReadingAhead = true
    }
    const started: Call = call(this.connection.reader, this.#iterators, request, signal)
    const read: { isLeft: boolean } = { isLeft: false }
    const settled = this.#world.track(
      `${this.name} ${request.kind}`,
      started.promise,
      (result) => {
        this.#settled(read, signal)
        law(!isBusy, 'gave something while another read was pending')
        law(request.signal !== 'aborted' || signal === undefined, 'gave something although its signal was aborted')
        law(wasOwn === 'open' || wasOwn === 'vague', 'gave something after the connection was closed')
        if (read.isLeft) {
          law((result as IteratorResult<unknown>).done === true, 'gave something after its iterator was left')
          return
        }
        const taken = judge(request, started, result, this.#view())
        this.#keep(result, before)
        this.#position += taken
      },
      (error) => {
        this.#settled(read, signal)
        this.#failed(request, error, { isBusy, wasOwn, signal })
      }
    )
    if (!isBusy) this.#read = Object.assign(read, { request, controller, settled })
    return settled
  }

  #settled(read: { isLeft: boolean }, signal: AbortSignal | undefined): void {
    if (this.#read === read) this.#read = undefined
    if (signal !== undefined) law(!hasListeners(signal), 'left a listener on its signal')
  }

  #failed(
    request: ReadRequest,
    error: unknown,
    { isBusy, wasOwn, signal }: { isBusy: boolean; wasOwn: string; signal: AbortSignal | undefined }
  ): void {
    if (signal?.aborted === true && error === signal.reason) {
      // What discard() has thrown away is gone.
      if (request.kind === 'discard' && !isBusy) this.#position = this.connection.reader.bytesRead - this.connection.reader.bytesAvailable
      return
    }
    if (isBusy) {
      law(error instanceof BusyError, 'failed of something else than the other read', error)
      return
    }
    if (error instanceof ConnectionClosedError) {
      law(this.#own !== 'open', 'was told that the connection is closed, and it is not', error)
      return
    }
    law(wasOwn === 'open' || wasOwn === 'vague', 'was not told that the connection is closed', error)
    if (error instanceof ConnectionResetError) {
      this.#lastError = error
      law(this.#told !== 'end', 'was told of a reset after an end', error)
      const { bytesRead } = this.connection.reader
      law(
        this.incoming.mayBreak(bytesRead),
        `was told of a reset after ${bytesRead} of ${this.incoming.length} bytes, ${this.incoming.state}`,
        error
      )
      if (request.kind === 'discard') this.#position = bytesRead - this.connection.reader.bytesAvailable
      this.#told = 'reset'
      return
    }
    law(judgeFailure(request, error, this.#view()), `failed of ${String(error)}`, error)
    this.#lastError = error
  }

  #view(): View {
    const { bytesRead, bytesAvailable } = this.connection.reader
    const position = this.#position
    return {
      rest: this.incoming.from(position).subarray(0, bytesRead - position),
      available: bytesAvailable,
      endsAfter: (taken) => {
        law(this.#told !== 'reset', 'was told of an end after a reset')
        const end = position + taken
        law(this.incoming.mayEnd(end), () => `was told of an end after ${end} of ${this.incoming.length} bytes, ${this.incoming.state}`)
        this.#told = 'end'
      }
    }
  }

  #keep(result: unknown, from: number): void {
    const bytes = result instanceof Uint8Array ? result : (result as IteratorResult<unknown> | null)?.value
    if (bytes instanceof Uint8Array && this.#kept.length < KEPT) this.#kept.push({ bytes, from })
  }

  /** Looks again at chunks that were given: nobody may have written over them. */
  checkKept(): void {
    for (const { bytes, from } of this.#kept) {
      const sent = this.incoming.from(from).subarray(0, bytes.byteLength)
      law(Buffer.compare(sent, bytes) === 0, `${this.name}: a chunk changed after it was given`)
    }
  }

  /** Aborts the signal of the pending read. */
  abortRead(): void {
    const { controller, request } = this.#read ?? {}
    if (controller === undefined || request === undefined) return
    controller.abort(new Error('Aborted by the program'))
  }

  /** Calls `return()` of the iterator of chunks. */
  leave(): void {
    if (this.#read?.request.kind === 'next') this.#read.isLeft = true
    const { chunks } = this.#iterators
    this.#iterators = { chunks: this.connection.reader[Symbol.asyncIterator]() }
    const left = chunks.return?.()
    law(left !== undefined, `${this.name}: an iterator cannot be left`)
    void this.#world.track(`${this.name} return`, left, ({ done }) => law(done === true, 'return() is not done'), rejected)
  }

  /** How far it is, in a few words. */
  get state(): string {
    const { bytesRead, bytesAvailable } = this.connection.reader
    const reading = this.#read === undefined ? '' : `, ${this.#read.request.kind} is pending`
    return `${this.name} has ${bytesRead} of ${this.incoming.length} bytes, ${bytesAvailable} of them to be read${reading}`
  }

  /** Whether all that must have happened by itself has happened. */
  get isSettled(): boolean {
    if (this.#own !== 'open' || this.#told !== undefined || this.incoming.cut !== 'no') return true
    const { reader } = this.connection
    const hasAll = reader.bytesRead === this.incoming.length
    const isFull = reader.bytesAvailable >= this.#readerBufferSize
    const isDueNow = this.#read !== undefined && isDue(this.#read.request, this.incoming.from(this.#position), this.incoming.isFinished)
    if (isDueNow || !(hasAll || isFull)) return false
    return isFull || !(this.#isWatched && hasAll && this.incoming.isFinished) || this.#hasEnded
  }

  #ended(): void {
    this.#hasEnded = true
    const { bytesRead } = this.connection.reader
    const isOver = this.incoming.mayEnd(bytesRead) || this.incoming.mayBreak(bytesRead)
    law(isOver || this.#own !== 'open', `ended after ${bytesRead} of ${this.incoming.length} bytes, ${this.incoming.state}`)
  }

  // Writing -----------------------------------------------------------------------------------------------------------

  write(size: number, shape: Shape): void {
    // Who comes first would be a matter of microtasks.
    if (this.#pour?.isAsync === true && !this.#pour.isOver) return
    const { bytes, data } = shaped(this.outgoing.next(size), shape)
    this.#world.hold(`${this.name} write`, () => {
      try {
        this.connection.writer.write(data)
      } catch (error) {
        this.#writeRefused(error)
        return
      }
      law(this.#own === 'open' && !this.outgoing.isFinished, 'did not throw although the writer is closed')
      law(this.#told !== 'reset', 'did not throw although the connection broke')
      this.outgoing.sent(bytes)
    })
  }

  // Why writing, flushing or half-closing may fail.
  #writeRefused(error: unknown): void {
    if (error instanceof ConnectionClosedError) {
      law(this.#own !== 'open' || this.outgoing.isFinished, 'was told that the writer is closed, and it is not', error)
      return
    }
    law(error instanceof ConnectionResetError, `failed of ${String(error)}`, error)
    law(this.incoming.cut !== 'no' || this.incoming.mayBreak(Number.POSITIVE_INFINITY), 'was told of a reset, and there was none', error)
  }

  flush(): void {
    const mark = this.connection.writer.bytesWritten + this.connection.writer.bytesPending
    void this.#world.track(
      `${this.name} flushed`,
      this.connection.writer.flushed(),
      () => {
        const { bytesWritten } = this.connection.writer
        law(bytesWritten >= mark, `${bytesWritten} of ${mark} bytes are with the system`)
      },
      (error) => {
        law(!(error instanceof ConnectionClosedError) || this.#own !== 'open', 'was told of a close', error)
        this.#writeRefused(error)
      }
    )
  }

  halfClose(): void {
    if (this.#own === 'open') this.outgoing.isFinished = true
    const { writer } = this.connection
    const promise = writer.close()
    law(writer.isClosed, `${this.name}: the writer is not closed after close()`)
    law(promise === writer.close(), `${this.name}: close() of the writer gives several promises`)
    void this.#world.track(
      `${this.name} writer.close`,
      promise,
      () => law(this.#own === 'aborted' || writer.bytesPending === 0, `${writer.bytesPending} bytes wait behind the end`),
      (error) => this.#writeRefused(error)
    )
  }

  pour({ how, source, sizes, ending }: PourStep): void {
    const { writer } = this.connection
    const isBusy = this.#pour?.isOver === false
    const wasClosed = this.#own !== 'open' || this.outgoing.isFinished
    const failure = new Error('The source failed')
    const pour: Pour = { isAsync: source === 'async', isOver: false, tentative: undefined }
    const end = (): void => {
      pour.isOver = true
      if (ending === 'throw') {
        // The writer aborts as soon as it hears of it.
        if (this.#own === 'open') this.#aborted()
        throw failure
      }
      if (how === 'sink' && this.#own === 'open') this.outgoing.isFinished = true
    }
    const chunks = source === 'sync' ? this.#chunks(pour, sizes, end) : this.#chunksLater(pour, sizes, end)
    if (!isBusy) this.#pour = pour
    const promise = how === 'sink' ? writer(chunks) : writer.writeAll(chunks)
    const settled = this.#world.track(
      `${this.name} ${how}`,
      promise,
      () => {
        law(!isBusy && !wasClosed, 'ended well beside another one or after the end')
        law(ending === 'done' && pour.isOver, 'ended well although its source failed')
        law(how === 'writeAll' || (writer.isClosed && writer.bytesPending === 0), 'ended before everything was flushed and closed')
      },
      (error) => {
        this.#stopped(pour)
        if (error === failure) law(ending === 'throw', 'failed of its source, which did not fail')
        else if (error instanceof BusyError) law(isBusy, 'found another sink at work, and there is none', error)
        else this.#writeRefused(error)
      }
    )
    this.#poured.push(settled)
  }

  // What was on its way when the writer was closed has been accepted or not: only now it can be told.
  #stopped(pour: Pour): void {
    pour.isOver = true
    const { tentative } = pour
    pour.tentative = undefined
    const { bytesWritten, bytesPending } = this.connection.writer
    if (tentative !== undefined && bytesWritten + bytesPending < this.outgoing.length) this.outgoing.takeBack(tentative.byteLength)
  }

  // A synchronous source's chunk is written before anything else can happen.
  *#chunks(pour: Pour, sizes: readonly number[], end: () => void): Generator<Uint8Array> {
    this.#openSources++
    try {
      for (const size of sizes) {
        const bytes = this.outgoing.next(size)
        this.outgoing.sent(bytes)
        yield bytes
      }
      end()
    } finally {
      pour.isOver = true
      this.#openSources--
    }
  }

  async *#chunksLater(pour: Pour, sizes: readonly number[], end: () => void): AsyncGenerator<Uint8Array> {
    this.#openSources++
    try {
      for (const size of sizes) {
        await Promise.resolve()
        if (this.#own !== 'open' || this.outgoing.isFinished) return
        const bytes = this.outgoing.next(size)
        this.outgoing.sent(bytes)
        pour.tentative = bytes
        yield bytes
        pour.tentative = undefined
      }
      end()
    } finally {
      pour.isOver = true
      this.#openSources--
    }
  }

  // Closing -----------------------------------------------------------------------------------------------------------

  close(how: 'close' | 'dispose' | 'force'): void {
    const wasAborted = this.#own === 'aborted'
    this.noteClosed(how === 'force')
    const options = how === 'force' ? { forceAfter: 0 } : {}
    const promise = how === 'dispose' ? Promise.resolve(this.connection[Symbol.asyncDispose]()) : this.connection.close(options)
    void this.#world.track(
      `${this.name} ${how}`,
      promise,
      () => {
        law(this.connection.socket.destroyed, 'resolved before the descriptor was closed')
        law(
          how === 'dispose' || this.connection.writer.bytesPending === 0,
          `resolved although ${this.connection.writer.bytesPending} bytes were not handed over`
        )
      },
      (error) => {
        law(this.connection.writer.bytesPending > 0, 'failed although all was handed over', error)
        const isOwn = wasAborted || this.#own === 'aborted' || this.outgoing.cut === 'perhaps'
        if (error instanceof ConnectionClosedError) law(isOwn, 'failed of an abort, and there was none', error)
        else this.#writeRefused(error)
      }
    )
  }

  /** Notes that the connection is closed, by the program or by the server. */
  noteClosed(isForced = false): void {
    if (this.#own === 'aborted') return
    if (isForced && !this.#isReleased) this.outgoing.cutOff('perhaps', this.connection.writer.bytesWritten)
    this.#own = 'closed'
    this.outgoing.close()
  }

  abort(): void {
    this.#aborted()
    this.connection.abort(new Error('Aborted by the program'))
  }

  /** Notes that the connection is aborted, by the program, the server or a failed source. */
  noteAborted(): void {
    this.#aborted()
  }

  #aborted(): void {
    if (this.connection.socket.destroyed) {
      // It has no effect on a connection that is closed; on one that is about to be it may have some.
      if (!this.#isReleased && this.#own === 'open') this.#own = 'vague'
      return
    }
    this.outgoing.cutOff(this.outgoing.isTcp ? 'reset' : 'close', this.connection.writer.bytesWritten)
    this.#own = 'aborted'
  }

  #released(): void {
    this.#isReleased = true
    const isOver = this.#told !== undefined || this.incoming.isFinished || this.incoming.cut !== 'no' || this.incoming.mayBreak(Infinity)
    law(this.#own !== 'open' || isOver, 'closed although nobody closed it')
  }

  // The end -----------------------------------------------------------------------------------------------------------

  /** Reads to the end, ends, and waits until the connection is closed. */
  async drain(): Promise<void> {
    await Promise.all([this.#drainReader(), this.#endWriter()])
    await this.#world.until(`${this.name} is closed`, () => this.#isReleased)
    this.checkKept()
    await this.#world.until(`${this.name} has let go of its sources`, () => this.#openSources === 0)
    if (this.isOpen) law(this.#told !== undefined, `${this.name} is closed, and its reader was not told why`)
  }

  async #drainReader(): Promise<void> {
    const request: ReadRequest = { kind: 'read', length: 0, maxLength: 0, delimiter: '\n', signal: 'none' }
    for (;;) {
      if (this.#read !== undefined) await this.#read.settled
      this.#world.throwIfFailed()
      if (this.#own !== 'open' || this.#told !== undefined) break
      await this.read(request)
    }
    // An end is told again and again.
    if (this.#told === 'end' && this.#own === 'open') await this.read(request)
  }

  async #endWriter(): Promise<void> {
    await Promise.all(this.#poured)
    if (this.#own === 'open' && !this.outgoing.isFinished) this.halfClose()
  }

  /** Lets go of the connection, whatever the model says. */
  async release(): Promise<void> {
    this.connection.abort()
    await this.connection.closed
  }
}

/** What an end of the library starts with. */
export type Settings = Pick<Program, 'bufferSize' | 'isWatched'>

function shaped(bytes: Buffer, shape: Shape): { bytes: Uint8Array; data: Uint8Array | Uint8ArrayList | string } {
  switch (shape) {
    case 'bytes':
      return { bytes, data: bytes }
    case 'latin1':
      return { bytes, data: bytes.toString('latin1') }
    case 'utf8': {
      const text = `${bytes.toString('latin1')}é€😀`
      return { bytes: Buffer.from(text), data: text }
    }
    case 'list': {
      const middle = bytes.byteLength >> 1
      return { bytes, data: new Uint8ArrayList(bytes.subarray(0, middle), bytes.subarray(middle)) }
    }
  }
}

function hasListeners(signal: AbortSignal): boolean {
  return getEventListeners(signal, 'abort').length > 0
}
